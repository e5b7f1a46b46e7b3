//! Two people who write to each other, and keep count of what arrives.

use std::{
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use super::{
    legacy::{Arrival, LegacyServer},
    transcript::time,
};

/// Somebody with an account on a legacy server.
pub(crate) struct User {
    name: &'static str,
    domain: &'static str,
    messages: usize,
    clock: Instant,
    written: Option<Duration>,
    /// The texts of messages, and when they came.
    inbox: Vec<(String, Duration)>,
    pinged: Option<Duration>,
    /// When answers to the ping came.
    answers: Vec<Duration>,
    /// What the server could not send.
    returned: Vec<String>,
}

/// Not all can arrive any more.
pub(crate) struct Undelivered;

impl User {
    /// A user who will write and expects this many messages.
    pub(crate) fn new(
        name: &'static str,
        domain: &'static str,
        messages: usize,
        clock: Instant,
    ) -> Self {
        Self {
            name,
            domain,
            messages,
            clock,
            written: None,
            inbox: Vec::new(),
            pinged: None,
            answers: Vec::new(),
            returned: Vec::new(),
        }
    }

    /// Hands all messages to the server, at once.
    pub(crate) fn write_to(&mut self, other: &Self, server: &LegacyServer) {
        self.written = Some(self.clock.elapsed());
        for number in 1..=self.messages {
            let text = self.text(number);
            let stanza = format!(
                "<message from='{self}' to='{other}' id='{number}' type='chat'>\
                 <body>{text}</body></message>"
            );
            server.send(other.domain, stanza);
        }
    }

    /// Asks the other server for a sign of life (XEP-0199).
    pub(crate) fn ping(&mut self, domain: &str, server: &LegacyServer) {
        self.pinged = Some(self.clock.elapsed());
        let stanza = format!(
            "<iq from='{self}' to='{domain}' id='ping' type='get'>\
             <ping xmlns='urn:xmpp:ping'/></iq>"
        );
        server.send(domain, stanza);
    }

    /// Waits until all is there.
    ///
    /// # Errors
    /// [`Undelivered`] as soon as something that was sent comes back.
    pub(crate) async fn read(&mut self, server: &mut LegacyServer) -> Result<(), Undelivered> {
        while self.inbox.len() < self.messages || (self.pinged.is_some() && self.answers.is_empty())
        {
            let arrival = server.arrival().await.ok_or(Undelivered)?;
            self.take(arrival);
            if !self.returned.is_empty() {
                return Err(Undelivered);
            }
        }
        Ok(())
    }

    /// Takes what came after all was there.
    pub(crate) fn late(&mut self, arrivals: Vec<Arrival>) {
        arrivals.into_iter().for_each(|arrival| self.take(arrival));
    }

    fn take(&mut self, arrival: Arrival) {
        let now = self.clock.elapsed();
        match arrival {
            Arrival::Returned { stanza, why } => self.returned.push(format!("{why}: {stanza}")),
            Arrival::Stanza(stanza) => match (&*stanza.name, stanza.attribute("type")) {
                ("message", Some("chat")) => {
                    let body = stanza.child(super::legacy::xml::SERVER, "body");
                    let text = body.map(|body| body.text.clone()).unwrap_or_default();
                    self.inbox.push((text, now));
                }
                ("iq", Some("result")) if stanza.attribute("id") == Some("ping") => {
                    self.answers.push(now);
                }
                (_, Some("error")) => self.returned.push(stanza.raw),
                // The server answers pings itself.
                _ => {}
            },
        }
    }

    /// Says how what `sender` wrote arrived here; true if all did, once and in order.
    pub(crate) fn report(&self, sender: &Self, out: &mut impl Write) -> io::Result<bool> {
        let wanted: Vec<_> = (1..=sender.messages).map(|number| sender.text(number)).collect();
        let got: Vec<_> = self.inbox.iter().map(|(text, _)| text.clone()).collect();
        let mut wrong = Vec::new();
        wrong.extend(
            wanted.iter().filter(|text| !got.contains(text)).map(|t| format!("missing: {t}")),
        );
        if got.len() > wanted.len() {
            wrong.push(format!("more than was sent: {}", got.join(", ")));
        } else if wrong.is_empty() && got != wanted {
            wrong.push(format!("out of order: {}", got.join(", ")));
        }
        wrong.extend(sender.returned.iter().map(|stanza| format!("returned: {stanza}")));
        if sender.answers.len() != 1 {
            wrong.push(format!("answers to the ping: {}", sender.answers.len()));
        }

        let since = |from: Option<Duration>, at: Option<&Duration>| match (from, at) {
            (Some(from), Some(at)) => time(at.saturating_sub(from)).trim().to_owned(),
            _ => "never".to_owned(),
        };
        let arrived =
            |message: Option<&(String, Duration)>| since(sender.written, message.map(|(_, at)| at));
        writeln!(
            out,
            "\n  {} of {} messages delivered, the first after {}, the last after {}; \
             ping answered after {}",
            got.len(),
            wanted.len(),
            arrived(self.inbox.first()),
            arrived(self.inbox.last()),
            since(sender.pinged, sender.answers.first()),
        )?;
        for what in &wrong {
            writeln!(out, "  WRONG: {what}")?;
        }
        Ok(wrong.is_empty())
    }

    fn text(&self, number: usize) -> String {
        format!("{number} of {} from {}", self.messages, self.name)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}
