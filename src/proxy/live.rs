//! The streams that are open now, as the admin interface shows them. Each leg and each route keeps
//! its entry by a [`LiveStream`], which takes it away again when it is dropped. Stanzas are counted
//! in atomics; a lock is taken only when a stream gets further, or somebody looks.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::berths::{Berth, Berths};
use crate::{
    auth::{Proof, TlsFacts, pkix::CertificateInfo},
    config::policy::Level,
    ops::{
        metrics::{Origin, StreamKind},
        report,
    },
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// Pairs of one stream that a report names.
const PAIRS_SHOWN: usize = 100;

/// All open streams of one fedgate.
#[derive(Debug, Default)]
pub(super) struct LiveStreams {
    open: DashMap<u64, Arc<Entry>>,
    ids: AtomicU64,
    berths: Arc<Berths>,
}

/// The entry of one stream; it is gone when this and all its clones are dropped.
#[derive(Clone, Debug)]
pub(super) struct LiveStream {
    entry: Arc<Entry>,
    presence: Arc<Presence>,
}

/// Takes an entry away when it is dropped.
#[derive(Debug)]
struct Presence {
    streams: Arc<LiveStreams>,
    id: u64,
}

/// Which way the stanzas of a pair go on a stream, as seen from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    In,
    Out,
}

/// Counts the stanzas of one pair on one stream.
#[derive(Debug)]
pub(super) struct Meter {
    pair: DomainPair,
    flow: Flow,
    stanzas: AtomicU64,
    bytes: AtomicU64,
    used: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    side: Side,
    origin: Origin,
    listener: Option<&'static str>,
    address: Option<String>,
    since: u64,
    end: CancellationToken,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    tls: Option<(&'static str, &'static str)>,
    certificate: Certificate,
    /// In the order of the pairs, of which there may be thousands.
    pairs: Vec<Granted>,
    was_authorized: bool,
    /// What of stream management there is.
    managed: &'static str,
    unacknowledged: u32,
    /// Stanzas and bytes in and out of pairs that are no longer on the stream.
    past: [u64; 4],
}

