//! What comes in on an accepted stream, token by token: stanzas join a batch for their route, all
//! else goes to the machine.

use std::sync::Arc;

use bytes::Buf;
use tokio::time::Instant;

use super::{End, Leg};
use crate::{
    auth::ledger::{AuthorizedPair, Routable},
    proxy::route::Route,
    stream::{Failure, Fault},
    xml::{self, Span, Tag, Token, TokenKind, relay, writer},
    xmpp::Side,
};

/// Stanzas of one pair, one behind the other in the input, that go as they are.
pub(super) struct Batch {
    grant: AuthorizedPair,
    route: Result<Arc<Route>, Arc<Failure>>,
    /// The route's stream declares another language than ours: stanzas have to say theirs.
    stamp: Option<Arc<str>>,
    /// The batch is the input up to here.
    end: usize,
    stanzas: u32,
}

impl Leg {
    /// Takes all complete tokens out of the input.
    pub(super) async fn read(&mut self) -> Result<(), End> {
        loop {
            let at = self.batch.as_ref().map_or(0, |batch| batch.end);
            let rest = self.wire.input().get(at..).unwrap_or_default();
            let step = match self.frames.framer().next(rest) {
                Ok(None) => break,
                Ok(Some(Token { len, kind: TokenKind::Element(tag) })) if tag.name.is_stanza() => {
                    self.partial = None;
                    self.stanza(&tag, at, len).await
                }
                Ok(Some(token)) => {
                    self.partial = None;
                    self.hand_over().await;
                    self.token(token).await
                }
                Err(fault) => Err(self.unreadable(fault)),
            };
            if let Err(end) = step {
                self.hand_over().await;
                return Err(end);
            }
        }
        self.hand_over().await;
        if !self.wire.input().is_empty() {
            self.partial.get_or_insert_with(Instant::now);
        }
        self.wire.shrink();
        Ok(())
    }

    /// What does not even begin like XML comes from no XMPP server: a browser, a scanner, a TLS
    /// client on the wrong port. It gets no answer (attack A-37).
    fn unreadable(&mut self, fault: xml::Fault) -> End {
        let in_stream = self.frames.framer().header().is_some() || self.machine.tls().is_some();
        let first = self.wire.input().first().copied().unwrap_or(b'<');
        // white space, and how UTF-8, UTF-16 and UTF-32 may begin
        let is_xml = matches!(first, b'<' | b' ' | b'\t' | b'\r' | b'\n' | 0 | 0xef | 0xfe | 0xff);
        if in_stream || is_xml || self.side == Side::Legacy {
            return Fault::xml(fault).into();
        }
        End::Broken("not XMPP".into())
    }

    /// Admits the stanza that stands at `at` of the input, just behind the batch.
    async fn stanza(&mut self, tag: &Tag, at: usize, len: usize) -> Result<(), End> {
        let bytes = self.wire.input().get(at..at + len).unwrap_or_default();
        let text = |span: Option<Span>| span.map(|span| span.text(bytes)).unwrap_or_default();
        let grant = self.machine.stanza(&text(tag.from), &text(tag.to))?;
        let Some(header) = self.frames.framer().header().cloned() else {
            return Err(End::Broken("stanza without a stream header".into()));
        };
        self.used = Instant::now();
        self.stanzas += 1;
        if let Some(batch) = &mut self.batch
            && batch.grant.is(grant)
            && relay::is_verbatim(tag, &header, batch.stamp.as_deref())
        {
            batch.end += len;
            batch.stanzas += 1;
            return Ok(());
        }
        let grant = grant.clone();
        self.hand_over().await;
        let onward = self.onward();
        let route = self.gate.routes().get(&self.gate, onward, grant.pair(), self.lang.as_ref());
        let stamp = match &route {
            Ok(route) if route.lang() != self.lang.as_deref() => self.lang.clone(),
            Ok(_) | Err(_) => None,
        };
        if relay::is_verbatim(tag, &header, stamp.as_deref()) {
            self.batch = Some(Batch { grant, route, stamp, end: len, stanzas: 1 });
            return Ok(());
        }
        let bytes = self.wire.input().split_to(len).freeze();
        let bytes = relay::outgoing(&bytes, tag, &header, stamp.as_deref());
        let stanza = Routable::new(&grant, bytes, 1);
        self.count(&stanza);
        self.gate.deliver(route, onward, stanza, self.lang.as_ref()).await;
        Ok(())
    }

    /// Hands the batch to its route.
    pub(super) async fn hand_over(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let bytes = self.wire.input().split_to(batch.end).freeze();
        let stanzas = Routable::new(&batch.grant, bytes, batch.stanzas);
        self.count(&stanzas);
        self.gate.deliver(batch.route, self.onward(), stanzas, self.lang.as_ref()).await;
    }

    fn count(&mut self, stanzas: &Routable) {
        let (pair, n, bytes) = (stanzas.pair(), stanzas.stanzas(), stanzas.bytes().len());
        self.gate.metrics().accepted(self.side, n, bytes);
        let live = &self.live;
        let meter = self.meter.take().filter(|meter| meter.pair() == pair);
        self.meter.insert(meter.unwrap_or_else(|| live.meter(pair))).count(n, bytes);
    }

    /// Takes a token that is no stanza from the front of the input.
    async fn token(&mut self, token: Token) -> Result<(), End> {
        let mut actions = Vec::new();
        let outcome = match token.kind {
            TokenKind::Declaration => Ok(()),
            TokenKind::Space => {
                self.used = Instant::now();
                Ok(())
            }
            TokenKind::Header(header) => {
                self.lang = header.lang.as_deref().map(Into::into);
                self.machine.header(&header, &mut actions)
            }
            TokenKind::Element(tag) => {
                let bytes = self.wire.input().get(..token.len).unwrap_or_default();
                let element = self.frames.parse(bytes)?;
                self.machine.element(tag.name, &element, &mut actions)
            }
            TokenKind::Footer => {
                self.say(writer::FOOTER.as_bytes());
                return Err(End::Closed("stream closed by the other end"));
            }
        };
        self.wire.input().advance(token.len);
        self.act(actions).await?;
        Ok(outcome?)
    }
}
