//! What one stream may carry: domain pairs authorized by a proof, and the stanzas they admit.
//!
//! Only [`Ledger::authorize`] makes an [`AuthorizedPair`], only from a [`Proof`] for the pair's
//! sender domain; and only an authorized pair makes a [`Routable`]. There is no other way for a
//! stanza across the house. What fedgate itself says is no exception: errors answer a `Routable`,
//! and a ping (`auth::ping`) is made for a local domain as sender only, with nothing in it from outside.

use std::{
    any::Any,
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;

use super::{Proof, ping::Ping};
use crate::xmpp::{Domain, DomainPair, StreamCondition, jid};

/// Distinct spellings of addresses' domains, beside the canonical ones, that a ledger remembers.
const SPELLINGS_MAX: usize = 1024;

/// A domain pair that a stream may carry stanzas for, and why.
#[derive(Clone, Debug)]
pub struct AuthorizedPair(Arc<Grant>);

#[derive(Debug)]
struct Grant {
    pair: DomainPair,
    proof: Proof,
}

impl AuthorizedPair {
    /// The pair.
    #[must_use]
    pub fn pair(&self) -> &DomainPair {
        &self.0.pair
    }

    /// The proof that the stream speaks for the pair's sender domain.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.0.proof
    }

    /// Whether both are the very same grant.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// That of no other grant, as long as this one is held.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether it is held elsewhere, too: that of no ledger any more mostly is not.
    pub(crate) fn is_held_elsewhere(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Checked stanzas of one authorized pair, as bytes that may be put on another stream.
#[derive(Clone, Debug)]
pub struct Routable {
    pair: DomainPair,
    bytes: Bytes,
    stanzas: u32,
    /// Of our own: no other server has handed them over.
    is_own: bool,
    /// Let go of when the last of them is done with.
    _held: Option<Hold>,
}

/// What stanzas hold on to until the last of them is written, bounced or refused: so the stream that
/// they came on learns that they are handled (XEP-0198 §4).
pub type Hold = Arc<dyn Any + Send + Sync>;

impl Routable {
    /// Whole, checked stanzas that [`Ledger::admit`] admitted for `grant`.
    pub(crate) fn new(grant: &AuthorizedPair, bytes: Bytes, stanzas: u32) -> Self {
        Self { pair: grant.pair().clone(), bytes, stanzas, is_own: false, _held: None }
    }

    /// The same stanzas, which hold on to `held` until they are done with.
    pub(crate) fn holding(self, held: Hold) -> Self {
        Self { _held: Some(held), ..self }
    }

    /// Some of these stanzas.
    pub(crate) fn part(&self, bytes: Bytes, stanzas: u32) -> Self {
        Self { bytes, stanzas, ..self.clone() }
    }

    /// The same in memory of their own: they do not keep the buffer that they came in.
    pub(crate) fn detached(&self) -> Self {
        self.part(Bytes::copy_from_slice(&self.bytes), self.stanzas)
    }

    /// The answer to stanzas that could not be delivered: the same pair, reversed.
    pub(crate) fn reply(&self, bytes: Bytes, stanzas: u32) -> Self {
        Self { pair: self.pair.reversed(), bytes, stanzas, is_own: true, _held: None }
    }

    /// A stanza of our own, in the name of a local domain.
    pub(crate) fn ping(ping: &Ping) -> Self {
        let (pair, bytes) = (ping.pair().clone(), ping.bytes());
        Self { pair, bytes, stanzas: 1, is_own: true, _held: None }
    }

    /// The pair.
    #[must_use]
    pub fn pair(&self) -> &DomainPair {
        &self.pair
    }

    /// The stanzas, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many they are.
    #[must_use]
    pub fn stanzas(&self) -> u32 {
        self.stanzas
    }

    /// Whether they are our own: errors, or a ping.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }
}

/// Why a stanza is not admitted; the stream ends with it (protocol §13.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Inadmissible {
    /// `from` or `to` is missing, empty or no address (RFC 6120 §8.1.1.2, §8.1.2.2).
    #[error("a stanza without a valid from and to")]
    Addressing,
    /// Nothing is authorized on this stream yet (RFC 6120 §4.9.3.12).
    #[error("a stanza before authentication")]
    Unauthenticated,
    /// The domain in `from` was not proven on this stream (RFC 6120 §8.1.2.2).
    #[error("a stanza from a domain that was not proven on this stream")]
    Sender,
    /// The sender domain was proven, but not for that target (XEP-0220 §1.3).
    #[error("a stanza of a domain pair that is not authorized on this stream")]
    Pair,
}

impl Inadmissible {
    /// The stream error for it.
    #[must_use]
    pub fn condition(self) -> StreamCondition {
        match self {
            Self::Addressing => StreamCondition::ImproperAddressing,
            Self::Unauthenticated => StreamCondition::NotAuthorized,
            Self::Sender => StreamCondition::InvalidFrom,
            Self::Pair => StreamCondition::InvalidFrom,
        }
    }
}

/// The pairs of one stream.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: HashMap<DomainPair, AuthorizedPair>,
    spellings: HashMap<Box<str>, AuthorizedPair>,
    last: Option<Last>,
    key: String,
}

