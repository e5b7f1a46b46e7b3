//! TLS towards peers: STARTTLS and direct TLS, accepting and connecting (RFC 7590, RFC 9325,
//! XEP-0368; TLS-1 to TLS-15).
//!
//! No certificate makes a handshake fail: it is recorded, the handshake proves possession of its
//! key, and `auth::pkix` judges it afterwards, since dialback may still carry the trust (TLS-5).
//! Both sides show the certificate of a [`CertificateStore`]; a changed store means a new
//! [`TlsContext`], and handshakes that began with the old one end with it.
//!
//! There is no session resumption and no early data on either side: every verdict on a
//! certificate rests on a full handshake (TLS-8), nothing can be resumed after `<reset/>`, and
//! there are no ticket keys to rotate. It would save a quarter of a millisecond on streams that
//! live for hours.
//!
//! Bounds: rustls takes handshake messages of up to 64 KiB, one at a time; the caller bounds the
//! time. All futures here may be dropped at any point, which closes the connection.

mod error;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verifiers;

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{DnsName, ServerName},
    server::{Acceptor, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

pub use self::error::{HandshakeError, is_certificate_alert};
use self::verifiers::RecordingVerifier;
use super::{ahead::Ahead, certificates::CertificateStore};
use crate::{auth::TlsFacts, config::model::TlsVersion, xmpp::Domain};

/// Everything for handshakes with peers, ready made.
#[derive(Debug)]
pub struct TlsContext {
    store: CertificateStore,
    /// One for each certificate of the store, in its order.
    servers: Vec<Kinds<ServerConfig>>,
    clients: Vec<Kinds<ClientConfig>>,
    without_certificate: Kinds<ClientConfig>,
}

/// How TLS starts on a connection that we accept.
#[derive(Clone, Copy, Debug)]
pub enum Accept<'a> {
    /// At once (XEP-0368).
    Direct,
    /// After `<proceed/>`.
    StartTls {
        /// The stream header's `to`.
        to: Option<&'a Domain>,
    },
}

/// How TLS starts on a connection that we open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connect {
    /// At once (XEP-0368).
    Direct,
    /// After `<proceed/>`.
    StartTls,
}

/// Which certificate we show as initiating server.
#[derive(Clone, Copy, Debug)]
pub enum ClientCertificate<'a> {
    /// That of a local domain, or else the first one.
    For(&'a Domain),
    /// None: the peer breaks the handshake off when it sees ours (EKU-3).
    Withheld,
}

/// A connection with TLS up.
#[derive(Debug)]
pub struct Secured {
    /// Reads and writes plaintext.
    pub stream: TlsStream<Ahead>,
    /// What the handshake established.
    pub facts: TlsFacts,
}

/// The same configuration with and without ALPN.
#[derive(Debug)]
struct Kinds<C> {
    direct: Arc<C>,
    starttls: Arc<C>,
}

impl TlsContext {
    /// Prepares the configurations for all certificates of a store.
    ///
    /// # Errors
    /// Those of rustls, for a provider without suites of these versions; ours has them.
    pub fn new(store: CertificateStore, min_version: TlsVersion) -> Result<Self, rustls::Error> {
        let versions = versions(min_version);
        let verifier = Arc::new(RecordingVerifier::new());
        let mut servers = Vec::new();
        let mut clients = Vec::new();
        for key in store.keys() {
            servers.push(server_configs(key, &versions, &verifier)?);
            clients.push(client_configs(Some(key), &versions, &verifier)?);
        }
        let without_certificate = client_configs(None, &versions, &verifier)?;
        Ok(Self { store, servers, clients, without_certificate })
    }

    /// The certificates in use.
    #[must_use]
    pub fn store(&self) -> &CertificateStore {
        &self.store
    }

