//! What the old server says and when, without sockets: its side of server dialback (XEP-0220).
//!
//! Streams carry stanzas one way only. On a stream that it opened the server sends its own stanzas,
//! and asks the other server about keys; on one that it accepted it receives the other's stanzas,
//! and is asked about its own keys.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::xml::{DIALBACK, Element, Frame, SERVER, STREAMS, escape};

/// How the server opens streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Style {
    /// As jabberd2: a header with neither `version` nor `from` and `to`; it sends its dialback key
    /// at once, and again if features come, which breaks the stream; it asks about other servers'
    /// keys only on a stream on which its own was found valid.
    Jabberd2,
    /// As ejabberd: `version='1.0'`; waits for features; asks about keys without one of its own.
    Version1,
}

/// What the server has for its users.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// A stanza from another server.
    Stanza(Element),
    /// A stanza that could not be sent.
    Returned {
        stanza: String,
        /// Why not.
        why: String,
    },
}

/// What has to be done for the server, in order.
pub(crate) enum Action {
    /// Open a connection.
    Open(usize),
    /// Write this to a connection.
    Say(usize, String),
    /// Close a connection, after what was said.
    Close(usize),
    /// Tell the users.
    Tell(Arrival),
}

/// The server.
pub(crate) struct Machine {
    domain: String,
    style: Style,
    secret: String,
    streams: BTreeMap<usize, Stream>,
    numbers: usize,
    out: Vec<Action>,
}

#[derive(Default)]
struct Stream {
    /// The other server's domain, if the server opened the stream.
    remote: Option<String>,
    /// The id in the accepting end's header.
    id: String,
    /// Whether our own key was found valid.
    is_valid: bool,
    /// What waits: questions about the keys of others, and stanzas.
    questions: Vec<String>,
    stanzas: Vec<String>,
    /// Who proved itself on a stream that was accepted.
    proven: HashSet<String>,
}

impl Machine {
    /// A server for one domain. `secret` is what its keys are made from.
    pub(crate) fn new(domain: &str, style: Style, secret: String) -> Self {
        let (domain, streams) = (domain.to_owned(), BTreeMap::new());
        Self { domain, style, secret, streams, numbers: 0, out: Vec::new() }
    }

    /// What is to be done since this was last called.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// A user sends a stanza to a domain.
    pub(crate) fn send(&mut self, remote: &str, stanza: String) {
        let number = self.stream_to(remote);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.is_valid {
            self.out.push(Action::Say(number, stanza));
        } else {
            stream.stanzas.push(stanza);
        }
    }

    /// Somebody connected; the answer is the connection's number.
    pub(crate) fn accepted(&mut self) -> usize {
        self.numbers += 1;
        self.streams.insert(self.numbers, Stream::default());
        self.numbers
    }

    /// A connection ended: what waits on it goes back.
    pub(crate) fn closed(&mut self, number: usize, why: &str) {
        let stanzas = self.streams.remove(&number).map(|stream| stream.stanzas);
        for stanza in stanzas.into_iter().flatten() {
            self.out.push(Action::Tell(Arrival::Returned { stanza, why: why.to_owned() }));
        }
    }

    /// Something came.
    pub(crate) fn frame(&mut self, number: usize, frame: &Frame) {
        let Some(stream) = self.streams.get(&number) else { return };
        match (frame, stream.remote.clone()) {
            (Frame::Header(header), None) => self.header(number, header),
            (Frame::Header(header), Some(remote)) => self.answered(number, &remote, header),
            (Frame::Element(element), None) => self.received(number, element),
            (Frame::Element(element), Some(remote)) => self.reply(number, &remote, element),
            (Frame::Footer, _) => self.close(number, "the stream was closed"),
        }
    }

    /// The stream that the server opened to a domain; a new one if there is none.
    fn stream_to(&mut self, remote: &str) -> usize {
        let to = |stream: &Stream| stream.remote.as_deref() == Some(remote);
        if let Some((number, _)) = self.streams.iter().find(|(_, stream)| to(stream)) {
            return *number;
        }
        self.numbers += 1;
        let stream = Stream { remote: Some(remote.to_owned()), ..Stream::default() };
        self.streams.insert(self.numbers, stream);
        self.out.push(Action::Open(self.numbers));
        let header = match self.style {
            Style::Jabberd2 => header(""),
            Style::Version1 => {
                let (from, to) = (&self.domain, escape(remote));
                header(&format!(" to='{to}' from='{from}' version='1.0'"))
            }
        };
        self.say(self.numbers, header);
        self.numbers
    }