/// The peer's, which is read when somebody first looks: of most streams nobody does.
#[derive(Debug, Default)]
enum Certificate {
    /// There is none, or it cannot be read.
    #[default]
    None,
    /// The first of these.
    Unread(Arc<[CertificateDer<'static>]>),
    Read(Box<report::PeerCertificate>),
}

#[derive(Debug)]
struct Granted {
    meter: Arc<Meter>,
    proof: &'static str,
    is_strong: bool,
    /// Held as long as stanzas of the pair may come.
    _berth: Option<Arc<Berth>>,
}

impl LiveStreams {
    /// There are none yet.
    pub(super) fn new(berths: Arc<Berths>) -> Arc<Self> {
        Arc::new(Self { berths, ..Self::default() })
    }

    /// A stream begins.
    pub(super) fn enter(
        self: &Arc<Self>,
        side: Side,
        origin: Origin,
        address: Option<String>,
        listener: Option<&'static str>,
    ) -> LiveStream {
        let entry = Arc::new(Entry {
            id: self.ids.fetch_add(1, Ordering::Relaxed) + 1,
            side,
            origin,
            listener,
            address,
            since: report::now(),
            end: CancellationToken::new(),
            facts: Mutex::default(),
        });
        self.open.insert(entry.id, Arc::clone(&entry));
        let presence = Presence { streams: Arc::clone(self), id: entry.id };
        LiveStream { entry, presence: Arc::new(presence) }
    }

    /// Asks a stream to end; false if there is none of that number.
    pub(super) fn close(&self, id: u64) -> bool {
        let Some(entry) = self.open.get(&id) else { return false };
        entry.end.cancel();
        true
    }

    /// Asks all streams to end that carry a pair of that domain; returns how many.
    pub(super) fn close_domain(&self, domain: &Domain) -> usize {
        let of_domain = |entry: &Arc<Entry>| {
            let facts = entry.facts();
            facts.pairs.iter().any(|granted| granted.meter.concerns(domain))
        };
        let entries = self.entries();
        let entries = entries.iter().filter(|entry| of_domain(entry));
        entries.map(|entry| entry.end.cancel()).count()
    }

    /// All of them, in the order in which they began.
    pub(super) fn report(&self) -> Vec<report::Stream> {
        let entries = self.entries();
        entries.iter().map(|entry| entry.report(entry.pairs(PAIRS_SHOWN, |_| true))).collect()
    }

    /// Those that carry a pair of that domain, with such pairs alone.
    pub(super) fn report_with(&self, domain: &Domain) -> Vec<report::Stream> {
        let entries = self.entries();
        let with = |entry: &Arc<Entry>| {
            let pairs = entry.pairs(PAIRS_SHOWN, |meter| meter.concerns(domain));
            (!pairs.is_empty()).then(|| entry.report(pairs))
        };
        entries.iter().filter_map(with).collect()
    }

    /// One of them, with all its pairs.
    pub(super) fn report_of(&self, id: u64) -> Option<report::Stream> {
        let entry = Arc::clone(&*self.open.get(&id)?);
        Some(entry.report(entry.pairs(usize::MAX, |_| true)))
    }

    /// Every pair of every stream, and what the stream is: for sums.
    pub(super) fn pairs(&self) -> Vec<PairOnStream> {
        let mut all = Vec::new();
        for entry in self.entries() {
            let mut facts = entry.facts();
            let certificate_expires = facts.certificate.read().map(|c| c.not_after);
            all.extend(facts.pairs.iter().map(|granted| PairOnStream {
                stream: entry.id,
                kind: entry.kind(&facts),
                direction: direction(entry.side, granted.meter.flow),
                meter: Arc::clone(&granted.meter),
                proof: granted.proof,
                certificate_expires,
            }));
        }
        all
    }

    /// What they are, for the metrics.
    pub(super) fn kinds(&self) -> Vec<StreamKind> {
        self.entries().iter().map(|entry| entry.kind(&entry.facts())).collect()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.open.iter().map(|entry| Arc::clone(&entry)).collect();
        entries.sort_by_key(|entry| entry.id);
        entries
    }
}

/// One pair on one stream.
#[derive(Clone, Debug)]
pub(super) struct PairOnStream {
    pub(super) stream: u64,
    pub(super) kind: StreamKind,
    pub(super) direction: Direction,
    pub(super) meter: Arc<Meter>,
    pub(super) proof: &'static str,
    pub(super) certificate_expires: Option<u64>,
}

impl LiveStream {
    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.entry.id
    }

    /// TLS is up.
    pub(super) fn secured(&self, tls: &TlsFacts) {
        let mut facts = self.entry.facts();
        facts.tls = Some((tls.version_str(), tls.cipher_suite()));
        facts.certificate = Certificate::Unread(Arc::clone(tls.peer_chain()));
    }

    /// Whether it ever was to carry a pair.
    pub(super) fn was_authorized(&self) -> bool {
        self.entry.facts().was_authorized
    }

    /// It may carry a pair; `proof` is that of the other end, if there is any. What was counted of
    /// a pair that it carries already stays.
    pub(super) fn authorized(&self, pair: &DomainPair, flow: Flow, proof: Option<&Proof>) {
        let mut facts = self.entry.facts();
        facts.was_authorized = true;
        let proof_word = proof.map_or("none", |proof| proof.prooftype().as_str());
        let is_strong = proof.is_some_and(Proof::is_strong);
        let berth = match (self.entry.side, flow) {
            (Side::Legacy, _) => None,
            (Side::Peer, Flow::In) => self.berths().held(pair),
            // A bidirectional stream may have both ways.
            (Side::Peer, Flow::Out) => self.berths().held(&pair.reversed()),
        };
        let granted = |meter| Granted { meter, proof: proof_word, is_strong, _berth: berth };
        match facts.place_of(pair) {
            Ok(at) => {
                if let Some(before) = facts.pairs.get_mut(at) {
                    *before = granted(Arc::clone(&before.meter));
                }
            }
            Err(at) => {
                let meter = Arc::new(Meter::new(pair.clone(), flow));
                if facts.pairs.is_empty() {
                    // Most streams have no second one.
                    facts.pairs.reserve_exact(1);
                }
                facts.pairs.insert(at, granted(meter));
            }
        }
    }

    fn berths(&self) -> &Arc<Berths> {
        &self.presence.streams.berths
    }

    /// It may not carry that pair any more.
    pub(super) fn withdrawn(&self, pair: &DomainPair) {
        self.entry.facts().remove(pair);
    }

    /// Where the stanzas of a pair are counted; nowhere that shows if the stream does not have it.
    pub(super) fn meter(&self, pair: &DomainPair) -> Arc<Meter> {
        let facts = self.entry.facts();
        let found = facts.place_of(pair).ok().and_then(|at| facts.pairs.get(at));
        let unseen = || Arc::new(Meter::new(pair.clone(), Flow::In));
        found.map_or_else(unseen, |found| Arc::clone(&found.meter))
    }

    /// Stanzas are acknowledged on it, and perhaps it can be resumed (XEP-0198).
    pub(super) fn managed(&self, resumable: bool) {
        self.entry.facts().managed = if resumable { "resumable" } else { "on" };
    }

    /// So many stanzas are sent on it and not acknowledged.
    pub(super) fn unacknowledged(&self, stanzas: u32) {
        self.entry.facts().unacknowledged = stanzas;
    }

    /// Resolves when the operator wants it to end.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.entry.end
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.streams.open.remove(&self.id);
    }
}

