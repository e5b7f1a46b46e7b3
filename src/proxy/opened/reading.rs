//! What comes in on a stream that we opened, token by token: stanzas, on a bidirectional one, go to
//! the intake, all else to the machine.

use bytes::Buf;
use tokio::time::Instant;

use super::Opened;
use crate::{
    config::model::Config,
    proxy::{dial::Live, rules::decide},
    stream::{Failure, Fault},
    xml::{self, Span, Tag, Token, TokenKind},
    xmpp::{Direction, DomainPair},
};

impl Opened {
    /// Takes what came in out of the input, or as much as routes have room for.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while !self.intake.is_busy() {
            let at = self.intake.offset();
            let rest = self.live.wire.input().get(at..).unwrap_or_default();
            let token = self.live.frames.framer().next(rest);
            match token.map_err(|fault| Failure::malformed(&Fault::xml(fault)))? {
                None => {
                    self.intake.hand_over(self.live.wire.input());
                    break;
                }
                Some(Token { len, kind: TokenKind::Element(tag) }) if tag.name.is_stanza() => {
                    self.stanza(&tag, at, len, now)?;
                }
                Some(token) => {
                    self.intake.hand_over(self.live.wire.input());
                    self.token(token)?;
                }
            }
        }
        if self.live.wire.shrink() {
            self.live.frames.framer().rest();
        }
        Ok(())
    }

    /// Grants came or went: how large stanzas may be that come in.
    pub(super) fn bound(&mut self) {
        let config = self.gate.config();
        let bounds = || {
            let grants = self.live.machine.inbound();
            grants.map(|grant| stanza_limit(&config, grant.pair()))
        };
        self.stanza_least = bounds().min().unwrap_or(config.limits.stanza);
        let most = bounds().max().unwrap_or(config.limits.stanza);
        self.live.frames.authenticated(&config.limits, most);
    }

    /// Admits the stanza that stands at `at` of the input.
    fn stanza(&mut self, tag: &Tag, at: usize, len: usize, now: Instant) -> Result<(), Failure> {
        let Live { wire, frames, machine, .. } = &mut *self.live;
        let bytes = wire.input().get(at..at + len).unwrap_or_default();
        let text = |span: Option<Span>| span.map(|span| span.text(bytes)).unwrap_or_default();
        let grant = machine.stanza(&text(tag.from), &text(tag.to))?;
        if let Some(grant) = grant
            && len > self.stanza_least
            && len > stanza_limit(&self.gate.config(), grant.pair())
        {
            return Err(Failure::malformed(&Fault::xml(xml::Fault::ElementTooBig)));
        }
        match (grant, frames.framer().header()) {
            (Some(grant), Some(header)) => {
                self.intake.stanza(wire.input(), header, tag, len, grant);
                self.came = now;
            }
            // Without a grant nothing is batched, so it stands at the front.
            _ => {
                wire.input().advance(len);
                if let Some(receipts) = self.intake.receipts() {
                    receipts.skip();
                }
            }
        }
        Ok(())
    }

    /// Takes a token that is no stanza from the front of the input.
    fn token(&mut self, token: Token) -> Result<(), Failure> {
        let Live { wire, frames, machine, .. } = &mut *self.live;
        let mut steps = Vec::new();
        let outcome = match token.kind {
            TokenKind::Declaration | TokenKind::Space => Ok(()),
            // Nothing is answered any more.
            TokenKind::Element(_) if self.is_over => Ok(()),
            TokenKind::Header(header) => machine.header(&header, &mut steps),
            TokenKind::Element(tag) => {
                let bytes = wire.input().get(..token.len).unwrap_or_default();
                let element = frames.parse(bytes).map_err(|fault| Failure::malformed(&fault))?;
                machine.element(tag.name, &element, &mut steps)
            }
            TokenKind::Footer => Err(machine.footer()),
        };
        wire.input().advance(token.len);
        for step in steps {
            self.manage(step)?;
        }
        outcome
    }
}

fn stanza_limit(config: &Config, pair: &DomainPair) -> usize {
    decide(config, pair, Direction::Inbound).stanza_limit(&config.limits)
}
