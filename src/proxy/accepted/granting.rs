//! What follows when a pair was granted on an accepted stream, or refused.

use tokio::time::Instant;
use tracing::info;

use super::{Leg, managing::SPEAKS_WITHIN};
use crate::{
    auth::{TlsFacts, ledger::AuthorizedPair},
    config::policy::Level,
    ops::metrics::Origin,
    proxy::{
        events::About,
        failures::{Attempt, Key},
        live::{self, Flow},
    },
    stream::Authentication,
    xmpp::{Direction, DomainPair, Side},
};

impl Leg {
    pub(super) fn granted(&mut self, grant: &AuthorizedPair, how: Authentication) {
        self.admit_stanzas_of(grant.pair());
        if how == Authentication::External {
            // It is known now who has come again since before SASL.
            self.keep_places();
        }
        self.used = Instant::now();
        self.schedule_for(grant.pair());
        let tls = self.machine.tls();
        let proof = grant.proof().prooftype().as_str();
        let metrics = self.gate.metrics();
        metrics.authorized(self.side, proof);
        let is_first = !self.live.was_authorized();
        if is_first {
            let seconds = self.accepted.elapsed().as_secs_f64();
            metrics.negotiated(self.side, Origin::Accepted, seconds);
        }
        self.live.authorized(grant.pair(), Flow::In, Some(grant.proof()));
        if self.side == Side::Peer {
            let key = self.key(grant.pair());
            self.gate.failures().succeeded(self.direction(), &key);
            self.gate.failures().daily().succeeded(&key);
        }
        self.gate.events().tell("authorized", self.about(grant.pair()), || {
            let tls = tls.map_or("no TLS", TlsFacts::version_str);
            format!("{proof}, {tls}, {}", self.address.ip())
        });
        info!(
            stream = self.live.id(),
            side = self.side.as_str(),
            direction = self.direction().as_str(),
            pair = %grant.pair(),
            addr = %self.address.ip(),
            tls = tls.map(TlsFacts::version_str),
            entry = self.entry.as_str(),
            cipher = tls.map(TlsFacts::cipher_suite),
            reached = Level::of(tls.is_some(), grant.proof().is_strong()).as_str(),
            proof,
            strength = (self.side == Side::Peer).then(|| grant.proof().strength().as_str()),
            auth = how.as_str(),
            bidi = self.machine.is_bidirectional().then_some(true),
            ms = self.accepted.elapsed().as_millis() as u64,
            "stream negotiated"
        );
        if self.side == Side::Peer {
            let (address, version) = (Some(self.address.ip()), tls.map(TlsFacts::version));
            let (pair, proof) = (grant.pair(), Some(grant.proof()));
            self.gate.report(pair, Direction::Inbound, address, version, proof);
            self.remember(pair);
            // EXTERNAL cannot be held back until the legacy server takes the pair; so the way
            // there is opened before the first stanza comes.
            let lang = self.intake.lang();
            drop(self.gate.routes().get(&self.gate, self.intake.onward(), grant.pair(), lang));
            let is_new = is_first || how == Authentication::External;
            if is_new && self.machine.may_be_managed() {
                self.quiet = Some(Instant::now() + SPEAKS_WITHIN);
            }
            self.offer_return(grant);
        }
    }

    pub(super) fn refused(&self, pair: &DomainPair, detail: String) {
        info!(pair = %pair, detail, addr = %self.address.ip(), "domain pair refused");
        self.gate.metrics().not_negotiated(self.side, Origin::Accepted, "refused");
        self.gate.events().tell("refused", self.about(pair), || detail.clone());
        // What the legacy server is refused failed towards the peer, which has its own record.
        if self.side == Side::Peer {
            let attempt = Attempt::new("auth", "rejected", detail);
            self.gate.failures().refused(self.direction(), self.key(pair), attempt);
        }
    }

    /// Which way the stanzas go that come in on this stream.
    pub(super) fn direction(&self) -> Direction {
        live::direction(self.side, Flow::In)
    }

    /// A pair of this stream, as the operator sees it.
    fn key(&self, pair: &DomainPair) -> Key {
        Key::of(pair, self.direction())
    }

    fn about<'a>(&self, pair: &'a DomainPair) -> About<'a> {
        About::stream(self.live.id(), self.direction()).of(pair)
    }
}