/// The spelling of the last admitted stanza: nearly always that of the next one too.
#[derive(Debug)]
struct Last {
    /// None: the canonical one.
    other: Option<(Box<str>, Box<str>)>,
    grant: AuthorizedPair,
}

impl Last {
    fn spelling(&self) -> (&str, &str) {
        match &self.other {
            Some((from, to)) => (from, to),
            None => self.grant.pair().names(),
        }
    }
}

/// The names of a domain pair, by which it is found without making one.
trait Names {
    fn names(&self) -> (&str, &str);
}

impl Names for DomainPair {
    fn names(&self) -> (&str, &str) {
        (self.sender.as_str(), self.target.as_str())
    }
}

impl Names for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Names + 'a> for DomainPair {
    fn borrow(&self) -> &(dyn Names + 'a) {
        self
    }
}

/// As [`DomainPair`] does.
impl Hash for dyn Names + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl PartialEq for dyn Names + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Names + '_ {}

impl Ledger {
    /// Authorizes `pair`. `None` when `proof` is for another domain than the pair's sender.
    pub fn authorize(&mut self, pair: DomainPair, proof: Proof) -> Option<AuthorizedPair> {
        if *proof.domain() != pair.sender {
            return None;
        }
        let grant = AuthorizedPair(Arc::new(Grant { pair: pair.clone(), proof }));
        self.forget_spellings();
        self.grants.insert(pair, grant.clone());
        Some(grant)
    }

    /// Withdraws a pair.
    pub fn withdraw(&mut self, pair: &DomainPair) {
        self.forget_spellings();
        self.grants.remove(pair);
    }

    /// Withdraws the pairs for which `keep` says no, and returns them.
    pub fn retain(&mut self, mut keep: impl FnMut(&AuthorizedPair) -> bool) -> Vec<DomainPair> {
        self.forget_spellings();
        let revoked: Vec<DomainPair> =
            self.grants.values().filter(|g| !keep(g)).map(|g| g.pair().clone()).collect();
        for pair in &revoked {
            self.grants.remove(pair);
        }
        revoked
    }

    /// The same as [`admit`](Self::admit) for one with the same domains, spelled alike, as the last
    /// that was admitted; none for all others. The addresses are parts of valid UTF-8.
    #[must_use]
    pub(crate) fn admit_again(&self, from: &[u8], to: &[u8]) -> Option<&AuthorizedPair> {
        let last = self.last.as_ref()?;
        let is = |jid: &[u8], domain: &str| {
            jid::domainpart_of(jid).is_some_and(|part| jid.get(part) == Some(domain.as_bytes()))
        };
        let (sender, target) = last.spelling();
        (is(from, sender) && is(to, target)).then_some(&last.grant)
    }

    /// The authorized pair of a stanza with these addresses.
    ///
    /// # Errors
    /// [`Inadmissible`], which ends the stream.
    pub fn admit(&mut self, from: &str, to: &str) -> Result<&AuthorizedPair, Inadmissible> {
        let from = jid::domainpart(from).ok_or(Inadmissible::Addressing)?;
        let to = jid::domainpart(to).ok_or(Inadmissible::Addressing)?;
        let is_known = self.last.as_ref().is_some_and(|last| last.spelling() == (from, to));
        if !is_known {
            let canonical = self.grants.get(&(from, to) as &dyn Names).cloned();
            self.last = Some(match canonical {
                Some(grant) => Last { other: None, grant },
                None => {
                    let grant = self.find(from, to)?;
                    Last { other: Some((from.into(), to.into())), grant }
                }
            });
        }
        self.last.as_ref().map(|last| &last.grant).ok_or(Inadmissible::Unauthenticated)
    }

