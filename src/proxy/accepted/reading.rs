//! What comes in on an accepted stream, token by token: stanzas go to the intake, all else to the
//! machine.

use bytes::Buf;
use rustls::pki_types::UnixTime;
use tokio::{task::coop, time::Instant};

use super::{End, Leg, bounds::too_large};
use crate::{
    auth::ledger::AuthorizedPair,
    stream::{Failure, FailureKind, Fault},
    xml::{self, ElementName, Span, Tag, Token, TokenKind},
    xmpp::{Side, StanzaCondition},
};

impl Leg {
    /// Takes all complete tokens out of the input, or as many as their routes have room for.
    pub(super) async fn read(&mut self) -> Result<(), End> {
        let now = Instant::now();
        while !self.intake.is_busy() {
            let at = self.intake.offset();
            let rest = self.wire.input().get(at..).unwrap_or_default();
            match self.frames.framer().next(rest) {
                Ok(None) => {
                    self.intake.hand_over(self.wire.input());
                    if !self.wire.input().is_empty() {
                        self.partial.get_or_insert_with(Instant::now);
                    }
                    break;
                }
                Ok(Some(Token { len, kind: TokenKind::Element(tag) })) if tag.name.is_stanza() => {
                    self.partial = None;
                    self.used = now;
                    self.stanza(&tag, at, len)?;
                }
                Ok(Some(token)) => {
                    self.partial = None;
                    self.intake.hand_over(self.wire.input());
                    // Seldom, beside stanzas.
                    Box::pin(self.token(token)).await?;
                }
                Err(fault) => return Err(self.unreadable(fault)),
            }
        }
        if self.wire.shrink() {
            self.frames.framer().rest();
        }
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

    /// Admits the stanza that stands at `at` of the input.
    fn stanza(&mut self, tag: &Tag, at: usize, len: usize) -> Result<(), End> {
        let bytes = self.wire.input().get(at..at + len).unwrap_or_default();
        let plain = |span: Option<Span>| span.and_then(|span| span.plain(bytes));
        let text = |span: Option<Span>| span.map(|span| span.text(bytes)).unwrap_or_default();
        // The framer holds the largest limit of all pairs, so that only those between are looked at.
        if self.side == Side::Peer && self.stanza_bounds.is_none_or(|(least, _)| len > least) {
            let pair = self.machine.stanza(&text(tag.from), &text(tag.to))?.pair().clone();
            if len > self.machine.stanza_limit_of(&pair) {
                return Err(too_large(&pair, len));
            }
        }
        let again = plain(tag.from).zip(plain(tag.to));
        let again = again.and_then(|(from, to)| self.machine.stanza_again(from, to));
        let grant = match again {
            Some(grant) => grant,
            None => {
                let (from, to) = (text(tag.from), text(tag.to));
                match self.machine.stanza(&from, &to) {
                    Ok(grant) => grant,
                    Err(fault) => {
                        let Some((grant, is_sure)) = self.machine.misaddressed(&from, &to) else {
                            return Err(fault.into());
                        };
                        let grant = grant.clone();
                        self.misaddressed(tag, len, &grant, is_sure);
                        return Ok(());
                    }
                }
            }
        };
        let Some(header) = self.frames.framer().header() else {
            return Err(End::Broken("stanza without a stream header".into()));
        };
        self.quiet = None;
        if self.closing.is_some() && self.managing.is_some() {
            // It comes behind our last answer, so that it is still the peer's.
            self.wire.input().advance(len);
            return Ok(());
        }
        if let Some(excess) = tag.excess {
            let failure = Failure::new(FailureKind::TooLarge, excess.to_string());
            self.intake.give_back(self.wire.input(), tag, len, grant, &failure);
            return Ok(());
        }
        self.intake.stanza(self.wire.input(), header, tag, len, grant);
        Ok(())
    }

    /// A stanza of the legacy server goes back to its sender, as it is sent to no domain; to nobody if
    /// it is not sure in whose name the legacy server would take that.
    fn misaddressed(&mut self, tag: &Tag, len: usize, grant: &AuthorizedPair, is_sure: bool) {
        let mut tag = *tag;
        tag.from = tag.from.filter(|_| is_sure);
        let failure = Failure::new(FailureKind::NotFound, "it is sent to what is no domain")
            .with_condition(StanzaCondition::JidMalformed);
        self.intake.give_back(self.wire.input(), &tag, len, grant, &failure);
    }

    /// Takes a token that is no stanza from the front of the input.
    async fn token(&mut self, token: Token) -> Result<(), End> {
        // A read may hold a hundred questions: who asks without end must not keep a thread for
        // itself meanwhile.
        coop::consume_budget().await;
        let mut actions = Vec::new();
        let is_request = matches!(token.kind, TokenKind::Element(_));
        let outcome = match token.kind {
            // A space says that the other end is there, not that it wants something.
            TokenKind::Declaration | TokenKind::Space => Ok(()),
            TokenKind::Header(header) => {
                self.intake.set_lang(&header);
                self.machine.header(&header, &mut actions)
            }
            // Nothing is answered any more; but what went to the other end is still acknowledged.
            TokenKind::Element(tag)
                if self.closing.is_some() && tag.name != ElementName::SmAnswer =>
            {
                Ok(())
            }
            TokenKind::Element(Tag { excess: Some(fault), .. }) => {
                return Err(Fault::xml(fault).into());
            }
            TokenKind::Element(tag) => {
                let bytes = self.wire.input().get(..token.len).unwrap_or_default();
                let element = self.frames.parse(bytes)?;
                if matches!(tag.name, ElementName::DbResult | ElementName::DbVerify) {
                    self.count_dialback();
                    if self.side == Side::Legacy {
                        self.used = Instant::now();
                    }
                }
                if tag.name == ElementName::SaslAuth {
                    self.machine.expire(UnixTime::now());
                }
                self.machine.element(tag.name, &element, &mut actions)
            }
            TokenKind::Footer => return Err(End::Finished),
        };
        self.wire.input().advance(token.len);
        self.act(actions).await?;
        if is_request {
            self.quiet = None;
        }
        Ok(outcome?)
    }
}
