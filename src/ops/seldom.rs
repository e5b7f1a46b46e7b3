//! What happens over and over is told now and again.

use std::time::Duration;

use tokio::time::Instant;

/// How long the log is silent after a line about the same thing.
const SILENCE: Duration = Duration::from_secs(10);

/// What the log says of one thing that may happen over and over: the first time at once, and then
/// at most once in ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    /// How often it happened since.
    since: u64,
}

impl Seldom {
    /// It happens; how often since the last line, if there is to be another.
    pub fn again(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now < last + SILENCE) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_of_the_first_time_and_then_now_and_again() {
        let start = Instant::now();
        let mut told = Seldom::default();
        assert_eq!(told.again(start), Some(1));
        assert_eq!(told.again(start), None);
        assert_eq!(told.again(start + SILENCE / 2), None);
        assert_eq!(told.again(start + SILENCE), Some(3));
        assert_eq!(told.again(start + 3 * SILENCE), Some(1));
    }
}
