//! What a peer has proven: one success of one prooftype for one domain (RFC 7712 §7).
//!
//! A [`Proof`] is the only thing from which a domain pair can be authorized. Its fields are
//! private and its constructors few: searching for `Proof::assertion`, `Proof::pinned`,
//! `Proof::dialback` and `Proof::source_address` lists every way to be believed.

use std::fmt;

use rustls::pki_types::UnixTime;

use super::pkix::Fingerprint;
use crate::xmpp::Domain;

/// A mechanism by which a domain is proven (RFC 7712 §7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Prooftype {
    /// A certificate or key that the domain's DNSSEC-signed records name (RFC 7673, RFC 7712 §5.1).
    Dane,
    /// The authoritative server confirmed a key (XEP-0220).
    Dialback,
    /// A certificate or key that a rule names for the domain.
    Pin,
    /// A certificate that a trusted CA issued for the domain (RFC 6120 §13.7.2).
    Pkix,
    /// A certificate that the domain publishes over HTTPS (RFC 7711, RFC 7712 §5.2).
    Posh,
    /// The address that the stream comes from, on the legacy side only, where so configured.
    Source,
}

impl Prooftype {
    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dane => "dane",
            Self::Dialback => "dialback",
            Self::Pin => "pin",
            Self::Pkix => "pkix",
            Self::Posh => "posh",
            Self::Source => "source",
        }
    }
}

impl fmt::Display for Prooftype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How strong a proof is (protocol DT-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Strength {
    /// Dialback to a server that nothing but DNS led to.
    DialbackWeak,
    /// Dialback to a server that DNSSEC-secure records led to.
    DialbackDnssec,
    /// Dialback to a server whose certificate proves the domain (RFC 7712 §4.3).
    DialbackProven,
    /// [`Prooftype::Posh`].
    Posh,
    /// [`Prooftype::Pkix`].
    Pkix,
    /// [`Prooftype::Dane`].
    Dane,
    /// [`Prooftype::Pin`].
    Pin,
    /// [`Prooftype::Source`].
    Source,
}

impl Strength {
    const ALL: [Self; 8] = [
        Self::DialbackWeak,
        Self::DialbackDnssec,
        Self::DialbackProven,
        Self::Posh,
        Self::Pkix,
        Self::Dane,
        Self::Pin,
        Self::Source,
    ];

    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DialbackWeak => "dialback-weak",
            Self::DialbackDnssec => "dialback-dnssec",
            Self::DialbackProven => "dialback-proven",
            Self::Posh => "posh",
            Self::Pkix => "pkix",
            Self::Dane => "dane",
            Self::Pin => "pin",
            Self::Source => "source",
        }
    }

    /// That of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strength| strength.as_str() == word)
    }

    /// The prooftype of such proofs.
    #[must_use]
    pub fn prooftype(self) -> Prooftype {
        match self {
            Self::DialbackWeak | Self::DialbackDnssec | Self::DialbackProven => Prooftype::Dialback,
            Self::Posh => Prooftype::Posh,
            Self::Pkix => Prooftype::Pkix,
            Self::Dane => Prooftype::Dane,
            Self::Pin => Prooftype::Pin,
            Self::Source => Prooftype::Source,
        }
    }
}

/// One domain, proven by one prooftype.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    domain: Domain,
    prooftype: Prooftype,
    /// What the certificate behind it is believed by.
    strong: Option<Prooftype>,
    fingerprint: Option<Fingerprint>,
    evidence: Option<Evidence>,
    /// Dialback whose server was found by DNSSEC-secure records.
    found_securely: bool,
}

/// How much and how long a certificate proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::auth) struct Evidence {
    /// Whether DNSSEC-secure records tie the certificate to the domain.
    pub(in crate::auth) dnssec: bool,
    /// When the first of all that was relied on expires: certificates, DNS records, documents.
    pub(in crate::auth) expires: UnixTime,
}

impl Proof {
    /// States that the certificate with this fingerprint proves `domain`, as far as `evidence`.
    pub(in crate::auth) fn assertion(
        domain: Domain,
        prooftype: Prooftype,
        fingerprint: Fingerprint,
        evidence: Evidence,
    ) -> Self {
        let (strong, fingerprint, evidence) = (Some(prooftype), Some(fingerprint), Some(evidence));
        Self { domain, prooftype, strong, fingerprint, evidence, found_securely: false }
    }

    /// States that the operator names the certificate with this fingerprint for `domain`.
    pub(in crate::auth) fn pinned(domain: Domain, fingerprint: Fingerprint) -> Self {
        Self {
            domain,
            prooftype: Prooftype::Pin,
            strong: Some(Prooftype::Pin),
            fingerprint: Some(fingerprint),
            evidence: None,
            found_securely: false,
        }
    }