impl Meter {
    fn new(pair: DomainPair, flow: Flow) -> Self {
        Self {
            pair,
            flow,
            stanzas: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }
    }

    /// The pair that is counted.
    pub(super) fn pair(&self) -> &DomainPair {
        &self.pair
    }

    /// Whether it is that of `pair`, and the stream still has it.
    pub(super) fn is_for(self: &Arc<Self>, pair: &DomainPair) -> bool {
        // A meter that the stream has let go of is held by its last user alone.
        Arc::strong_count(self) > 1 && self.pair == *pair
    }

    /// Stanzas went over the stream.
    pub(super) fn count(&self, stanzas: u32, bytes: usize) {
        self.stanzas.fetch_add(stanzas.into(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.used.store(report::now(), Ordering::Relaxed);
    }

    /// Stanzas, bytes, and when the last of them went, or 0.
    pub(super) fn read(&self) -> (u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.stanzas), get(&self.bytes), get(&self.used))
    }

    fn concerns(&self, domain: &Domain) -> bool {
        self.pair.sender == *domain || self.pair.target == *domain
    }
}

impl Certificate {
    fn read(&mut self) -> Option<&report::PeerCertificate> {
        if let Self::Unread(chain) = self {
            let info = chain.first().and_then(|leaf| CertificateInfo::of(leaf).ok());
            *self = info.map_or(Self::None, |info| {
                Self::Read(Box::new(report::PeerCertificate {
                    names: info.names,
                    issuer: info.issuer,
                    not_after: info.not_after.as_secs(),
                    fingerprint: info.fingerprint.to_string(),
                }))
            });
        }
        match self {
            Self::Read(certificate) => Some(certificate),
            Self::None | Self::Unread(_) => None,
        }
    }
}

impl Facts {
    /// Where a pair stands, or would.
    fn place_of(&self, pair: &DomainPair) -> Result<usize, usize> {
        self.pairs.binary_search_by(|granted| granted.meter.pair.cmp(pair))
    }

    fn remove(&mut self, pair: &DomainPair) {
        let Ok(at) = self.place_of(pair) else { return };
        let meter = self.pairs.remove(at).meter;
        let (stanzas, bytes, _) = meter.read();
        let [stanzas_in, bytes_in, stanzas_out, bytes_out] = &mut self.past;
        let (stanza_sum, byte_sum) = match meter.flow {
            Flow::In => (stanzas_in, bytes_in),
            Flow::Out => (stanzas_out, bytes_out),
        };
        *stanza_sum += stanzas;
        *byte_sum += bytes;
    }
}

