//! A peer in the hands of a test: as client of the gate, and as server.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ServerConfig, version::TLS12};
use tokio::net::{TcpListener, TcpSocket};

use super::{Conn, Identity, Service, World, soon};

/// A stream header as peers send it.
pub(crate) fn header(from: &str, to: &str) -> String {
    header_with(&format!("from='{from}' to='{to}' version='1.0'"))
}

/// A stream header with these attributes beside the declarations.
pub(crate) fn header_with(attributes: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
         {attributes}>"
    )
}

pub(crate) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(crate) const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(crate) const EXTERNAL: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
pub(crate) const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";
pub(crate) const FEATURES_END: &str = "</stream:features>";

impl World {
    /// A connection to the gate's public port.
    pub(crate) async fn connect(&self) -> Conn {
        Conn::open(self.public(), "127.0.0.1").await
    }

    /// A stream in the clear, features taken.
    pub(crate) async fn clear(&self, from: &str) -> Conn {
        let mut conn = self.connect().await;
        conn.say(header(from, "old.test")).await;
        conn.until(FEATURES_END).await;
        conn
    }

    /// A connection with TLS, nothing said on it.
    pub(crate) async fn secured(&self, identity: Option<&Identity>) -> Conn {
        self.secured_from("127.0.0.1", identity).await
    }

    /// The same from a loopback address of one's choice.
    pub(crate) async fn secured_from(&self, address: &str, identity: Option<&Identity>) -> Conn {
        let mut conn = Conn::open(self.public(), address).await;
        conn.say(header("anybody.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say(STARTTLS).await;
        conn.until(PROCEED).await;
        conn.connect_tls(self.authority.client(identity, &[]), "old.test").await.unwrap();
        conn
    }

    /// A stream with TLS and a certificate that proves `from`, features taken.
    pub(crate) async fn proven(&self, from: &str) -> Conn {
        let mut conn = self.secured(Some(&self.authority.issue(&[from]))).await;
        conn.say(header(from, "old.test")).await;
        assert!(conn.until(FEATURES_END).await.contains("EXTERNAL"));
        conn
    }

    /// A stream with TLS and no certificate, features taken; and its id.
    pub(crate) async fn unproven(&self, from: &str) -> (Conn, String) {
        let mut conn = self.secured(None).await;
        conn.say(header(from, "old.test")).await;
        let features = conn.until(FEATURES_END).await;
        assert!(!features.contains("EXTERNAL"), "{features}");
        (conn, super::attribute(&features, "id"))
    }

    /// A stream that may carry stanzas from `from` to `old.test`, by SASL EXTERNAL.
    pub(crate) async fn authenticated(&self, from: &str) -> Conn {
        self.authenticated_with(&header(from, "old.test"), from).await
    }

    /// The same with this header after authentication.
    pub(crate) async fn authenticated_with(&self, header: &str, from: &str) -> Conn {
        let mut conn = self.proven(from).await;
        authenticate(&mut conn, header).await;
        conn
    }

    /// A stream that may carry stanzas from `from` to `old.test` and back (XEP-0288), by SASL EXTERNAL.
    /// Nothing was said on it yet.
    pub(crate) async fn authenticated_both_ways(&self, from: &str) -> Conn {
        let mut conn = self.proven(from).await;
        conn.say(BIDI).await;
        authenticate(&mut conn, &header(from, "old.test")).await;
        conn
    }

    /// A server of `domain` that does what the test says.
    pub(crate) async fn host(&self, domain: &str) -> Host {
        let host = Host::bind(domain, self.authority.issue(&[domain]));
        self.dns.publish(domain, Service::StartTls, &[host.address]);
        host
    }
}

/// By SASL EXTERNAL, with this header after it; features taken.
async fn authenticate(conn: &mut Conn, header: &str) {
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header).await;
    conn.until(FEATURES_END).await;
}

/// A peer's server, in the hands of a test.
pub(crate) struct Host {
    pub(crate) domain: String,
    pub(crate) identity: Identity,
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    is_old: bool,
}

impl Host {
    pub(crate) fn bind(domain: &str, identity: Identity) -> Self {
        Self::bind_at("127.0.0.1:0".parse().unwrap(), domain, identity)
    }

