//! Who takes part.

/// The legacy server's domain, and the file of fedgate's certificate.
pub(crate) const LEGACY: &str = "legacy.test";
/// The file of the certificate that all peers have.
pub(crate) const PEERS: &str = "peers";
/// Domains that have a connection each.
pub(crate) const PEERS_PATTERN: &str = "*.peers.test";

/// Domains that share the connections to their server.
pub(crate) const SHARED_PATTERN: &str = "*.shared.test";
/// A certificate that proves none of them, and its file.
pub(crate) const STRANGERS: &str = "stranger.test";

/// The domain of a peer; all are of the same length.
pub(crate) fn peer(number: usize) -> String {
    format!("p{number:05}.peers.test")
}

/// The number of a peer.
pub(crate) fn number(domain: &str) -> Option<usize> {
    domain.strip_prefix('p')?.split('.').next()?.parse().ok()
}
