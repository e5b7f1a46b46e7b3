//! Connection sharing: the streams to peers that can carry more domain pairs, and which pair may
//! join which (RFC 7712 §4.4, XEP-0220 §2.6; protocol SH-1 to SH-6, DB-24).
//!
//! A pair joins a stream only if its target is reached at the very address and port of that
//! stream, and the certificate seen there proves the target by a strong proof of its own: its name
//! in the certificate, that of the host to which signed SRV records delegate, TLSA records or a
//! POSH document. That another domain was proven by it means nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use rustls::pki_types::CertificateDer;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info};

use super::{
    dial::{Endpoint, Live},
    gate::Gate,
    judge::Errand,
    lanes::{Boarding, Call, Mailbox},
    remembering::Sight,
    rules::{self, decide},
};
use crate::{
    auth::Proof,
    config::model::TlsVersion,
    net::{
        connector::Candidates,
        targets::{Target, TargetTls},
    },
    xmpp::{Direction, Domain, DomainPair},
};

/// How long a peer that ended its stream over a pair that would join, or did not answer, is not
/// asked for such again (protocol DB-26).
const APART: Duration = Duration::from_secs(3600);
/// Addresses remembered for that.
const APART_MAX: usize = 10_000;

/// The streams that can be shared, by the peer's address.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    streams: DashMap<SocketAddr, Vec<Arc<Shared>>>,
    opening: DashMap<Place, Opening>,
    /// Bidirectional streams of peers, by the pairs that can be sent on them.
    offers: DashMap<DomainPair, Mailbox>,
    apart: DashMap<SocketAddr, Instant>,
}

/// What a stream must have in common with a pair that would join it, before any proof.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Place {
    host: Arc<str>,
    port: u16,
    tls: TargetTls,
    identity: Identity,
}

/// What of ourselves the peer sees on a stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Identity {
    /// The certificate that we show.
    certificate: Option<CertificateDer<'static>>,
    /// The language that our header declares.
    lang: Option<Arc<str>>,
}

/// Somebody is opening a stream there; the channel closes when that has come to an end.
#[derive(Debug)]
struct Opening {
    target: Domain,
    ended: watch::Receiver<()>,
}

/// A stream that can carry more pairs.
#[derive(Debug)]
pub(super) struct Shared {
    calls: Mailbox,
    address: SocketAddr,
    tls: TargetTls,
    version: TlsVersion,
    chain: Arc<[CertificateDer<'static>]>,
    identity: Identity,
    /// The target of the pair that it was opened for.
    target: Domain,
    /// The peer answers for each pair apart (XEP-0220 §2.6.2).
    errors: bool,
    pairs: AtomicUsize,
}

/// Keeps a stream in the register.
#[derive(Debug)]
pub(super) struct Registered {
    gate: Arc<Gate>,
    shared: Arc<Shared>,
}

/// One pair's attempt to join a stream.
pub(super) struct Join {
    pair: DomainPair,
    identity: Identity,
    boarding: Option<Box<Boarding>>,
    /// Held while we open a stream that others may wait for.
    opening: Option<Guard>,
    waited: bool,
}

/// Others wait while it lives.
struct Guard {
    gate: Arc<Gate>,
    place: Place,
    _ended: watch::Sender<()>,
}

/// A pair can be sent on a stream that the peer opened, while this lives.
pub(super) struct Offer {
    gate: Arc<Gate>,
    pair: DomainPair,
    calls: Mailbox,
}

impl Sharing {
    /// Puts a pair on the bidirectional stream that its target has opened to us, if there is one
    /// (XEP-0288).
    ///
    /// # Errors
    /// The boarding again, if there is none.
    pub(super) fn board_return(&self, boarding: Box<Boarding>) -> Result<(), Box<Boarding>> {
        // Our header there declares English.
        let lang = boarding.route.lang().map(|lang| &**lang);
        if !matches!(lang, None | Some("en")) {
            return Err(boarding);
        }
        let offer = self.offers.get(boarding.route.pair()).map(|offer| offer.clone());
        let Some(calls) = offer else { return Err(boarding) };
        match calls.put(Call::Board(boarding)) {
            Err(Call::Board(boarding)) => Err(boarding),
            Ok(_) | Err(Call::Stanzas(..)) => Ok(()),
        }
    }

