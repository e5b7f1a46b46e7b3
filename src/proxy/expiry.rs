//! When proofs that expire are looked at again.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::time::Instant;

/// Records may say that they hold for no time at all; they are not asked for more often than this.
const SOON: Duration = Duration::from_secs(5);
/// The clock may be set meanwhile, so it is read this often at least.
const LATE: Duration = Duration::from_secs(3600);

/// How long to wait where DNS did not say whether a proof still holds,
pub(super) const UNANSWERED_WAIT: Duration = Duration::from_secs(30);
/// and how often.
pub(super) const UNANSWERED_MAX: u32 = 5;

/// When to look at a proof that expires then.
pub(super) fn look_at(expires: UnixTime) -> Instant {
    // A certificate is good to the end of its last second (RFC 5280 §4.1.2.5).
    let end = expires.as_secs().saturating_add(1);
    let left = end.saturating_sub(UnixTime::now().as_secs());
    Instant::now() + Duration::from_secs(left).clamp(SOON, LATE)
}

/// Whether it has expired.
pub(super) fn is_past(expires: UnixTime) -> bool {
    expires.as_secs() <= UnixTime::now().as_secs()
}