    /// States that the authoritative server of `domain` confirmed a key of this stream; `server`
    /// is what proved that it was the authoritative server, if anything did (protocol DT-4).
    pub(crate) fn dialback(domain: Domain, server: Option<&Self>) -> Self {
        let server = server.filter(|server| server.domain == domain);
        Self {
            domain,
            prooftype: Prooftype::Dialback,
            strong: server.and_then(|server| server.strong),
            fingerprint: server.and_then(|server| server.fingerprint),
            evidence: server.and_then(|server| server.evidence),
            found_securely: false,
        }
    }

    /// Whether the authoritative server was found by DNSSEC-secure SRV and address records.
    #[must_use]
    pub(crate) fn found_securely(self, found_securely: bool) -> Self {
        Self { found_securely, ..self }
    }

    /// States that the stream comes from an address whose users may speak for all local domains:
    /// the operator says so.
    pub(crate) fn source_address(domain: Domain) -> Self {
        Self {
            domain,
            prooftype: Prooftype::Source,
            strong: None,
            fingerprint: None,
            evidence: None,
            found_securely: false,
        }
    }

    /// The domain that is proven, and no other: a wildcard certificate proves what was asked.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether a certificate stands behind it: its own, or that of the authoritative server which
    /// confirmed the key (RFC 7712 §4.3).
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.strong.is_some()
    }

    /// By which prooftype that certificate is believed.
    #[must_use]
    pub fn strong(&self) -> Option<Prooftype> {
        self.strong
    }

    /// How it was proven.
    #[must_use]
    pub fn prooftype(&self) -> Prooftype {
        self.prooftype
    }

    /// How strong it is.
    #[must_use]
    pub fn strength(&self) -> Strength {
        match self.prooftype {
            Prooftype::Dane => Strength::Dane,
            Prooftype::Dialback if self.is_strong() => Strength::DialbackProven,
            Prooftype::Dialback if self.found_securely => Strength::DialbackDnssec,
            Prooftype::Dialback => Strength::DialbackWeak,
            Prooftype::Pin => Strength::Pin,
            Prooftype::Pkix => Strength::Pkix,
            Prooftype::Posh => Strength::Posh,
            Prooftype::Source => Strength::Source,
        }
    }

    /// The certificate that it rests on, if any.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// When the first of what it rests on expires, a certificate of the validated chain, a DNS
    /// record or a document: from then on the stream must not go on by this proof (RFC 6120 §13.7.2.3, TLS-9).
    /// None without a certificate.
    #[must_use]
    pub fn expires(&self) -> Option<UnixTime> {
        self.evidence.map(|evidence| evidence.expires)
    }

    /// Whether it rests on DNSSEC-secure records: TLSA, or an SRV delegation to a host that the
    /// certificate names in place of the domain (RFC 7673 §4.1).
    #[must_use]
    pub fn rests_on_dnssec(&self) -> bool {
        self.evidence.is_some_and(|evidence| evidence.dnssec)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_dialback_proof_rests_on_no_certificate() {
        let proof = Proof::dialback(Domain::parse("montague.example").unwrap(), None);
        assert!(!proof.is_strong());
        assert_eq!(proof.domain().as_str(), "montague.example");
        assert_eq!(proof.prooftype().as_str(), "dialback");
        assert_eq!((proof.fingerprint(), proof.expires()), (None, None));
        assert!(!proof.rests_on_dnssec());
    }

    #[test]
    fn dialback_is_as_strong_as_what_vouches_for_the_server_that_was_asked() {
        let domain = Domain::parse("montague.example").unwrap();
        let evidence =
            Evidence { dnssec: false, expires: UnixTime::since_unix_epoch(Duration::ZERO) };
        let fingerprint = Fingerprint::of(&[1][..].into());
        let server = Proof::assertion(domain.clone(), Prooftype::Posh, fingerprint, evidence);
        let asked = |server| Proof::dialback(domain.clone(), server);
        for (proof, word) in [
            (asked(None), "dialback-weak"),
            (asked(None).found_securely(true), "dialback-dnssec"),
            (asked(Some(&server)), "dialback-proven"),
            (asked(Some(&server)).found_securely(true), "dialback-proven"),
            (server.clone(), "posh"),
        ] {
            let strength = proof.strength();
            assert_eq!(strength.as_str(), word);
            assert_eq!(Strength::of_word(word), Some(strength));
            assert_eq!(strength.prooftype(), proof.prooftype());
        }
        assert_eq!(Strength::of_word("dialback"), None);
    }
}
