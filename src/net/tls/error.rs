//! Why a handshake did not succeed, in words; and which alerts mean our certificate (EKU-3).

use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Why a TLS handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer refused, for this reason.
    #[error("peer broke off the TLS handshake: {0}")]
    Alert(&'static str),
    /// The peer refused, and the reason is our certificate: a handshake that withholds it may
    /// succeed (EKU-3).
    #[error("peer broke off the TLS handshake over our certificate: {0}")]
    CertificateAlert(&'static str),
    /// The connection ended in the middle.
    #[error("peer closed the connection during the TLS handshake")]
    Closed,
    /// The transport failed.
    #[error("TLS handshake: {0}")]
    Io(#[source] io::Error),
    /// The first bytes are no TLS record.
    #[error("peer does not speak TLS")]
    NotTls,
    /// ALPN without `xmpp-server` (TLS-11).
    #[error("peer wants another protocol than xmpp-server (ALPN)")]
    OtherProtocol,
    /// The handshake broke a rule, or a signature in it is wrong.
    #[error("TLS handshake: {0}")]
    Protocol(#[source] Error),
    /// A server name that nobody has here, or no name at all by DNS (TLS-12).
    #[error("no such server name: {0}")]
    UnknownName(String),
    /// TLS 1.1 and below, or below the configured version (TLS-7).
    #[error("peer has no TLS version that is allowed")]
    Version,
}

impl HandshakeError {
    /// A closed label for logs and counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Alert(_) => "tls-alert",
            Self::CertificateAlert(_) => "tls-certificate-refused",
            Self::Closed => "tls-closed",
            Self::Io(_) => "tls-io",
            Self::NotTls => "not-tls",
            Self::OtherProtocol => "tls-alpn",
            Self::Protocol(_) => "tls-protocol",
            Self::UnknownName(_) => "tls-unknown-name",
            Self::Version => "tls-version",
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if let Some(name) = is_certificate_alert(&error) {
            return Self::CertificateAlert(name);
        }
        match tls_error(&error) {
            Some(Error::AlertReceived(alert)) => Self::Alert(name(*alert)),
            Some(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(Error::NoApplicationProtocol) => Self::OtherProtocol,
            Some(Error::PeerIncompatible(why)) if is_version(why) => Self::Version,
            Some(other) => Self::Protocol(other.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }
}

/// Whether an error of a TLS stream is the peer's alert about our certificate, and which one.
///
/// With TLS 1.3 it arrives after our handshake is over, with the first read. It calls for one
/// more try with [`super::ClientCertificate::Withheld`] (EKU-3).
#[must_use]
pub fn is_certificate_alert(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as A;
    match tls_error(error)? {
        Error::AlertReceived(
            alert @ (A::AccessDenied
            | A::BadCertificate
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::UnknownCA
            | A::UnsupportedCertificate),
        ) => Some(name(*alert)),
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn is_version(why: &PeerIncompatible) -> bool {
    use PeerIncompatible as P;
    matches!(
        why,
        P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            // what a hello of TLS 1.1 lacks first
            | P::SignatureAlgorithmsExtensionRequired
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
    )
}

/// An alert by its name in RFC 8446 §6 and RFC 5246 §7.2.
fn name(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::AccessDenied => "access_denied",
        A::BadCertificate => "bad_certificate",
        A::BadRecordMac => "bad_record_mac",
        A::CertificateExpired => "certificate_expired",
        A::CertificateRequired => "certificate_required",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateUnknown => "certificate_unknown",
        A::CloseNotify => "close_notify",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::HandshakeFailure => "handshake_failure",
        A::IllegalParameter => "illegal_parameter",
        A::InappropriateFallback => "inappropriate_fallback",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::MissingExtension => "missing_extension",
        A::NoApplicationProtocol => "no_application_protocol",
        A::ProtocolVersion => "protocol_version",
        A::RecordOverflow => "record_overflow",
        A::UnexpectedMessage => "unexpected_message",
        A::UnknownCA => "unknown_ca",
        A::UnrecognisedName => "unrecognized_name",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::UnsupportedExtension => "unsupported_extension",
        A::UserCanceled => "user_canceled",
        _ => "an unknown alert",
    }
}