impl Entry {
    /// A panic elsewhere leaves no half a fact.
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self, facts: &Facts) -> StreamKind {
        let best = facts.pairs.iter().max_by_key(|granted| granted.is_strong);
        StreamKind {
            side: self.side.as_str(),
            origin: self.origin.as_str(),
            level: level(best.map(|granted| granted.is_strong), facts.tls.is_some()),
            proof: best.map_or("none", |granted| granted.proof),
            tls: facts.tls.map_or("none", |(version, _)| version),
        }
    }

    fn pairs(&self, most: usize, wanted: impl Fn(&Meter) -> bool) -> Vec<report::Pair> {
        let facts = self.facts();
        let shown = facts.pairs.iter().filter(|granted| wanted(&granted.meter)).take(most);
        let pair = |granted: &Granted| {
            let (stanzas, bytes, _) = granted.meter.read();
            let pair = &granted.meter.pair;
            report::Pair {
                sender: pair.sender.to_unicode(),
                target: pair.target.to_unicode(),
                direction: direction(self.side, granted.meter.flow).as_str().to_owned(),
                proof: granted.proof.to_owned(),
                stanzas,
                bytes,
            }
        };
        shown.map(pair).collect()
    }

    fn report(&self, pairs: Vec<report::Pair>) -> report::Stream {
        let mut facts = self.facts();
        let certificate = facts.certificate.read().cloned();
        let [mut stanzas_in, mut bytes_in, mut stanzas_out, mut bytes_out] = facts.past;
        let mut last = 0;
        for granted in &facts.pairs {
            let (stanzas, bytes, used) = granted.meter.read();
            last = last.max(used);
            match granted.meter.flow {
                Flow::In => (stanzas_in, bytes_in) = (stanzas_in + stanzas, bytes_in + bytes),
                Flow::Out => (stanzas_out, bytes_out) = (stanzas_out + stanzas, bytes_out + bytes),
            }
        }
        let text = |text: &'static str| text.to_owned();
        report::Stream {
            id: self.id,
            side: text(self.side.as_str()),
            origin: text(self.origin.as_str()),
            listener: self.listener.map(text),
            address: self.address.clone(),
            tls: facts.tls.map(|(version, _)| text(version)),
            cipher: facts.tls.map(|(_, cipher)| text(cipher)),
            sm: text(if facts.managed.is_empty() { "off" } else { facts.managed }),
            unacknowledged: facts.unacknowledged.into(),
            certificate,
            level: text(self.kind(&facts).level),
            since: self.since,
            used: last.max(self.since),
            pairs,
            pairs_total: facts.pairs.len() as u64,
            stanzas_in,
            stanzas_out,
            bytes_in,
            bytes_out,
        }
    }
}

/// Which way stanzas cross the border that come in from, or go out to, a side.
pub(super) fn direction(side: Side, flow: Flow) -> Direction {
    match (side, flow) {
        (Side::Peer, Flow::In) | (Side::Legacy, Flow::Out) => Direction::Inbound,
        (Side::Peer, Flow::Out) | (Side::Legacy, Flow::In) => Direction::Outbound,
    }
}

