//! The servers on both sides of what is measured: an old one behind it, and peers before it. They
//! negotiate as such servers do and then hand over the connection.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use rustls::{ClientConfig, ServerConfig};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    conn::Conn,
    names::{self, LEGACY},
    pki::Identity,
};

/// TLS of the peers.
#[derive(Clone)]
pub(crate) struct PeerTls {
    client: Arc<ClientConfig>,
    /// The same with a certificate that does not prove who it is.
    stranger: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// How a peer comes, and how it is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    /// How it proves its domain.
    pub(crate) proof: Proof,
    /// TLS from the first byte (XEP-0368), without STARTTLS.
    pub(crate) direct_tls: bool,
    /// The stream that it opens takes stanzas too (XEP-0288).
    pub(crate) bidi: bool,
}

/// How a peer proves its domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// By its certificate.
    External,
    /// By its authoritative server, which is asked.
    Dialback,
}

/// What a server does with connections.
#[derive(Clone)]
pub(crate) enum Role {
    /// The legacy server.
    Legacy,
    /// The server of all peers.
    Peer(PeerTls),
    /// Whatever stands behind a relay.
    Plain,
    /// The same, with TLS.
    Tls(PeerTls),
}

/// A server that accepts streams; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The streams that may carry stanzas.
    pub(crate) streams: mpsc::UnboundedReceiver<Conn>,
    _tasks: JoinSet<()>,
}

/// What the listening sockets hold back for 10,000 peers that come at once.
const BACKLOG: u32 = 4096;

impl Way {
    /// STARTTLS and a certificate, one direction.
    pub(crate) const USUAL: Self = Self { proof: Proof::External, direct_tls: false, bidi: false };
}

impl PeerTls {
    pub(crate) fn new(identity: &Identity, stranger: &Identity) -> anyhow::Result<Self> {
        let (client, stranger) = (identity.client()?, stranger.client()?);
        Ok(Self { client, stranger, server: identity.server()? })
    }

    /// A connection to a TLS relay.
    pub(crate) async fn connect(&self, to: SocketAddr) -> anyhow::Result<Conn> {
        let mut conn = Conn::open(to).await?;
        conn.connect_tls(&self.client, LEGACY).await?;
        Ok(conn)
    }

    /// Opens a peer's stream to the gate, which then may carry its stanzas to the legacy server.
    pub(crate) async fn open(
        &self,
        gate: SocketAddr,
        peer: usize,
        way: Way,
    ) -> anyhow::Result<Conn> {
        let from = names::peer(peer);
        let header = header(&from, LEGACY, "");
        let mut conn = Conn::open(gate).await?;
        if !way.direct_tls {
            conn.say(&header).await?;
            conn.until("</stream:features>").await?;
            conn.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
            conn.until("<proceed").await?;
            conn.until(">").await?;
        }
        let client = match way.proof {
            Proof::External => &self.client,
            Proof::Dialback => &self.stranger,
        };
        conn.connect_tls(client, LEGACY).await?;
        conn.say(&header).await?;
        let features = conn.until("</stream:features>").await?;
        match way.proof {
            Proof::External if features.contains("EXTERNAL") => {
                if way.bidi {
                    conn.say("<bidi xmlns='urn:xmpp:bidi'/>").await?;
                }
                conn.say(
                    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
                )
                .await?;
                conn.until("<success").await?;
                conn.until(">").await?;
                conn.say(&header).await?;
                conn.until("<stream:features").await?;
                if !conn.until(">").await?.ends_with("/>") {
                    conn.until("</stream:features>").await?;
                }
            }
            Proof::External => bail!("{from} is offered no EXTERNAL: {features}"),
            Proof::Dialback => request(&mut conn, &from, LEGACY).await?,
        }
        Ok(conn)
    }
}

/// Opens the legacy server's stream to the gate, which then may carry stanzas to a peer.
pub(crate) async fn open_legacy(gate: SocketAddr, peer: usize) -> anyhow::Result<Conn> {
    open_legacy_to(gate, &names::peer(peer)).await
}

/// The same by the peer's domain.
pub(crate) async fn open_legacy_to(gate: SocketAddr, to: &str) -> anyhow::Result<Conn> {
    let mut conn = Conn::open(gate).await?;
    conn.say(header(LEGACY, to, "")).await?;
    conn.until("</stream:features>").await?;
    request(&mut conn, LEGACY, to).await?;
    Ok(conn)
}

/// A further peer's pair on a stream to the gate, whose certificate proves it.
pub(crate) async fn join(conn: &mut Conn, peer: usize) -> anyhow::Result<()> {
    request(conn, &names::peer(peer), LEGACY).await
}

