//! What every remote domain has reached so far, in each direction: the best level and the last,
//! by which proof, with which keys, and when. Against it a stream shows whether its peer comes back
//! weaker than it was, or with another key where only the key says who it is.
//!
//! Pure: facts and the time in, the comparison out. Bounded: beyond its size first what is too much of
//! the names below one domain is forgotten, so that whoever has a certificate for all of them drives out
//! only their own; then the weakest, and of equals those that were not seen for longest, so that whoever
//! proves many names by DNS alone drives out none that a certificate proves. What was refused by rule is
//! kept apart, since it takes no proof to be refused.

mod lines;

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use super::{Proof, Prooftype, Strength, pkix};
use crate::{
    config::{
        model::TlsVersion,
        policy::{Level, Pin},
    },
    xmpp::{Direction, Domain},
};

pub use lines::LineError;

/// Domains remembered, and which of them were refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    records: HashMap<Key, Record>,
    refused: HashMap<Key, u64>,
}

type Key = (Domain, Direction);

/// What a stream has shown of a remote domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    reached: Reached,
    /// Of its certificate's key.
    key: Option<KeyDigest>,
    /// Nobody but itself vouches for that certificate.
    is_self_signed: bool,
}

/// What was reached, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached {
    /// The TLS version.
    pub tls: Option<TlsVersion>,
    /// How strong the proof was; none: a stream of ours, whose other end proved nothing.
    pub strength: Option<Strength>,
    /// What the certificate behind the proof was believed by.
    pub strong: Option<Prooftype>,
    /// Seconds since 1970.
    pub at: u64,
}

/// What became of a sight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// It is news that should not be lost.
    pub is_news: bool,
    /// What was forgotten to make room for it.
    pub forgotten: Option<Forgotten>,
}

/// Records that were forgotten to make room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forgotten {
    /// How many, and
    pub records: usize,
    /// of them those of level [`Level::Trusted`].
    pub trusted: usize,
    /// The domain of two labels that most records are of, with the names below it,
    pub crowd: String,
    /// and how many those were.
    pub of_crowd: usize,
}

/// What is remembered of a domain in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// At the best level.
    pub best: Reached,
    /// The last time.
    pub last: Reached,
    /// The keys that were shown at the best level, the newest first.
    keys: Vec<KeyDigest>,
    /// They are known by nothing but having been seen.
    self_signed: bool,
}

/// SHA-256 of a `SubjectPublicKeyInfo`.
type KeyDigest = [u8; 32];

/// How a stream differs from what is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It reaches a lower level than was reached before.
    Weaker(Reached),
    /// It shows another key, or none, where self-signed certificates were shown.
    OtherKey(Reached),
    /// It shows another key, and what proved the domain then does so now.
    Renewed,
}

impl Shown {
    /// By a stream with this TLS version, proof of the remote domain and certificate.
    #[must_use]
    pub fn new(
        tls: Option<TlsVersion>,
        proof: Option<&Proof>,
        leaf: Option<&CertificateDer<'_>>,
        now: UnixTime,
    ) -> Self {
        let certificate = leaf.and_then(pkix::Outline::of);
        Self {
            reached: Reached {
                tls,
                strength: proof.map(Proof::strength),
                strong: proof.and_then(Proof::strong),
                at: now.as_secs(),
            },
            key: certificate.map(|leaf| Sha256::digest(leaf.public_key).into()),
            is_self_signed: certificate.is_some_and(|leaf| leaf.subject == leaf.issuer),
        }
    }

    /// The level that it reaches.
    #[must_use]
    pub fn level(&self) -> Level {
        self.reached.level()
    }
}

impl Reached {
    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::of(self.tls.is_some(), self.strong.is_some())
    }
}

impl Record {
    fn new(shown: &Shown) -> Self {
        Self {
            best: shown.reached,
            last: shown.reached,
            keys: shown.key.into_iter().collect(),
            self_signed: shown.level() == Level::Encrypted && shown.is_self_signed,
        }
    }

    /// The keys, as they could be pinned.
    pub fn keys(&self) -> impl Iterator<Item = Pin> {
        self.keys.iter().copied().map(Pin::Key)
    }

    fn compare(&self, shown: &Shown) -> Option<Change> {
        let (level, best) = (shown.level(), self.best.level());
        if level < best {
            return Some(Change::Weaker(self.best));
        }
        let is_known = shown.key.is_some_and(|key| self.keys.contains(&key));
        if level > best || is_known || self.keys.is_empty() {
            return None;
        }
        match level {
            Level::Trusted => shown.key.map(|_| Change::Renewed),
            _ if self.self_signed => Some(Change::OtherKey(self.best)),
            _ => None,
        }
    }

    /// Takes up what was shown; whether anything but the time is new.
    fn take(&mut self, shown: &Shown) -> bool {
        let before = self.clone();
        self.last = shown.reached;
        let (level, best) = (shown.level(), self.best.level());
        if level > best {
            *self = Self::new(shown);
        } else if level == best {
            self.best = shown.reached;
            if let Some(key) = shown.key {
                if !self.keys.contains(&key) {
                    self.keys.insert(0, key);
                    self.keys.truncate(KEYS_MAX);
                }
                self.self_signed = level == Level::Encrypted && shown.is_self_signed;
            }
        }
        let timeless = |record: &Self| {
            let reached = |reached: Reached| Reached { at: 0, ..reached };
            Self { best: reached(record.best), last: reached(record.last), ..record.clone() }
        };
        timeless(&before) != timeless(self)
    }
}

impl Memory {
    /// What is remembered of a domain.
    #[must_use]
    pub fn get(&self, domain: &Domain, direction: Direction) -> Option<&Record> {
        self.records.get(&(domain.clone(), direction))
    }