    /// The grant of a pair that is not spelled as it is kept.
    fn find(&mut self, from: &str, to: &str) -> Result<AuthorizedPair, Inadmissible> {
        self.key.clear();
        self.key.push_str(from);
        self.key.push(' '); // in no domain that parses
        self.key.push_str(to);
        if let Some(grant) = self.spellings.get(self.key.as_str()) {
            return Ok(grant.clone());
        }
        let sender = Domain::parse(from).map_err(|_| Inadmissible::Addressing)?;
        let target = Domain::parse(to).map_err(|_| Inadmissible::Addressing)?;
        if self.grants.is_empty() {
            return Err(Inadmissible::Unauthenticated);
        }
        let pair = DomainPair::new(sender, target);
        let Some(grant) = self.grants.get(&pair) else {
            let proven = self.grants.keys().any(|p| p.sender == pair.sender);
            return Err(if proven { Inadmissible::Pair } else { Inadmissible::Sender });
        };
        if self.spellings.len() >= SPELLINGS_MAX {
            self.spellings.clear();
        }
        self.spellings.insert(self.key.as_str().into(), grant.clone());
        Ok(grant.clone())
    }

    /// The pair that a stanza is likely of whose `to` is not empty and holds no domain: one of its
    /// sender's, and whether it is surely that. None if there is none such, or the stanza is no such.
    #[must_use]
    pub fn misaddressed(&self, from: &str, to: &str) -> Option<(&AuthorizedPair, bool)> {
        let sender = Domain::parse(jid::domainpart(from)?).ok()?;
        let name = jid::domainpart(to);
        if to.is_empty() || name.is_some_and(|name| Domain::parse(name).is_ok()) {
            return None;
        }
        let read = name.and_then(Domain::as_nameprep);
        let read = read.and_then(|target| self.get(&DomainPair::new(sender.clone(), target)));
        let mut of_sender = self.iter().filter(|grant| grant.pair().sender == sender);
        let any = of_sender.next()?;
        let only = of_sender.next().is_none();
        Some(read.map_or((any, only), |grant| (grant, true)))
    }

    fn forget_spellings(&mut self) {
        self.spellings.clear();
        self.last = None;
    }

    /// All grants.
    pub fn iter(&self) -> impl Iterator<Item = &AuthorizedPair> {
        self.grants.values()
    }

    /// The grant of a pair.
    #[must_use]
    pub fn get(&self, pair: &DomainPair) -> Option<&AuthorizedPair> {
        self.grants.get(pair)
    }