    /// On a stream that was opened: the other end's header.
    fn answered(&mut self, number: usize, remote: &str, header: &Element) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        header.attribute("id").unwrap_or_default().clone_into(&mut stream.id);
        if self.style == Style::Jabberd2 || header.attribute("version").is_none() {
            self.present_key(number, remote);
        }
    }

    fn present_key(&mut self, number: usize, remote: &str) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let key = key(&self.secret, remote, &stream.id);
        let questions = match self.style {
            Style::Jabberd2 => Vec::new(),
            Style::Version1 => std::mem::take(&mut stream.questions),
        };
        self.say(number, self.dialback("result", remote, "", &key));
        questions.into_iter().for_each(|question| self.say(number, question));
    }

    /// On a stream that was opened: answers.
    fn reply(&mut self, number: usize, remote: &str, element: &Element) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if element.is(STREAMS, "features") {
            self.present_key(number, remote);
        } else if element.is(DIALBACK, "result") {
            match element.attribute("type") {
                Some("valid") if !stream.is_valid => {
                    stream.is_valid = true;
                    let waiting = stream.questions.drain(..).chain(stream.stanzas.drain(..));
                    self.out.extend(waiting.map(|text| Action::Say(number, text)));
                }
                Some("valid") => self.fail(number, "valid twice"),
                _ => self.close(number, "the dialback key was refused"),
            }
        } else if element.is(DIALBACK, "verify") {
            let id = element.attribute("id");
            let asked = |stream: &Stream| stream.remote.is_none() && Some(&*stream.id) == id;
            let asking = self.streams.iter_mut().find(|(_, stream)| asked(stream));
            let Some((&asking, stream)) = asking else { return };
            if element.attribute("type") == Some("valid") {
                stream.proven.insert(remote.to_owned());
                self.say(asking, self.dialback("result", remote, " type='valid'", ""));
            } else {
                self.say(asking, self.dialback("result", remote, " type='invalid'", ""));
                self.fail(asking, "invalid key");
            }
        }
    }

    /// On a stream that was accepted: the other end's header, answered with its like.
    fn header(&mut self, number: usize, theirs: &Element) {
        let to = escape(theirs.attribute("from").unwrap_or_default());
        let (id, from) = (super::random(), &self.domain);
        let modern = theirs.attribute("version").is_some();
        let version = if modern { " version='1.0'" } else { "" };
        let mut answer = header(&format!(" to='{to}' from='{from}'{version} id='{id}'"));
        if modern {
            answer += "<stream:features><dialback xmlns='urn:xmpp:features:dialback'>\
                       <required/></dialback></stream:features>";
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.id = id;
        }
        self.say(number, answer);
    }

    /// On a stream that was accepted: keys, questions and stanzas.
    fn received(&mut self, number: usize, element: &Element) {
        let Some(stream) = self.streams.get(&number) else { return };
        let from = element.attribute("from").unwrap_or_default();
        if element.is(DIALBACK, "result") {
            let id = format!(" id='{}'", stream.id);
            let question = self.dialback("verify", from, &id, &element.text);
            let asking = self.stream_to(from);
            let Some(stream) = self.streams.get_mut(&asking) else { return };
            let may_ask = match self.style {
                Style::Jabberd2 => stream.is_valid,
                Style::Version1 => !stream.id.is_empty(),
            };
            if may_ask {
                self.say(asking, question);
            } else {
                stream.questions.push(question);
            }
        } else if element.is(DIALBACK, "verify") {
            let id = element.attribute("id").unwrap_or_default();
            let is_ours = element.text == key(&self.secret, from, id);
            let kind = if is_ours { "valid" } else { "invalid" };
            let more = format!(" id='{}' type='{kind}'", escape(id));
            self.say(number, self.dialback("verify", from, &more, ""));
        } else if element.is_stanza() && stream.proven.contains(domain_of(from)) {
            self.deliver(element);
        }
    }

    fn deliver(&mut self, stanza: &Element) {
        let is_get = stanza.name == "iq" && stanza.attribute("type") == Some("get");
        let is_ours = stanza.attribute("to") == Some(&*self.domain);
        if is_get && is_ours && stanza.child("urn:xmpp:ping", "ping").is_some() {
            let to = stanza.attribute("from").unwrap_or_default();
            let id = escape(stanza.attribute("id").unwrap_or_default());
            let (from, full) = (&self.domain, escape(to));
            let pong = format!("<iq from='{from}' to='{full}' id='{id}' type='result'/>");
            self.send(domain_of(to), pong);
        }
        self.out.push(Action::Tell(Arrival::Stanza(stanza.clone())));
    }

    fn fail(&mut self, number: usize, why: &str) {
        let condition = "<invalid-id xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>";
        self.say(number, format!("<stream:error>{condition}</stream:error>"));
        self.close(number, why);
    }

    fn close(&mut self, number: usize, why: &str) {
        self.say(number, "</stream:stream>".to_owned());
        self.out.push(Action::Close(number));
        self.closed(number, why);
    }

    fn say(&mut self, number: usize, text: String) {
        self.out.push(Action::Say(number, text));
    }

    fn dialback(&self, name: &str, to: &str, more: &str, key: &str) -> String {
        let (from, to) = (&self.domain, escape(to));
        format!("<db:{name} xmlns:db='{DIALBACK}' from='{from}' to='{to}'{more}>{key}</db:{name}>")
    }
}

fn header(attributes: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns:stream='{STREAMS}' xmlns='{SERVER}' \
         xmlns:db='{DIALBACK}'{attributes}>"
    )
}

/// The dialback key for a stream to `remote`.
fn key(secret: &str, remote: &str, stream_id: &str) -> String {
    let hash = Sha256::digest(format!("{secret} {remote} {stream_id}"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `capulet.example` of `juliet@capulet.example/balcony`.
pub(crate) fn domain_of(address: &str) -> &str {
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}
