//! What the DNSSEC state of a domain's records means for one of its endpoints: the tables of
//! RFC 7673 §3 and §4, in one function (protocol §10.1, DA-3).

use super::TlsaSet;
use crate::config::policy::Level;

/// How an answer of DNS can be trusted, when it can be used at all (RFC 4035 §4.3). Of a chain of
/// answers the least holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Security {
    /// Nobody vouches for it: the zone is not signed, or nothing is validated here.
    Insecure,
    /// Signed, from a trust anchor down to it.
    Secure,
}

/// What the SRV query said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrvState {
    /// Bogus, or no answer.
    Failed,
    /// Records that nobody vouches for.
    Insecure,
    /// No records: the endpoint is the domain itself at the port of XMPP (RFC 6120 §3.2.2).
    None,
    /// Signed records, and so are all aliases that led to them.
    Secure,
}

/// What the address queries of the target said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressState {
    /// Bogus, or no answer.
    Failed,
    /// No set of addresses that anybody vouches for.
    Insecure,
    /// At least one that is signed.
    Secure,
}

/// What the TLSA query for the endpoint said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsaState {
    /// It is signed that there are none.
    Denied,
    /// Bogus, or no answer.
    Failed,
    /// Records, or none, that nobody vouches for.
    Insecure,
    /// It was not asked, as [`wants_tlsa`] said.
    NotAsked,
    /// Signed records.
    Records(TlsaSet),
}

/// What to do with the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DanePlan {
    /// Give up on the domain for now: what DNS says of it cannot be relied on.
    Abort,
    /// The certificate must match one of these records, and nothing can replace that.
    Match(TlsaSet),
    /// DANE says nothing: other prooftypes decide, for the domain's own name alone.
    NotApplicable,
    /// DANE says nothing of the key, but that the target stands for the domain: its name will do
    /// in the certificate too.
    PkixWithTarget,
    /// Do not connect to this endpoint; another may be good.
    SkipEndpoint,
    /// There are records, but none that can be used: DANE says of the key nothing, and that the
    /// endpoint has TLS.
    Unusable(TlsaSet),
}

impl DanePlan {
    /// Where the endpoint has signed TLSA records, if it has: it must not be spoken to without TLS
    /// then, whatever it offers, be they of use otherwise or not (RFC 7673 §4 and §4.1; TLS-1). Where
    /// it is signed that there are none, that is for the rules (§3.4).
    #[must_use]
    pub fn asks_for_tls(&self) -> Option<&str> {
        match self {
            Self::Match(set) | Self::Unusable(set) => Some(&set.base),
            Self::Abort | Self::NotApplicable | Self::PkixWithTarget | Self::SkipEndpoint => None,
        }
    }

    /// What a stream to the endpoint has to reach where rules ask for `level`.
    #[must_use]
    pub fn level(&self, level: Level) -> Level {
        match self.asks_for_tls() {
            Some(_) => level.max(Level::Encrypted),
            None => level,
        }
    }
}

/// Whether the TLSA records of the endpoint are to be asked for: anything they said would be
/// unusable otherwise, and servers that break at such questions must not be asked without need
/// (RFC 7673 §3.2).
#[must_use]
pub fn wants_tlsa(srv: SrvState, address: AddressState) -> bool {
    matches!(srv, SrvState::Secure | SrvState::None) && address == AddressState::Secure
}