    /// All that reached something, in no order.
    pub fn records(&self) -> impl Iterator<Item = (&Domain, Direction, &Record)> {
        self.records.iter().map(|((domain, direction), record)| (domain, *direction, record))
    }

    /// Those that were refused by rule, and when, in seconds since 1970; in no order.
    pub fn refused(&self) -> impl Iterator<Item = (&Domain, Direction, u64)> {
        self.refused.iter().map(|((domain, direction), at)| (domain, *direction, *at))
    }

    /// How what a stream shows differs from what is remembered; none: in nothing.
    #[must_use]
    pub fn compare(&self, domain: &Domain, direction: Direction, shown: &Shown) -> Option<Change> {
        self.get(domain, direction)?.compare(shown)
    }

    /// Remembers what a stream has shown. The best level stays, or with `follow` becomes what was
    /// reached now.
    pub fn saw(
        &mut self,
        domain: &Domain,
        direction: Direction,
        shown: &Shown,
        follow: bool,
    ) -> Seen {
        let key = (domain.clone(), direction);
        self.refused.remove(&key);
        let is_news = match self.records.entry(key) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let is_old = shown.reached.at.saturating_sub(known.last.at) >= STALE;
                if follow && shown.level() < known.best.level() {
                    *known = Record::new(shown);
                    true
                } else {
                    known.take(shown) || is_old
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(Record::new(shown));
                return Seen { is_news: true, forgotten: self.make_room() };
            }
        };
        Seen { is_news, forgotten: None }
    }

    /// Forgets the records that are worth the least, in steps, if there are too many.
    ///
    /// Who has one domain can prove as many names below it as they like, by one certificate. All that
    /// have the last two labels in common share a bound; that may be a domain below which others
    /// have theirs, such as `co.uk`, so that within it room is made where the last three are the same.
    fn make_room(&mut self) -> Option<Forgotten> {
        if self.records.len() <= RECORDS_MAX {
            return None;
        }
        let worth = |record: &Record| (record.best.level(), record.last.at);
        let mut all: Vec<_> =
            self.records.iter().map(|(key, record)| (worth(record), 0, key)).collect();
        all.sort_unstable_by_key(|(worth, ..)| Reverse(*worth));
        rank(&mut all, 3);
        all.sort_by_key(|(_, rank, _)| *rank);
        let crowds = rank(&mut all, 2);
        all.sort_unstable_by_key(|(worth, rank, _)| (*rank < CROWD_MAX, *worth));
        all.truncate(step(RECORDS_MAX));
        let (crowd, of_crowd) = crowds.into_iter().max_by_key(|(_, count)| *count)?;
        let forgotten = Forgotten {
            records: all.len(),
            trusted: all.iter().filter(|((level, _), ..)| *level == Level::Trusted).count(),
            crowd: crowd.to_owned(),
            of_crowd,
        };
        let gone: Vec<Key> = all.into_iter().map(|(.., key)| key.clone()).collect();
        for key in gone {
            self.records.remove(&key);
        }
        Some(forgotten)
    }

    /// Forgets all of a domain, in both directions; how many records that were.
    pub fn forget(&mut self, domain: &Domain) -> usize {
        let keys = [Direction::Inbound, Direction::Outbound].map(|way| (domain.clone(), way));
        let gone = keys.iter().filter(|key| {
            let (seen, refused) = (self.records.remove(key), self.refused.remove(key));
            seen.is_some() || refused.is_some()
        });
        gone.count()
    }

    /// Remembers that a rule refused a domain, which proved nothing. Says whether that is news.
    pub fn was_refused(&mut self, domain: &Domain, direction: Direction, now: UnixTime) -> bool {
        let key = (domain.clone(), direction);
        if self.records.contains_key(&key) {
            return false;
        }
        let before = self.refused.insert(key, now.as_secs());
        bound(&mut self.refused, REFUSED_MAX);
        before.is_none_or(|before| now.as_secs().saturating_sub(before) >= STALE)
    }
}

/// Gives each the place that it has, in this order, among those whose last labels are the same; how
/// many those are.
fn rank<'k, W>(all: &mut [(W, usize, &'k Key)], labels: usize) -> HashMap<&'k str, usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (_, rank, (domain, _)) in all {
        let count = counts.entry(last_labels(domain.as_str(), labels)).or_default();
        *rank = *count;
        *count += 1;
    }
    counts
}

fn last_labels(name: &str, labels: usize) -> &str {
    let start = name.rmatch_indices('.').nth(labels - 1).map_or(0, |(dot, _)| dot + 1);
    name.get(start..).unwrap_or(name)
}

/// Makes room, in steps: forgets the oldest.
fn bound<K: Clone + Eq + Hash>(map: &mut HashMap<K, u64>, max: usize) {
    if map.len() <= max {
        return;
    }
    let mut all: Vec<_> = map.iter().map(|(key, at)| (*at, key)).collect();
    all.sort_unstable_by_key(|(at, _)| *at);
    let gone: Vec<K> = all.into_iter().take(step(max)).map(|(_, key)| key.clone()).collect();
    for key in gone {
        map.remove(&key);
    }
}

/// So many are forgotten at once, so that it is seldom that all are looked at.
const fn step(max: usize) -> usize {
    1 + max / 32
}

/// Domains remembered, each direction for itself.
const RECORDS_MAX: usize = 50_000;
/// Those of one domain of two labels and the names below it, once there are too many in all.
const CROWD_MAX: usize = 1_000;
/// Refused ones.
const REFUSED_MAX: usize = 5_000;
/// Keys of one domain: a server of its own for each of its hosts is not rare.
const KEYS_MAX: usize = 8;
/// A time is news, in seconds, when the one that was kept is older than that.
const STALE: u64 = 3600;

#[cfg(test)]
mod tests;
