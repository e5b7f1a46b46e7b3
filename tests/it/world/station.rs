//! Honest servers: an old one in the clear and a peer with TLS. Both accept streams, check
//! dialback keys with the gate, answer for their own, and deliver what they may.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use fedgate::{
    xml::{Element, ElementName},
    xmpp::Domain,
};
use rustls::{ClientConfig, ServerConfig};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::{
    conn::{Conn, FOOTER},
    stream::{Item, Stream},
};

/// How a server behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// By the book.
    Honest,
    /// Accepts connections and closes them.
    Closes,
    /// Closes when it is asked for a domain pair.
    ClosesOnRequest,
    /// Says something that is no XML in place of a header.
    Garbage,
    /// Says something that is no XML in place of an answer to a domain pair.
    GarbageOnRequest,
    /// Sends its header without an id.
    NoId,
    /// Answers `invalid` to each domain pair.
    Invalid,
    /// Answers with an error to each domain pair.
    Error,
    /// Never says a word.
    Mute,
    /// Answers headers and nothing more.
    MuteOnRequest,
    /// Closes when it has answered a dialback question.
    ClosesOnAnswer,
    /// Answers one dialback question a stream, and others never.
    MuteOnSecond,
    /// Calls all keys invalid but the first that a stream asks about.
    InvalidOnSecond,
    /// Calls the gate's keys valid, and no stanza is delivered: the stream ends with an error.
    ErrorOnStanza,
}

/// Which XMPP a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// Version 1.0, with features.
    Modern,
    /// As jabberd2: no version, and its own pair has to be valid before it checks ours.
    Old,
}

/// What makes a server a peer.
pub(crate) struct PeerTls {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    /// Whether it offers SASL EXTERNAL.
    pub(crate) external: bool,
}

/// A server.
pub(crate) struct Station {
    pub(crate) domain: String,
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    arrivals: mpsc::UnboundedReceiver<String>,
    _tasks: JoinSet<()>,
}

struct Inner {
    domain: String,
    style: Style,
    tls: Option<PeerTls>,
    gate: Mutex<Option<SocketAddr>>,
    manner: Mutex<Manner>,
    /// The keys that this server made, by stream id.
    keys: Mutex<HashMap<String, String>>,
    /// For whom, as it wrote the name. An old server makes its keys of such names.
    made_for: Mutex<HashMap<String, String>>,
    /// The keys that the gate made.
    shown: Mutex<Vec<String>>,
    headers: Mutex<Vec<String>>,
    /// What it was asked for pairs with: their names, the id of its stream, and the key.
    requests: Mutex<Vec<[String; 4]>>,
    /// What the gate said on streams that this server spoilt.
    words: Mutex<String>,
    arrivals: mpsc::UnboundedSender<String>,
}