/// Asks for a pair by dialback (XEP-0220 §2.1.1).
async fn request(conn: &mut Conn, from: &str, to: &str) -> anyhow::Result<()> {
    conn.say(format!("<db:result from='{from}' to='{to}'>6b6579</db:result>")).await?;
    conn.until("<db:result").await?;
    let answer = conn.until(">").await?;
    if attribute(&answer, "type") != Some("valid") {
        bail!("from {from} to {to}: {answer}");
    }
    if !answer.ends_with("/>") {
        conn.until("</db:result>").await?;
    }
    Ok(())
}

impl Server {
    /// Begins to accept on loopback.
    pub(crate) fn start(role: Role) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (sender, streams) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, role, sender));
        Ok(Self { address, streams, _tasks: tasks })
    }
}

async fn accept(listener: TcpListener, role: Role, streams: mpsc::UnboundedSender<Conn>) {
    let mut negotiations = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (role, streams) = (role.clone(), streams.clone());
        negotiations.spawn(async move {
            let Ok(mut conn) = Conn::new(socket) else { return };
            let outcome = match &role {
                Role::Legacy => legacy(&mut conn).await,
                Role::Peer(tls) => peer(&mut conn, tls).await,
                Role::Plain => Ok(()),
                Role::Tls(tls) => conn.accept_tls(&tls.server).await,
            };
            // What did not come about is missed where it is waited for: questions end like this.
            if outcome.is_ok() {
                let _ = streams.send(conn);
            }
        });
        while negotiations.try_join_next().is_some() {}
    }
}

/// The legacy server accepts: dialback in the clear.
async fn legacy(conn: &mut Conn) -> anyhow::Result<()> {
    answer_header(conn, DIALBACK).await?;
    dialback(conn).await
}

/// A peer accepts: TLS at once or STARTTLS, then EXTERNAL or dialback.
async fn peer(conn: &mut Conn, tls: &PeerTls) -> anyhow::Result<()> {
    if !conn.begins_with_tls().await? {
        let features = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
        answer_header(conn, features).await?;
        conn.until("<starttls").await?;
        conn.until(">").await?;
        conn.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
    }
    conn.accept_tls(&tls.server).await?;
    let external = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>EXTERNAL</mechanism></mechanisms>";
    answer_header(conn, &format!("{external}{DIALBACK}")).await?;
    if next_is(conn, "<auth").await? {
        conn.until("</auth>").await?;
        conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await?;
        return answer_header(conn, DIALBACK).await;
    }
    dialback(conn).await
}

/// Answers a stream header with ours and features.
async fn answer_header(conn: &mut Conn, features: &str) -> anyhow::Result<()> {
    conn.until("<stream:stream").await?;
    let theirs = conn.until(">").await?;
    let (from, to) = attribute(&theirs, "to").zip(attribute(&theirs, "from")).context("header")?;
    let ours = header(from, to, " id='1d5a0b5f5c0d4ae89a1f'");
    Ok(conn.say(format!("{ours}<stream:features>{features}</stream:features>")).await?)
}

/// Calls valid what is presented or asked, until a stanza may come.
async fn dialback(conn: &mut Conn) -> anyhow::Result<()> {
    loop {
        let is_result = next_is(conn, "<db:result").await?;
        let element = conn.until(if is_result { "</db:result>" } else { "</db:verify>" }).await?;
        let pair = attribute(&element, "to").zip(attribute(&element, "from"));
        let (from, to) = pair.context("no domain pair")?;
        if is_result {
            conn.say(format!("<db:result from='{from}' to='{to}' type='valid'/>")).await?;
            return Ok(());
        }
        let id = attribute(&element, "id").context("no id")?;
        conn.say(format!("<db:verify from='{from}' to='{to}' id='{id}' type='valid'/>")).await?;
    }
}

/// Whether this comes next.
async fn next_is(conn: &mut Conn, pattern: &str) -> anyhow::Result<bool> {
    while conn.input.len() < pattern.len() {
        conn.read().await?;
    }
    Ok(conn.input.starts_with(pattern.as_bytes()))
}

const DIALBACK: &str = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";

fn header(from: &str, to: &str, more: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
         from='{from}' to='{to}' version='1.0'{more}>"
    )
}

/// The value of an attribute in the first tag that has it.
pub(crate) fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(&format!(" {name}="))? + name.len() + 2;
    let quote = text.get(at..)?.chars().next()?;
    text.get(at + 1..)?.split(quote).next()
}
