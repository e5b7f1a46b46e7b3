//! Real handshakes without sockets, for tests that need [`TlsFacts`] and no runtime.

use std::sync::Arc;

use rustls::{
    ClientConnection, ServerConnection,
    pki_types::{PrivateKeyDer, ServerName},
    sign::CertifiedKey,
    version::TLS13,
};

use super::{RecordingVerifier, client_configs, provider, server_configs};
use crate::auth::{TlsFacts, pkix::testing::Issued};

/// What both sides know after a direct TLS 1.3 handshake: first the one that connected, with this
/// server name and perhaps a certificate, then the one that accepted.
pub(crate) fn facts(sni: &str, client: Option<&Issued>, server: &Issued) -> (TlsFacts, TlsFacts) {
    let verifier = Arc::new(RecordingVerifier::new());
    let key = client.map(certified);
    let config = client_configs(key.as_ref(), &[&TLS13], &verifier).unwrap().direct;
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    let config = server_configs(&certified(server), &[&TLS13], &verifier).unwrap().direct;
    let mut server = ServerConnection::new(config).unwrap();
    assert!(TlsFacts::of_client(&client, sni).is_none() && TlsFacts::of_server(&server).is_none());

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
    (TlsFacts::of_client(&client, sni).unwrap(), TlsFacts::of_server(&server).unwrap())
}

/// A certificate as rustls wants it.
pub(crate) fn certified(issued: &Issued) -> Arc<CertifiedKey> {
    let der = PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
    let key = provider().key_provider.load_private_key(der).unwrap();
    Arc::new(CertifiedKey::new(vec![issued.certificate.clone()], key))
}