/// The decision for one endpoint.
#[must_use]
pub fn plan(srv: SrvState, address: AddressState, tlsa: TlsaState) -> DanePlan {
    use AddressState as A;
    use SrvState as S;
    use TlsaState as T;
    // without SRV records no other name than the domain's is delegated to
    let pkix = match srv {
        S::Failed => return DanePlan::Abort,
        S::Secure => DanePlan::PkixWithTarget,
        S::Insecure | S::None => DanePlan::NotApplicable,
    };
    match (address, tlsa) {
        (A::Failed, _) => DanePlan::SkipEndpoint,
        (A::Insecure, _) => pkix,
        (A::Secure, _) if srv == S::Insecure => pkix,
        (A::Secure, T::Failed) => DanePlan::SkipEndpoint,
        (A::Secure, T::Records(set)) if set.has_usable() => DanePlan::Match(set),
        (A::Secure, T::Records(set)) => DanePlan::Unusable(set),
        (A::Secure, T::Denied | T::Insecure | T::NotAsked) => pkix,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::{super::TlsaRecord, *};

    fn set(usage: u8) -> TlsaSet {
        TlsaSet {
            base: "xmpp.hoster.example".into(),
            records: vec![TlsaRecord { usage, selector: 1, matching: 1, data: [7; 32].into() }],
            expires: UnixTime::since_unix_epoch(Duration::from_secs(1)),
        }
    }

    #[test]
    fn every_row_of_the_table_is_decided_as_written() {
        use AddressState as A;
        use DanePlan as P;
        use SrvState as S;
        use TlsaState as T;
        let usable = || T::Records(set(3));
        let unusable = || T::Records(set(255));
        for (srv, address, tlsa, decision) in [
            // bogus / lookup error: abort
            (S::Failed, A::Secure, usable(), P::Abort),
            (S::Failed, A::Failed, T::NotAsked, P::Abort),
            // insecure: TLSA must not be used
            (S::Insecure, A::Insecure, T::NotAsked, P::NotApplicable),
            (S::Insecure, A::Secure, usable(), P::NotApplicable),
            (S::Insecure, A::Secure, T::Failed, P::NotApplicable),
            (S::Insecure, A::Failed, T::NotAsked, P::SkipEndpoint),
            // secure, addresses bogus or indeterminate
            (S::Secure, A::Failed, T::NotAsked, P::SkipEndpoint),
            // secure, no address set secure
            (S::Secure, A::Insecure, T::NotAsked, P::PkixWithTarget),
            (S::Secure, A::Insecure, usable(), P::PkixWithTarget),
            // secure, secure
            (S::Secure, A::Secure, usable(), P::Match(set(3))),
            (S::Secure, A::Secure, unusable(), P::Unusable(set(255))),
            (S::Secure, A::Secure, T::Denied, P::PkixWithTarget),
            (S::Secure, A::Secure, T::Insecure, P::PkixWithTarget),
            (S::Secure, A::Secure, T::Failed, P::SkipEndpoint),
            // no SRV records: DA-3
            (S::None, A::Secure, usable(), P::Match(set(3))),
            (S::None, A::Secure, unusable(), P::Unusable(set(255))),
            (S::None, A::Secure, T::Denied, P::NotApplicable),
            (S::None, A::Secure, T::Insecure, P::NotApplicable),
            (S::None, A::Secure, T::Failed, P::SkipEndpoint),
            (S::None, A::Insecure, T::NotAsked, P::NotApplicable),
            (S::None, A::Failed, T::NotAsked, P::SkipEndpoint),
        ] {
            let row = format!("{srv:?} {address:?} {tlsa:?}");
            assert_eq!(plan(srv, address, tlsa), decision, "{row}");
        }
    }

    #[test]
    fn tlsa_is_asked_for_where_it_can_be_used_and_nowhere_else() {
        let all = [SrvState::Failed, SrvState::Insecure, SrvState::None, SrvState::Secure];
        for srv in all {
            for address in [AddressState::Failed, AddressState::Insecure, AddressState::Secure] {
                let wanted = wants_tlsa(srv, address);
                let usable = plan(srv, address, TlsaState::Records(set(3)));
                assert_eq!(wanted, matches!(usable, DanePlan::Match(_)), "{srv:?} {address:?}");
            }
        }
    }

    #[test]
    fn tls_is_asked_for_by_signed_records_whether_they_can_be_used_or_not() {
        let plans = [DanePlan::Match(set(3)), DanePlan::Unusable(set(255))];
        for plan in &plans {
            assert_eq!(plan.asks_for_tls(), Some("xmpp.hoster.example"));
        }
        for (level, needed) in [
            (Level::Permissive, Level::Encrypted),
            (Level::Verified, Level::Encrypted),
            (Level::Encrypted, Level::Encrypted),
            (Level::Trusted, Level::Trusted),
        ] {
            for plan in &plans {
                assert_eq!(plan.level(level), needed);
            }
            for plan in [DanePlan::NotApplicable, DanePlan::PkixWithTarget] {
                assert_eq!((plan.asks_for_tls(), plan.level(level)), (None, level));
            }
        }
    }

    #[test]
    fn secure_is_more_than_insecure() {
        assert_eq!(Security::Secure.min(Security::Insecure), Security::Insecure);
    }
}
