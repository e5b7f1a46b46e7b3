//! What was done to open a stream, step by step, so that an operator can read why it failed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::{
    auth::{
        Prooftype, TlsFacts,
        pkix::{self, CertificateInfo},
    },
    config::{model::Legacy, policy::Level},
    ops::report::Step,
    xmpp::Direction,
};

/// Steps of one attempt that are kept.
const KEPT: usize = 24;

/// The steps of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    began: Instant,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// One of them, and how many milliseconds after the beginning it was taken.
#[derive(Clone, Debug)]
struct Taken {
    ms: u64,
    what: What,
}

/// It is put in words for who wants to know, which is hardly anybody as long as all goes well.
#[derive(Clone, Debug)]
enum What {
    Said(String),
    Needed(Direction, Level),
    Reached(Arc<str>, SocketAddr),
    ReachedLegacy(Arc<Legacy>),
    Secured(Box<Secured>),
    Proven(Prooftype),
}

/// A TLS handshake.
#[derive(Clone, Debug)]
struct Secured {
    how: &'static str,
    version: &'static str,
    cipher: &'static str,
    chain: Arc<[CertificateDer<'static>]>,
}

impl Steps {
    /// An attempt begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), taken: Arc::default() }
    }

    /// Something was done, or found.
    pub(super) fn say(&self, text: impl Into<String>) {
        self.take(What::Said(text.into()));
    }

    /// What stanzas that go this way need.
    pub(super) fn needed(&self, way: Direction, level: Level) {
        self.take(What::Needed(way, level));
    }

    /// There is a connection to a peer's host.
    pub(super) fn reached(&self, host: &Arc<str>, address: SocketAddr) {
        self.take(What::Reached(Arc::clone(host), address));
    }

    /// There is one to a legacy server.
    pub(super) fn reached_legacy(&self, legacy: &Arc<Legacy>) {
        self.take(What::ReachedLegacy(Arc::clone(legacy)));
    }

    /// The certificate proves the domain.
    pub(super) fn proven(&self, by: Prooftype) {
        self.take(What::Proven(by));
    }

    /// A TLS handshake is done.
    pub(super) fn secured(&self, how: &'static str, facts: &TlsFacts) {
        let (version, cipher) = (facts.version_str(), facts.cipher_suite());
        let chain = Arc::clone(facts.peer_chain());
        self.take(What::Secured(Box::new(Secured { how, version, cipher, chain })));
    }

    fn take(&self, what: What) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() < KEPT {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if taken.len() == taken.capacity() {
                // They stay as long as the stream: no more room in reserve than that.
                taken.reserve_exact(2);
            }
            taken.push(Taken { ms, what });
        }
    }

    /// When the attempt began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The steps until now.
    pub(super) fn so_far(&self) -> Vec<Step> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        taken.into_iter().map(|Taken { ms, what }| Step { ms, text: what.into_text() }).collect()
    }

    /// All steps, in order.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.so_far()
    }
}

impl What {
    fn into_text(self) -> String {
        let Secured { how, version, cipher, chain } = match self {
            Self::Said(text) => return text,
            Self::Needed(way, level) => {
                return format!("{} stanzas need the level {}", way.as_str(), level.as_str());
            }
            Self::Reached(host, address) => return format!("connected to {host} at {address}"),
            Self::ReachedLegacy(legacy) => {
                return format!("connected to {} at {}", legacy.name, legacy.address);
            }
            Self::Proven(by) => return format!("proven by {}", by.as_str()),
            Self::Secured(secured) => *secured,
        };
        let leaf = chain.first().and_then(|leaf| CertificateInfo::of(leaf).ok());
        let shown = leaf.map_or("no certificate".to_owned(), |leaf| {
            let CertificateInfo { names, issuer, not_after, .. } = leaf;
            format!("certificate of {names} by {issuer}, until {}", pkix::utc(not_after))
        });
        format!("{how}: {version} {cipher}; {shown}")
    }
}
