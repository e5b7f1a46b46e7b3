//! Certificates, and handshakes in which they were shown. They are new in every process; nothing
//! that a target does depends on their bytes.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use fedgate::{
    auth::{
        Proof, TlsFacts, pin,
        pkix::{self, Fingerprint, ReferenceIds, TrustRoots},
        posh::{self, Document},
    },
    config::policy::Pin,
    xmpp::Domain,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
};

/// Seconds since the epoch at which certificates are judged: in 2030, for they are good from 2020
/// to 2040.
pub(crate) const NOW: u64 = 1_900_000_000;
/// For how long what a domain publishes holds.
const PUBLISHED: u64 = 3600;

/// What everybody knows of everybody.
pub(crate) struct Certificates {
    roots: TrustRoots,
    peer: CertificateDer<'static>,
    /// Of a connection that a peer opened to us with its certificate.
    pub(crate) with_certificate: TlsFacts,
    /// Of one without.
    pub(crate) anonymous: TlsFacts,
    /// Of one that we opened to a peer.
    pub(crate) opened: TlsFacts,
}

/// How something may be proven.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// The certificate names it, and a CA issued that; else as by [`By::Posh`].
    Pkix,
    /// The domain publishes the certificate; for an hour.
    Posh,
    /// The operator names the certificate.
    Pin,
}

impl Certificates {
    pub(crate) fn get() -> &'static Self {
        static ALL: LazyLock<Certificates> = LazyLock::new(Certificates::make);
        &ALL
    }

    fn make() -> Self {
        let (from, to) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (from, to);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let issue = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            (params.not_before, params.not_after) = (from, to);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
            (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        };
        let peer = issue(&["capulet.example", "*.capulet.example", "strict.example"]);
        let us = issue(&["montague.example"]);
        let (_, with_certificate) = handshake(&ca, Some(&peer), &us, "montague.example");
        let (_, anonymous) = handshake(&ca, None, &us, "montague.example");
        let (opened, _) = handshake(&ca, Some(&us), &peer, "capulet.example");
        let mut roots = TrustRoots::new();
        roots.add(&ca).unwrap();
        Self { roots, peer: peer.0, with_certificate, anonymous, opened }
    }

    /// A proof that the peer's certificate is one of `domain`.
    pub(crate) fn proof(&self, by: By, domain: &Domain) -> Proof {
        let chain = std::slice::from_ref(&self.peer);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
        match by {
            By::Pkix => pkix::verify(chain, &self.roots, ReferenceIds::of(domain), now)
                .unwrap_or_else(|_| self.proof(By::Posh, domain)),
            By::Posh => {
                let text = posh::write(chain, Duration::from_secs(PUBLISHED));
                let Ok(Document::Fingerprints(document)) = Document::parse(text.as_bytes()) else {
                    panic!("{text}")
                };
                match posh::verify(chain, &document.material(None, now), domain, now) {
                    posh::Outcome::Match(proof) => proof,
                    other => panic!("{other:?}"),
                }
            }
            By::Pin => {
                let pin = Pin::Certificate(*Fingerprint::of(&self.peer).as_bytes());
                pin::verify(&[pin], chain, domain).unwrap()
            }
        }
    }
}

type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// What both ends of a finished TLS handshake know: first who connected.
fn handshake(
    ca: &CertificateDer<'static>,
    client: Option<&Shown>,
    server: &Shown,
    name: &str,
) -> (TlsFacts, TlsFacts) {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(&roots));
    let config = match client {
        Some((leaf, key)) => config.with_client_auth_cert(vec![leaf.clone()], key.clone_key()),
        None => Ok(config.with_no_client_auth()),
    };
    let server_name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config.unwrap()), server_name).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.0.clone()], server.1.clone_key())
        .unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    let facts = (TlsFacts::of_client(&client, name), TlsFacts::of_server(&server));
    (facts.0.unwrap(), facts.1.unwrap())
}
