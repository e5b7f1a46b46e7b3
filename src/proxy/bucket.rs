//! A token bucket, kept as the time at which it is full again (the generic cell rate algorithm):
//! what is taken moves that time on, and whoever took waits until it is near enough.
//!
//! Taking always succeeds. Over any time no more is taken than the burst, what the rate gives in
//! that time, and what each of those who wait took last.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::model::Rate;

/// A bucket; it has no rate of its own, for the configuration may change.
#[derive(Debug)]
pub(super) struct Bucket {
    full: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes `amount`, and says for how long nothing more may be taken. The bucket holds what
    /// `rate` gives in the time `burst`. Exact to a nanosecond, on the strict side.
    pub(super) fn take(
        &mut self,
        amount: u64,
        rate: Rate,
        burst: Duration,
        now: Instant,
    ) -> Duration {
        let Rate::PerSecond(per_second) = rate else { return Duration::ZERO };
        let nanos = (u128::from(amount) * NANOS).div_ceil(u128::from(per_second.max(1)));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(COST_MAX);
        self.full = self.full.max(now) + cost;
        (self.full - now).saturating_sub(burst)
    }

    /// Whether it is full, so that a new one is as good.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }
}

const NANOS: u128 = 1_000_000_000;
/// No clock runs over by adding it.
const COST_MAX: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BURST: Duration = Duration::from_secs(2);
    const TEN: Rate = Rate::PerSecond(10);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_burst_comes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(20, TEN, BURST, start), Duration::ZERO, "just the burst");
        assert_eq!(bucket.take(1, TEN, BURST, start), ms(100));
        assert_eq!(bucket.take(1, TEN, BURST, start + ms(100)), ms(100));
        assert_eq!(bucket.take(5, TEN, BURST, start + ms(200)), ms(500));
    }

    #[test]
    fn it_fills_up_again_and_no_further() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        bucket.take(20, TEN, BURST, start);
        assert!(!bucket.is_full(start + ms(1999)));
        assert!(bucket.is_full(start + ms(2000)));
        let late = start + Duration::from_hours(1);
        assert_eq!(bucket.take(20, TEN, BURST, late), Duration::ZERO);
        assert_eq!(bucket.take(1, TEN, BURST, late), ms(100));
    }

    #[test]
    fn more_than_the_burst_is_paid_for_afterwards() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(100, TEN, BURST, start), ms(8000));
        assert_eq!(bucket.take(u64::MAX, TEN, BURST, start), COST_MAX + ms(8000));
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(u64::MAX, Rate::Off, BURST, start), Duration::ZERO);
        assert!(bucket.is_full(start));
    }

    proptest! {
        /// One who takes, waits as told and takes again never gets more than burst, rate and the
        /// last take; and never less than the rate.
        #[test]
        fn what_is_taken_keeps_to_the_rate(
            takes in prop::collection::vec((1u64..5000, 0u64..300), 1..200),
            per_second in 1u32..10_000,
        ) {
            let start = Instant::now();
            let (mut now, mut taken, mut idle) = (start, 0u64, Duration::ZERO);
            let mut bucket = Bucket::new(start);
            for (amount, pause) in takes {
                let before = taken;
                let wait = bucket.take(amount, Rate::PerSecond(per_second), BURST, now);
                taken += amount;
                let allowed = (now - start + BURST).as_secs_f64() * f64::from(per_second);
                prop_assert!(before as f64 <= allowed + 1e-3, "{before} > {allowed}");
                let needed = (now + wait - start).saturating_sub(idle).as_secs_f64();
                prop_assert!(needed * f64::from(per_second) <= taken as f64 + 1.0);
                idle += ms(pause);
                now += wait + ms(pause);
            }
        }
    }
}