    /// The same at an address of one's choice.
    pub(crate) fn bind_at(address: SocketAddr, domain: &str, identity: Identity) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        // what the gate writes soon waits in the gate
        socket.set_recv_buffer_size(32 << 10).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        Self { domain: domain.to_owned(), identity, address, listener, is_old: false }
    }

    /// The same with TLS 1.2.
    pub(crate) fn with_tls12(self) -> Self {
        Self { is_old: true, ..self }
    }

    fn tls(&self) -> Arc<ServerConfig> {
        if !self.is_old {
            return self.identity.server();
        }
        let config = ServerConfig::builder_with_protocol_versions(&[&TLS12]).with_no_client_auth();
        let config = config.with_single_cert(self.identity.chain(), self.identity.private_key());
        Arc::new(config.unwrap())
    }

    /// The gate connects.
    pub(crate) async fn accept(&self) -> Conn {
        let (socket, _) = soon("a connection", self.listener.accept()).await.unwrap();
        Conn::new(socket)
    }

    /// Answers a stream header.
    pub(crate) async fn greet(&self, conn: &mut Conn) -> String {
        let theirs = conn.until("version='1.0'>").await;
        let from = &self.domain;
        conn.say(header_with(&format!("from='{from}' to='old.test' id='i1' version='1.0'"))).await;
        theirs
    }

    /// The gate has asked for TLS.
    pub(crate) async fn accept_starttls(&self) -> Conn {
        let mut conn = self.accept().await;
        self.greet(&mut conn).await;
        conn.say("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
            .await;
        conn.until(STARTTLS).await;
        conn
    }

    /// The same, however long it takes.
    pub(super) async fn accept_any(&self) -> Conn {
        Conn::new(self.listener.accept().await.unwrap().0)
    }

    /// On this connection, the gate has sent its header behind TLS and got ours.
    pub(super) async fn secure(&self, mut conn: Conn) -> Conn {
        self.greet(&mut conn).await;
        conn.say("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
            .await;
        conn.until(STARTTLS).await;
        conn.say(PROCEED).await;
        conn.accept_tls(self.tls()).await.unwrap();
        self.greet(&mut conn).await;
        conn
    }

    /// TLS is up, and nothing said on it.
    pub(crate) async fn accept_secured(&self) -> Conn {
        let mut conn = self.accept_starttls().await;
        conn.say(PROCEED).await;
        conn.accept_tls(self.tls()).await.unwrap();
        conn
    }

    /// The gate has got these features behind TLS.
    pub(crate) async fn accept_offered(&self, features: &str) -> Conn {
        let mut conn = self.accept_secured().await;
        self.greet(&mut conn).await;
        conn.say(format!("<stream:features>{features}</stream:features>")).await;
        conn
    }

    /// The gate has got these features and may send stanzas, by SASL EXTERNAL. What it said until
    /// then behind the features.
    pub(crate) async fn accept_with(&self, features: &str) -> (Conn, String) {
        let mut conn = self.accept_offered(features).await;
        let said = conn.until("</auth>").await;
        conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        self.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        (conn, said)
    }

    /// The gate has made no connection that was not accepted.
    pub(crate) async fn nobody_waits(&self) {
        let last = Conn::open(self.address, "127.0.0.1").await;
        let (_, from) = soon("our own connection", self.listener.accept()).await.unwrap();
        assert_eq!(from, last.local_address(), "another connection");
    }

    /// The gate has asked for SASL EXTERNAL.
    pub(crate) async fn accept_auth(&self) -> Conn {
        let mut conn = self.accept_secured().await;
        self.greet(&mut conn).await;
        conn.say(MECHANISMS).await;
        conn.until("</auth>").await;
        conn
    }

    /// The gate has sent a dialback request; the key is in what it said.
    pub(crate) async fn accept_request(&self) -> (Conn, String) {
        let mut conn = self.accept_secured().await;
        self.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        let request = conn.until("</db:result>").await;
        let key = request.trim_end_matches("</db:result>").rsplit('>').next().unwrap().to_owned();
        (conn, key)
    }

    /// The gate may send stanzas, by SASL EXTERNAL.
    pub(crate) async fn accept_open(&self) -> Conn {
        let mut conn = self.accept_auth().await;
        conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        self.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        conn
    }
}

pub(crate) const MECHANISMS: &str = "<stream:features><mechanisms \
    xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
    </stream:features>";
