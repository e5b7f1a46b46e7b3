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