impl Station {
    pub(crate) async fn start(domain: &str, style: Style, tls: Option<PeerTls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            domain: domain.to_owned(),
            style,
            tls,
            gate: Mutex::default(),
            manner: Mutex::new(Manner::Honest),
            keys: Mutex::default(),
            made_for: Mutex::default(),
            shown: Mutex::default(),
            headers: Mutex::default(),
            requests: Mutex::default(),
            words: Mutex::default(),
            arrivals: sender,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let inner = Arc::clone(&inner);
            async move {
                let mut streams = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    let inner = Arc::clone(&inner);
                    streams.spawn(async move { inner.serve(Conn::new(socket)).await });
                    while streams.try_join_next().is_some() {}
                }
            }
        });
        Self { domain: domain.to_owned(), address, inner, arrivals, _tasks: tasks }
    }

    /// Where it sends its own streams, whatever the domain.
    pub(crate) fn steer(&self, gate: SocketAddr) {
        *self.inner.gate.lock().unwrap() = Some(gate);
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.inner.manner.lock().unwrap() = manner;
    }

    /// The next stanza that a stream delivered to it with the right to, as its bytes.
    pub(crate) async fn arrival(&mut self) -> String {
        super::conn::soon("a stanza", self.arrivals.recv()).await.unwrap()
    }

    /// The same, however long it takes; none when the server has ended.
    pub(crate) async fn delivered(&mut self) -> Option<String> {
        self.arrivals.recv().await
    }

    /// What was delivered by now and not taken.
    pub(crate) fn arrived(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.arrivals.try_recv().ok()).collect()
    }

    /// The headers of the streams that were opened to it, as they came.
    pub(crate) fn headers(&self) -> Vec<String> {
        self.inner.headers.lock().unwrap().clone()
    }

    /// The dialback keys that it made, and those that the gate showed it.
    pub(crate) fn keys_seen(&self) -> Vec<String> {
        let made = self.inner.keys.lock().unwrap().values().cloned().collect::<Vec<_>>();
        [made, self.inner.shown.lock().unwrap().clone()].concat()
    }

    /// The dialback requests that came: sender, target, the id of the stream, the key.
    pub(crate) fn requests(&self) -> Vec<[String; 4]> {
        self.inner.requests.lock().unwrap().clone()
    }

    /// A key of its own for a stream that it did not open.
    pub(crate) fn sign(&self, id: &str) -> String {
        let key = format!("{:x}", rand());
        self.inner.keys.lock().unwrap().insert(id.to_owned(), key.clone());
        key
    }

    /// What the gate said on streams that this server spoilt.
    pub(crate) fn words(&self) -> String {
        self.inner.words.lock().unwrap().clone()
    }

    /// Opens a stream to the gate that may carry stanzas to `target`.
    pub(crate) async fn open(&self, target: &str) -> Stream {
        self.open_as(&self.domain, target).await
    }

    /// The same for another domain of the server.
    pub(crate) async fn open_as(&self, from: &str, target: &str) -> Stream {
        let stream = super::conn::soon("a stream", self.inner.authorized(from, target)).await;
        stream.unwrap_or_else(|answer| panic!("from {from} to {target}: {answer}"))
    }

    /// Asks the gate for the pair to `target`, which will not be had; the answer, in words.
    pub(crate) async fn ask(&self, target: &str) -> String {
        let from = &self.domain;
        let stream = super::conn::soon("an answer", self.inner.authorized(from, target)).await;
        stream.err().unwrap_or_else(|| panic!("{target} was valid"))
    }
}

