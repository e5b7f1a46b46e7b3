//! What a finished TLS handshake established: the evidence that a stream is encrypted.
//!
//! A [`TlsFacts`] is only made from a rustls connection whose handshake is complete, so a machine
//! that holds one cannot be on a plain stream (RFC 6120 §5.3.4, TLS-15). It says what happened and
//! nothing of trust: the certificate chain is as the peer sent it, with possession of the leaf's
//! key proven by the handshake, and is judged by [`super::pkix::verify`].

use std::sync::Arc;

use rustls::{
    ClientConnection, CommonState, ProtocolVersion, ServerConnection, pki_types::CertificateDer,
};

use crate::config::model::TlsVersion;

/// What a finished handshake established.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    version: ProtocolVersion,
    cipher_suite: &'static str,
    peer_chain: Arc<[CertificateDer<'static>]>,
    alpn: Option<Box<[u8]>>,
    sni: Option<Box<str>>,
}

impl TlsFacts {
    /// The facts of a connection that we accepted; none while it is handshaking.
    #[must_use]
    pub fn of_server(connection: &ServerConnection) -> Option<Self> {
        Self::of(connection, connection.server_name())
    }

    /// The facts of a connection that we opened with this server name; none while it is
    /// handshaking.
    #[must_use]
    pub fn of_client(connection: &ClientConnection, sni: &str) -> Option<Self> {
        Self::of(connection, Some(sni))
    }

    fn of(state: &CommonState, sni: Option<&str>) -> Option<Self> {
        if state.is_handshaking() {
            return None;
        }
        Some(Self {
            version: state.protocol_version()?,
            cipher_suite: state.negotiated_cipher_suite()?.suite().as_str().unwrap_or("unknown"),
            peer_chain: state.peer_certificates().unwrap_or_default().into(),
            alpn: state.alpn_protocol().map(Into::into),
            sni: sni.map(Into::into),
        })
    }

    /// `TLSv1.2` or `TLSv1.3`.
    #[must_use]
    pub fn version_str(&self) -> &'static str {
        match self.version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "unknown",
        }
    }

    /// The version as the configuration knows it; what is none of those counts as the lowest.
    #[must_use]
    pub fn version(&self) -> TlsVersion {
        match self.version {
            ProtocolVersion::TLSv1_3 => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        }
    }

    /// The cipher suite, as rustls writes its name.
    #[must_use]
    pub fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
    }

    /// The certificates as the peer sent them, leaf first; empty if it sent none.
    #[must_use]
    pub fn peer_chain(&self) -> &Arc<[CertificateDer<'static>]> {
        &self.peer_chain
    }

    /// Whether the peer presented a certificate at all.
    #[must_use]
    pub fn has_peer_certificate(&self) -> bool {
        !self.peer_chain.is_empty()
    }

    /// The protocol that ALPN chose, if any (RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The server name in the client's hello: a hint, never an identity (TLS-12).
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }
}