    /// The peer at this address ended a stream over a pair that would join it, or did not answer.
    pub(super) fn keep_apart(&self, address: SocketAddr) {
        info!(%address, "peer bears no further pairs on a stream: each gets one of its own");
        if self.apart.len() >= APART_MAX {
            self.apart.clear();
        }
        self.apart.insert(address, Instant::now() + APART);
    }

    fn kept_apart(&self, address: &SocketAddr) -> bool {
        self.apart.get(address).is_some_and(|until| *until > Instant::now())
    }
}

impl Registered {
    /// Enters a stream that is open, so that others can join it. None if it can't be shared.
    pub(super) fn new(
        gate: &Arc<Gate>,
        live: &Live,
        pair: &DomainPair,
        identity: &Identity,
        calls: Mailbox,
    ) -> Option<Self> {
        let endpoint = live.endpoint.as_ref()?;
        let may_share = decide(&gate.config(), pair, Direction::Outbound).multiplex();
        if !may_share || !live.machine.supports_dialback() {
            return None;
        }
        let tls = live.machine.tls()?;
        let shared = Arc::new(Shared {
            calls,
            address: endpoint.address,
            tls: endpoint.target.tls,
            version: tls.version(),
            chain: Arc::clone(tls.peer_chain()),
            identity: identity.clone(),
            target: pair.target.clone(),
            errors: live.machine.supports_errors(),
            pairs: AtomicUsize::new(1),
        });
        gate.sharing().streams.entry(shared.address).or_default().push(Arc::clone(&shared));
        Some(Self { gate: Arc::clone(gate), shared })
    }

    /// How many pairs it carries now.
    pub(super) fn carries(&self, pairs: usize) {
        self.shared.pairs.store(pairs, Ordering::Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let streams = &self.gate.sharing().streams;
        streams.remove_if_mut(&self.shared.address, |_, there| {
            there.retain(|shared| !Arc::ptr_eq(shared, &self.shared));
            there.is_empty()
        });
    }
}

impl Offer {
    /// Routes of this pair may board by `calls`.
    pub(super) fn new(gate: &Arc<Gate>, pair: DomainPair, calls: Mailbox) -> Self {
        gate.sharing().offers.insert(pair.clone(), calls.clone());
        Self { gate: Arc::clone(gate), pair, calls }
    }

    /// The pair.
    pub(super) fn pair(&self) -> &DomainPair {
        &self.pair
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let offers = &self.gate.sharing().offers;
        offers.remove_if(&self.pair, |_, calls| calls.is(&self.calls));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.gate.sharing().opening.remove(&self.place);
    }
}

impl Join {
    /// For a pair that is to get aboard by `boarding`.
    pub(super) fn new(
        gate: &Gate,
        pair: &DomainPair,
        lang: Option<Arc<str>>,
        boarding: Box<Boarding>,
    ) -> Self {
        let services = gate.services();
        let certificate = gate
            .offers_certificate(&pair.target)
            .then(|| services.tls.store().for_domain(&pair.sender))
            .and_then(|key| key.cert.first().cloned());
        Self {
            pair: pair.clone(),
            identity: Identity { certificate, lang },
            boarding: Some(boarding),
            opening: None,
            waited: false,
        }
    }

    /// The pair that joins.
    pub(super) fn pair(&self) -> &DomainPair {
        &self.pair
    }

    /// What of ourselves the peer sees.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The boarding, unless it was used up by joining.
    pub(super) fn into_boarding(self) -> Option<Box<Boarding>> {
        self.boarding
    }