impl Inner {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    fn header(&self, to: Option<&str>, id: Option<&str>, modern: bool) -> String {
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        let id = id.map(|id| format!(" id='{id}'")).unwrap_or_default();
        let version = if modern { " version='1.0'" } else { "" };
        format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
             from='{}'{to}{id}{version}>",
            self.domain
        )
    }

    async fn serve(self: Arc<Self>, conn: Conn) {
        let mut stream = Stream::new(conn);
        // an end in the middle is the gate's right
        let _ = self.accepted(&mut stream).await;
    }

    /// Our answer to a stream header; the id that it gave.
    async fn answer_header(&self, stream: &mut Stream) -> Option<(String, bool)> {
        let Some(Item::Header(header)) = stream.next().await else { return None };
        self.headers.lock().unwrap().push(format!("{header:?}"));
        let id = format!("{:032x}", rand());
        let modern = self.style == Style::Modern && header.version.is_some();
        let given = (self.manner() != Manner::NoId).then_some(id.as_str());
        stream.say(&self.header(header.from.as_deref(), given, modern)).await;
        Some((id, modern))
    }

    async fn accepted(&self, stream: &mut Stream) -> Option<()> {
        match self.manner() {
            Manner::Closes => return None,
            Manner::Garbage => {
                stream.say("\u{1}garbage & more").await;
                return self.listen(stream).await;
            }
            Manner::Mute => return self.listen(stream).await,
            _ => {}
        }
        let (mut id, modern) = self.answer_header(stream).await?;
        if let Some(tls) = &self.tls {
            stream.say(STARTTLS_FEATURE).await;
            let Item::Element(ElementName::StartTls, _) = stream.next().await? else { return None };
            stream.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
            stream.restart().accept_tls(Arc::clone(&tls.server)).await.ok()?;
            id = self.answer_header(stream).await?.0;
            stream.say(if tls.external { EXTERNAL_FEATURE } else { DIALBACK_FEATURE }).await;
        } else if modern {
            stream.say("<stream:features/>").await;
        }
        let mut allowed = HashSet::new();
        let mut own = None;
        let mut is_first = true;
        loop {
            match stream.next().await? {
                Item::Header(_) => return None,
                Item::Element(ElementName::SaslAuth, _) => {
                    stream.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
                    stream.restart();
                    let Item::Header(header) = stream.next().await? else { return None };
                    allowed
                        .insert((canonical(header.from.as_ref()?), canonical(header.to.as_ref()?)));
                    id = format!("{:032x}", rand());
                    stream.say(&self.header(header.from.as_deref(), Some(&id), true)).await;
                    stream.say("<stream:features/>").await;
                }
                Item::Element(ElementName::DbResult, element) => {
                    let (from, to) = addresses(&element)?;
                    let key = element.text().trim().to_owned();
                    let request = [from.clone(), to.clone(), id.clone(), key];
                    self.requests.lock().unwrap().push(request);
                    match self.manner() {
                        Manner::ClosesOnRequest => return None,
                        Manner::MuteOnRequest => continue,
                        Manner::GarbageOnRequest => {
                            stream.say("</nonsense>").await;
                            return self.listen(stream).await;
                        }
                        Manner::Invalid => {
                            stream.say(&typed("result", &to, &from, "", "invalid")).await;
                        }
                        Manner::Error => stream.say(&error(&to, &from)).await,
                        _ => {
                            let key = element.text().trim();
                            self.shown.lock().unwrap().push(key.to_owned());
                            let valid = self.check(&mut own, (&from, &to), &id, key).await;
                            let kind = if valid { "valid" } else { "invalid" };
                            if valid {
                                allowed.insert((canonical(&from), canonical(&to)));
                            }
                            stream.say(&typed("result", &to, &from, "", kind)).await;
                        }
                    }
                }
                Item::Element(ElementName::DbVerify, element) => {
                    let (from, to) = addresses(&element)?;
                    let id = element.attr("id")?;
                    let known = self.keys.lock().unwrap().get(id).cloned();
                    let is_second = !std::mem::take(&mut is_first);
                    if is_second && self.manner() == Manner::MuteOnSecond {
                        continue;
                    }
                    let target = self.made_for.lock().unwrap().get(id).cloned();
                    let is_named = self.tls.is_some() || target.is_none_or(|name| name == from);
                    let valid = known.as_deref() == Some(element.text().trim())
                        && is_named
                        && !(is_second && self.manner() == Manner::InvalidOnSecond);
                    let kind = if valid { "valid" } else { "invalid" };
                    let id = format!(" id='{id}'");
                    stream.say(&typed("verify", &to, &from, &id, kind)).await;
                    if self.manner() == Manner::ClosesOnAnswer {
                        return None;
                    }
                }
                Item::Element(..) => {}
                Item::Stanza(_) if self.manner() == Manner::ErrorOnStanza => {
                    stream.say(INTERNAL_ERROR).await;
                    return self.listen(stream).await;
                }
                Item::Stanza(text) => {
                    let pair = (domain_of(&text, "from"), domain_of(&text, "to"));
                    assert!(allowed.contains(&pair), "{} got {text}", self.domain);
                    self.arrivals.send(text).ok()?;
                }
                Item::Footer => {
                    stream.say(FOOTER).await;
                    stream.finish().await;
                    return None;
                }
            }
        }
    }

    /// Writes down all that the gate still says.
    async fn listen(&self, stream: &mut Stream) -> Option<()> {
        loop {
            let chunk = stream.chunk().await?;
            self.words.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Whether the gate made this key for the pair, over a stream of our own.
    async fn check(
        &self,
        own: &mut Option<Stream>,
        (asker, target): (&str, &str),
        id: &str,
        key: &str,
    ) -> bool {
        let stream = match self.style {
            Style::Modern => self.connected(asker).await.map(|(stream, _)| stream),
            Style::Old => self.authorized(&self.domain, asker).await.ok(),
        };
        let Some(stream) = stream else { return false };
        let stream = own.insert(stream);
        let question =
            format!("<db:verify from='{target}' to='{asker}' id='{id}'>{key}</db:verify>");
        stream.say(&question).await;
        loop {
            match stream.next().await {
                Some(Item::Element(ElementName::DbVerify, answer)) => {
                    return answer.attr("id") == Some(id) && answer.attr("type") == Some("valid");
                }
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// A stream to the gate on which nothing is authorized yet, and its id.
    async fn connected(&self, to: &str) -> Option<(Stream, String)> {
        let modern = self.style == Style::Modern;
        let gate = (*self.gate.lock().unwrap())?;
        let mut stream = Stream::new(Conn::open(gate, "127.0.0.1").await);
        let mut id = stream.begin(&self.header(Some(to), None, modern), modern).await?;
        if let Some(tls) = &self.tls {
            stream.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
            let Item::Element(ElementName::TlsProceed, _) = stream.next().await? else {
                return None;
            };
            stream.restart().connect_tls(Arc::clone(&tls.client), to).await.ok()?;
            id = stream.begin(&self.header(Some(to), None, true), true).await?;
        }
        Some((stream, id))
    }

    /// A stream to the gate that may carry stanzas of the pair, by dialback.
    async fn authorized(&self, from: &str, target: &str) -> Result<Stream, String> {
        let (mut stream, id) = self.connected(target).await.ok_or("no stream")?;
        let key = format!("{:x}", rand());
        self.made_for.lock().unwrap().insert(id.clone(), target.to_owned());
        self.keys.lock().unwrap().insert(id, key.clone());
        stream.say(&format!("<db:result from='{from}' to='{target}'>{key}</db:result>")).await;
        loop {
            match stream.next().await.ok_or("the connection ended")? {
                Item::Element(ElementName::DbResult, answer) => {
                    let kind = answer.attr("type").unwrap_or_default();
                    if kind == "valid" {
                        assert_eq!(answer.attr("from"), Some(target), "of what it did not ask for");
                        return Ok(stream);
                    }
                    let error = answer.children().first().and_then(|e| e.children().first());
                    return Err(format!("{kind} {}", error.map_or("", |error| &error.name)));
                }
                Item::Footer => return Err("the stream ended".into()),
                _ => {}
            }
        }
    }
}

fn rand() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    u128::from_be_bytes(bytes)
}

fn addresses(element: &Element) -> Option<(String, String)> {
    Some((element.attr("from")?.to_owned(), element.attr("to")?.to_owned()))
}

fn domain_of(stanza: &str, name: &str) -> String {
    let jid = super::conn::attribute(stanza, name);
    let bare = jid.split('/').next().unwrap();
    canonical(bare.rsplit('@').next().unwrap())
}

/// Of all spellings of a domain that which is compared.
fn canonical(domain: &str) -> String {
    Domain::parse(domain).ok().or_else(|| Domain::as_nameprep(domain)).unwrap().to_string()
}

fn typed(what: &str, from: &str, to: &str, id: &str, kind: &str) -> String {
    format!("<db:{what} from='{from}' to='{to}'{id} type='{kind}'/>")
}

fn error(from: &str, to: &str) -> String {
    format!(
        "<db:result from='{from}' to='{to}' type='error'><error type='cancel'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
    )
}

const STARTTLS_FEATURE: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>\
    <required/></starttls></stream:features>";
const EXTERNAL_FEATURE: &str = "<stream:features><mechanisms \
    xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
    </stream:features>";
const DIALBACK_FEATURE: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'>\
    <errors/></dialback></stream:features>";
const INTERNAL_ERROR: &str = "<stream:error><internal-server-error \
    xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