/// The level that is reached (XEP-0238): `strong` tells whether a certificate stands behind the
/// proof, and is none before there is a pair.
fn level(strong: Option<bool>, tls: bool) -> &'static str {
    strong.map_or("none", |strong| Level::of(tls, strong).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn pair(sender: &str, target: &str) -> DomainPair {
        DomainPair::new(domain(sender), domain(target))
    }

    #[test]
    fn a_stream_is_shown_while_its_handle_lives() {
        let streams = Arc::new(LiveStreams::default());
        let address = "192.0.2.1:5269".to_owned();
        let stream = streams.enter(Side::Peer, Origin::Accepted, Some(address), Some("public"));
        let shown = streams.report();
        assert_eq!((shown[0].id, &*shown[0].level, shown[0].pairs_total), (1, "none", 0));
        assert_eq!(shown[0].address.as_deref(), Some("192.0.2.1:5269"));
        drop(stream);
        assert_eq!(streams.report(), []);
        assert!(streams.report_of(1).is_none());
    }

    #[test]
    fn stanzas_count_for_their_pair_and_stay_with_the_stream_when_it_goes() {
        let streams = Arc::new(LiveStreams::default());
        let stream = streams.enter(Side::Peer, Origin::Accepted, None, None);
        let (a, b) = (pair("a.example", "old.example"), pair("b.example", "old.example"));
        let proof = Proof::dialback(domain("a.example"), None);
        stream.authorized(&a, Flow::In, Some(&proof));
        stream.authorized(&b, Flow::In, Some(&proof));
        stream.meter(&a).count(2, 100);
        stream.meter(&b).count(3, 50);
        stream.meter(&pair("c.example", "old.example")).count(100, 100);
        stream.withdrawn(&a);
        let shown = &streams.report()[0];
        assert_eq!((shown.stanzas_in, shown.bytes_in, shown.stanzas_out), (5, 150, 0));
        assert_eq!(shown.pairs.len(), 1);
        assert_eq!((shown.pairs[0].stanzas, &*shown.pairs[0].direction), (3, "inbound"));
        assert_eq!(&*shown.pairs[0].proof, "dialback");
    }

    #[test]
    fn of_one_domain_there_is_every_stream_however_many_pairs_it_has() {
        let streams = Arc::new(LiveStreams::default());
        let many = streams.enter(Side::Legacy, Origin::Accepted, None, None);
        let other = streams.enter(Side::Peer, Origin::Opened, None, None);
        for n in 0..2 * PAIRS_SHOWN {
            many.authorized(&pair("old.test", &format!("d{n:03}.test")), Flow::In, None);
        }
        other.authorized(&pair("old.test", "d007.test"), Flow::Out, None);
        let last = pair("old.test", "z.test");
        many.authorized(&last, Flow::In, None);
        many.meter(&last).count(3, 30);
        let shown = streams.report_with(&domain("z.test"));
        let [shown] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!((shown.id, shown.pairs_total, shown.stanzas_in), (many.id(), 201, 3));
        let targets: Vec<_> = shown.pairs.iter().map(|pair| &*pair.target).collect();
        assert_eq!(targets, ["z.test"]);
        // a local domain has more than are shown
        let shown = streams.report_with(&domain("old.test"));
        assert_eq!(shown.iter().map(|s| s.pairs.len()).collect::<Vec<_>>(), [PAIRS_SHOWN, 1]);
        assert_eq!(streams.report_with(&domain("nobody.test")), []);
    }

    #[test]
    fn what_goes_out_on_a_stream_of_ours_is_outbound_to_a_peer_and_inbound_to_the_legacy_server() {
        let streams = Arc::new(LiveStreams::default());
        let there = streams.enter(Side::Peer, Origin::Opened, None, None);
        let back = streams.enter(Side::Legacy, Origin::Opened, None, None);
        let (outbound, inbound) = (pair("old.test", "a.test"), pair("a.test", "old.test"));
        there.authorized(&outbound, Flow::Out, None);
        back.authorized(&inbound, Flow::Out, None);
        there.meter(&outbound).count(1, 10);
        let shown = streams.report();
        let directions: Vec<_> = shown.iter().map(|s| &*s.pairs[0].direction).collect();
        assert_eq!(directions, ["outbound", "inbound"]);
        assert_eq!((shown[0].stanzas_out, shown[0].stanzas_in), (1, 0));
        assert_eq!(streams.close_domain(&domain("a.test")), 2);
        assert!(there.end().is_cancelled() && back.end().is_cancelled());
        assert!(!streams.close(99));
    }

    #[test]
    fn levels_are_those_of_xep_0238() {
        assert_eq!(level(None, true), "none");
        assert_eq!(level(Some(false), false), "verified");
        assert_eq!(level(Some(false), true), "encrypted");
        assert_eq!(level(Some(true), true), "trusted");
    }
}
