//! Stanzas and bytes of the last minutes, for the charts.

use std::collections::VecDeque;

use crate::ops::{metrics::Totals, report};

/// Between two samples.
pub(super) const SECONDS: u64 = 2;
/// Samples kept: five minutes.
const SAMPLES: usize = 150;

/// Stanzas in, stanzas out, bytes in, bytes out.
type Sample = [u64; 4];

/// Makes samples of counters.
#[derive(Debug)]
pub(super) struct Sampler {
    last: Sample,
    samples: VecDeque<Sample>,
}

impl Sampler {
    pub(super) fn new(totals: &Totals) -> Self {
        Self { last: of(totals), samples: VecDeque::with_capacity(SAMPLES) }
    }

    /// What came since the last time.
    pub(super) fn take(&mut self, totals: &Totals) {
        let now = of(totals);
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        let since: Vec<_> =
            now.iter().zip(self.last).map(|(now, last)| now.saturating_sub(last)).collect();
        self.samples.push_back(since.try_into().unwrap_or_default());
        self.last = now;
    }

    pub(super) fn report(&self) -> report::History {
        let column = |n: usize| {
            self.samples.iter().map(|sample| sample.get(n).copied().unwrap_or_default()).collect()
        };
        report::History {
            seconds: SECONDS,
            stanzas_in: column(0),
            stanzas_out: column(1),
            bytes_in: column(2),
            bytes_out: column(3),
        }
    }
}

fn of(totals: &Totals) -> Sample {
    [totals.from_peers, totals.from_legacy, totals.bytes_from_peers, totals.bytes_from_legacy]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ops::metrics::Metrics, xmpp::Side};

    #[test]
    fn a_sample_is_what_came_since_the_last_and_the_oldest_go() {
        let metrics = Metrics::new();
        metrics.accepted(Side::Peer, 5, 50);
        let mut sampler = Sampler::new(&metrics.totals());
        metrics.accepted(Side::Peer, 2, 20);
        metrics.accepted(Side::Legacy, 1, 10);
        sampler.take(&metrics.totals());
        sampler.take(&metrics.totals());
        let history = sampler.report();
        assert_eq!((history.stanzas_in, history.stanzas_out), (vec![2, 0], vec![1, 0]));
        assert_eq!((history.bytes_in, history.bytes_out), (vec![20, 0], vec![10, 0]));
        for _ in 0..SAMPLES {
            sampler.take(&metrics.totals());
        }
        let history = sampler.report();
        assert_eq!(history.stanzas_in.len(), SAMPLES);
        assert_eq!(history.stanzas_in.iter().sum::<u64>(), 0);
    }
}