    /// Joins a stream to one of these addresses, if one is open or being opened there and its
    /// certificate proves the pair's target. Waits once for a stream that is being opened.
    pub(super) async fn join(&mut self, gate: &Arc<Gate>, at: Candidates<'_>) -> bool {
        if self.board(gate, at).await {
            return true;
        }
        let apart = at.addresses.iter().all(|address| gate.sharing().kept_apart(address));
        if self.waited || self.opening.is_some() || apart {
            return false;
        }
        let Target { host, port, tls, delegation, .. } = at.target;
        let place = Place {
            host: Arc::clone(host),
            port: *port,
            tls: *tls,
            identity: self.identity.clone(),
        };
        let mut ended = match gate.sharing().opening.entry(place.clone()) {
            Entry::Vacant(entry) => {
                let (sender, ended) = watch::channel(());
                entry.insert(Opening { target: self.pair.target.clone(), ended });
                self.opening = Some(Guard { gate: Arc::clone(gate), place, _ended: sender });
                return false;
            }
            // Where nothing ties the domain to the host, its certificate may well be another.
            Entry::Occupied(entry)
                if delegation.until().is_some() || entry.get().target == self.pair.target =>
            {
                entry.get().ended.clone()
            }
            Entry::Occupied(_) => return false,
        };
        self.waited = true;
        // It never changes: it closes.
        let _ = ended.changed().await;
        self.board(gate, at).await
    }

    async fn board(&mut self, gate: &Arc<Gate>, at: Candidates<'_>) -> bool {
        let config = gate.config();
        let decision = decide(&config, &self.pair, Direction::Outbound);
        let is_denied = rules::allowed_by(&decision, &self.pair.target).is_err();
        if is_denied || !decision.multiplex() {
            return false;
        }
        for address in at.addresses {
            let sharing = gate.sharing();
            if sharing.kept_apart(address) {
                continue;
            }
            let there = sharing.streams.get(address).map(|there| there.clone()).unwrap_or_default();
            let max = config.limits.pairs_per_stream;
            for shared in there {
                if shared.tls != at.target.tls
                    || shared.identity != self.identity
                    || shared.pairs.load(Ordering::Relaxed) >= max
                    || !(shared.errors || shared.target == self.pair.target)
                {
                    continue;
                }
                let endpoint = Endpoint {
                    address: *address,
                    target: at.target.clone(),
                    plan: at.plan.clone(),
                    security: at.security,
                };
                let errand = Errand::of(address.ip(), Instant::now() + config.limits.connect);
                let remote = &self.pair.target;
                let judged =
                    gate.accept_endpoint(&shared.chain, &decision, remote, &endpoint, errand);
                let suited = judged.await.map_err(|why| why.to_string()).and_then(|proof| {
                    // It was opened for another pair, of which the rules may want less.
                    let sight = Sight {
                        pair: &self.pair,
                        direction: Direction::Outbound,
                        tls: Some(shared.version),
                        proof: Some(&proof),
                        chain: &shared.chain,
                    };
                    gate.suffices(&decision, &sight).map_err(|why| why.to_string())?;
                    Ok(proof)
                });
                match suited {
                    Ok(proof) => {
                        if self.call(&shared, proof) {
                            return true;
                        }
                    }
                    Err(why) => {
                        debug!(pair = %self.pair, %address, detail = why, "stream not shared");
                    }
                }
            }
        }
        false
    }

    fn call(&mut self, shared: &Shared, proof: Proof) -> bool {
        let Some(mut boarding) = self.boarding.take() else { return false };
        boarding.proof = Some(proof);
        boarding.chain = Some(Arc::clone(&shared.chain));
        match shared.calls.put(Call::Board(boarding)) {
            Ok(_) => true,
            // It ended just now.
            Err(Call::Board(boarding)) => {
                self.boarding = Some(boarding);
                false
            }
            Err(Call::Stanzas(..)) => false,
        }
    }
}