    /// Whether nothing is authorized.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// How many pairs are authorized.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grants.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(sender: &str, target: &str) -> DomainPair {
        DomainPair::new(Domain::parse(sender).unwrap(), Domain::parse(target).unwrap())
    }

    fn proof(domain: &str) -> Proof {
        Proof::dialback(Domain::parse(domain).unwrap(), None)
    }

    #[test]
    fn a_proof_is_good_for_its_own_domain_only() {
        let mut ledger = Ledger::default();
        assert!(ledger.authorize(pair("b.example", "l.example"), proof("a.example")).is_none());
        assert!(ledger.is_empty());
        assert!(ledger.authorize(pair("a.example", "l.example"), proof("a.example")).is_some());
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn only_authorized_pairs_are_admitted() {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.admit("u@a.example", "l.example").unwrap_err(),
            Inadmissible::Unauthenticated
        );
        ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        for (from, to, outcome) in [
            ("u@a.example/r", "v@l.example", Ok(())),
            ("u@A.Example.", "L.EXAMPLE", Ok(())),
            ("u@b.example", "l.example", Err(Inadmissible::Sender)),
            ("l.example", "u@a.example", Err(Inadmissible::Sender)),
            ("u@a.example", "m.example", Err(Inadmissible::Pair)),
            ("", "l.example", Err(Inadmissible::Addressing)),
            ("u@a.example", "v@", Err(Inadmissible::Addressing)),
            ("a.example@b@a.example", "l.example", Err(Inadmissible::Addressing)),
            ("b.example/@a.example", "l.example", Err(Inadmissible::Sender)),
            ("sub.a.example", "l.example", Err(Inadmissible::Sender)),
        ] {
            for _ in 0..2 {
                assert_eq!(ledger.admit(from, to).map(|_| ()), outcome, "{from} {to}");
                let again = ledger.admit_again(from.as_bytes(), to.as_bytes());
                assert_eq!(again.is_some(), outcome.is_ok(), "{from} {to}");
            }
        }
    }

    #[test]
    fn whose_a_stanza_is_that_is_sent_to_no_domain() {
        let mut ledger = Ledger::default();
        ledger.authorize(pair("l.example", "strasse.example"), proof("l.example")).unwrap();
        let found = |ledger: &Ledger, from: &str, to: &str| {
            let (grant, is_sure) = ledger.misaddressed(from, to)?;
            Some((grant.pair().target.as_str().to_owned(), is_sure))
        };
        let strasse = || Some(("strasse.example".to_owned(), true));
        assert_eq!(found(&ledger, "u@l.example", "v@stra\u{df}e.example/r"), strasse());
        // a stream with one pair is of that
        assert_eq!(found(&ledger, "u@l.example", "v@foo_bar.example"), strasse());
        ledger.authorize(pair("l.example", "a.example"), proof("l.example")).unwrap();
        ledger.authorize(pair("m.example", "b.example"), proof("m.example")).unwrap();
        assert_eq!(found(&ledger, "u@l.example", "v@stra\u{df}e.example"), strasse());
        let (_, is_sure) = ledger.misaddressed("u@l.example", "v@localhost").unwrap();
        assert!(!is_sure);
        for (from, to) in [
            ("u@l.example", ""),
            ("u@l.example", "v@b.example"),
            ("u@x.example", "v@localhost"),
            ("", "v@localhost"),
        ] {
            assert_eq!(found(&ledger, from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn a_withdrawn_pair_is_forgotten_at_once() {
        let mut ledger = Ledger::default();
        ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        ledger.authorize(pair("b.example", "l.example"), proof("b.example")).unwrap();
        ledger.admit("a.example", "l.example").unwrap();
        let gone = ledger.retain(|grant| grant.pair().sender.as_str() != "a.example");
        assert_eq!(gone, [pair("a.example", "l.example")]);
        assert!(ledger.admit_again(b"a.example", b"l.example").is_none());
        assert_eq!(ledger.admit("a.example", "l.example").unwrap_err(), Inadmissible::Sender);
        assert!(ledger.admit("b.example", "l.example").is_ok());
    }

    #[test]
    fn the_cache_of_spellings_mixes_nothing_up() {
        let mut ledger = Ledger::default();
        ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        ledger.admit("a.example", "l.example").unwrap();
        for (from, to) in [
            ("a.example l.example", "l.example"),
            ("a.example", "l.example l.example"),
            ("a.example l.example", "x.example"),
            (" a.example", "l.example"),
        ] {
            assert_eq!(ledger.admit(from, to).unwrap_err(), Inadmissible::Addressing, "{from}");
        }
        assert_eq!(ledger.admit("l.example", "a.example").unwrap_err(), Inadmissible::Sender);
    }

    #[test]
    fn only_other_spellings_than_the_canonical_one_are_remembered() {
        let mut ledger = Ledger::default();
        for name in ["a.example", "b.example"] {
            ledger.authorize(pair(name, "l.example"), proof(name)).unwrap();
        }
        for from in ["a.example", "b.example", "u@a.example/r"] {
            ledger.admit(from, "l.example").unwrap();
            assert!(ledger.spellings.is_empty());
        }
        ledger.admit("B.example", "l.example").unwrap();
        assert_eq!(ledger.spellings.len(), 1);
    }

    #[test]
    fn many_spellings_take_bounded_memory() {
        let mut ledger = Ledger::default();
        let long = "abcdefghijkl.example";
        ledger.authorize(pair(long, "l.example"), proof(long)).unwrap();
        for n in 0..3 * SPELLINGS_MAX {
            let name: String = long
                .char_indices()
                .map(|(at, c)| if at < 12 && n >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            assert_eq!(ledger.admit(&name, "l.example").unwrap().pair().sender.as_str(), long);
            assert!(ledger.spellings.len() <= SPELLINGS_MAX);
        }
    }

    #[test]
    fn a_grant_made_again_takes_the_place_of_the_old_one() {
        let mut ledger = Ledger::default();
        let old = ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        assert!(ledger.admit("a.example", "l.example").unwrap().is(&old));
        let new = ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        let found = ledger.admit("a.example", "l.example").unwrap();
        assert!(found.is(&new) && !found.is(&old));
        assert_eq!(ledger.len(), 1);
        assert!(ledger.get(&pair("l.example", "a.example")).is_none(), "pairs are ordered");
    }

    #[test]
    fn answers_go_the_other_way() {
        let mut ledger = Ledger::default();
        let grant = ledger.authorize(pair("a.example", "l.example"), proof("a.example")).unwrap();
        let stanzas = Routable::new(&grant, Bytes::from_static(b"<presence/><presence/>"), 2);
        let part = stanzas.part(stanzas.bytes().slice(11..), 1);
        assert_eq!((part.pair(), part.bytes().as_ref()), (grant.pair(), &b"<presence/>"[..]));
        let reply = stanzas.reply(Bytes::new(), 0);
        assert_eq!(reply.pair(), &pair("l.example", "a.example"));
    }
}