    /// Takes the server's part of a handshake. With STARTTLS the caller has sent `<proceed/>` and
    /// made sure that no byte was read past `<starttls/>` (TLS-4).
    ///
    /// # Errors
    /// [`HandshakeError`]; the peer has been sent the alert, if one is due. Close TCP only, with
    /// no `</stream:stream>` (TLS-2).
    pub async fn accept(
        &self,
        stream: TcpStream,
        how: Accept<'_>,
    ) -> Result<Secured, HandshakeError> {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), Ahead::new(stream)).await?;
        let hello = start.client_hello();
        let sni = hello.server_name();
        let config = match how {
            Accept::Direct => {
                if let Some(name) = sni.filter(|name| !self.store.hosts(name)) {
                    let error = HandshakeError::UnknownName(name.to_owned());
                    // best effort: the connection is given up in any case
                    let _ = start.io.write_all(UNRECOGNIZED_NAME).await;
                    return Err(error);
                }
                &self.servers[self.store.select_index(sni, None)].direct
            }
            Accept::StartTls { to } => &self.servers[self.store.select_index(sni, to)].starttls,
        };
        let stream = start.into_stream(Arc::clone(config)).await?;
        let facts = TlsFacts::of_server(stream.get_ref().1).ok_or(HandshakeError::Closed)?;
        Ok(Secured { stream: stream.into(), facts })
    }

    /// Takes the client's part of a handshake. The server name is the peer's domain as A-label,
    /// never a target out of DNS (TLS-11). With STARTTLS the caller has seen `<proceed/>` and
    /// thrown away what was read past it (TLS-4).
    ///
    /// With TLS 1.3 this ends before the peer has looked at our certificate: its refusal comes
    /// with the first read, see [`is_certificate_alert`].
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn connect(
        &self,
        stream: TcpStream,
        peer: &Domain,
        how: Connect,
        certificate: ClientCertificate<'_>,
    ) -> Result<Secured, HandshakeError> {
        let mut secured = self.connect_held(stream, peer, how, certificate).await?;
        secured.stream.flush().await?;
        Ok(secured)
    }

    /// The same, but what ends the handshake goes with what is written next, or with a flush.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn connect_held(
        &self,
        stream: TcpStream,
        peer: &Domain,
        how: Connect,
        certificate: ClientCertificate<'_>,
    ) -> Result<Secured, HandshakeError> {
        let index = match certificate {
            ClientCertificate::For(domain) => Some(self.store.select_index(None, Some(domain))),
            ClientCertificate::Withheld => None,
        };
        let kinds = index.map_or(&self.without_certificate, |index| &self.clients[index]);
        let config = match how {
            Connect::Direct => &kinds.direct,
            Connect::StartTls => &kinds.starttls,
        };
        handshake(Arc::clone(config), stream, peer).await
    }
}

/// Takes the client's part of a handshake of direct TLS to see that a server answers: shows no
/// certificate, and takes any.
///
/// # Errors
/// [`HandshakeError`].
pub async fn look_in(stream: TcpStream, server: &Domain) -> Result<Secured, HandshakeError> {
    let verifier = Arc::new(RecordingVerifier::new());
    let config = client_configs(None, &versions(TlsVersion::V1_2), &verifier);
    let config = config.map_err(HandshakeError::Protocol)?.direct;
    let mut secured = handshake(config, stream, server).await?;
    secured.stream.flush().await?;
    Ok(secured)
}

/// What the client says last is held back, for the stream header.
async fn handshake(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    peer: &Domain,
) -> Result<Secured, HandshakeError> {
    let name = DnsName::try_from(peer.as_str())
        .map_err(|_| HandshakeError::UnknownName(peer.to_string()))?;
    let name = ServerName::DnsName(name.to_owned());
    let socket = Ahead::holding(stream);
    let connector = TlsConnector::from(config);
    let mut stream = match connector.connect(name, socket).into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut socket)) => {
            socket.release();
            // best effort: the alert, if one is due
            let _ = socket.flush().await;
            return Err(error.into());
        }
    };
    stream.get_mut().0.release();
    let facts =
        TlsFacts::of_client(stream.get_ref().1, peer.as_str()).ok_or(HandshakeError::Closed)?;
    Ok(Secured { stream: stream.into(), facts })
}

/// aws-lc with rustls' choice: AEAD suites with forward secrecy only (RFC 9325 §4).
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(super) fn versions(min: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match min {
        TlsVersion::V1_2 => vec![&TLS13, &TLS12],
        TlsVersion::V1_3 => vec![&TLS13],
    }
}

fn server_configs(
    key: &Arc<CertifiedKey>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: &Arc<RecordingVerifier>,
) -> Result<Kinds<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(Arc::clone(verifier) as _)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let starttls = Arc::new(config.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Kinds { direct: Arc::new(config), starttls })
}

fn client_configs(
    key: Option<&Arc<CertifiedKey>>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: &Arc<RecordingVerifier>,
) -> Result<Kinds<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as _);
    let mut config = match key {
        Some(key) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    let starttls = Arc::new(config.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Kinds { direct: Arc::new(config), starttls })
}

/// XEP-0368 §3 rule 9.
const ALPN: &[u8] = b"xmpp-server";

/// A TLS record with a fatal alert 112 (RFC 9325 §3.7), which rustls has no way to ask for.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
