//! The figures: medians, a table, and JSON.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

/// One run of one subject.
#[derive(Clone, Default, Debug)]
pub(crate) struct Measured {
    /// CPU time of the subject.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Stanzas, or whatever else was done.
    pub(crate) stanzas: u64,
    pub(crate) bytes: u64,
    /// Resident memory at the end, in bytes.
    pub(crate) rss: u64,
    /// 50th and 99th percentile of the time that one took; of several starts the means.
    pub(crate) latency: Option<(Duration, Duration)>,
}

/// All runs of a scenario with one subject.
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) subject: String,
    pub(crate) runs: Vec<Measured>,
    /// What was promised, above all ratios to the byte-blind TLS relay in the same run.
    pub(crate) figures: Vec<Figure>,
}

/// A figure that has a target.
pub(crate) struct Figure {
    /// Of what.
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    /// What it should be at most, if anything was promised.
    pub(crate) target: Option<f64>,
}

/// What a run is judged by.
type Judged = fn(&Measured) -> f64;

impl Measured {
    /// Several starts as one run.
    pub(crate) fn together(starts: &[Self]) -> Self {
        let number = u32::try_from(starts.len().max(1)).unwrap_or(u32::MAX);
        let latencies: Option<Vec<_>> = starts.iter().map(|start| start.latency).collect();
        let mean = |times: Vec<Duration>| times.iter().sum::<Duration>() / number;
        Self {
            cpu: starts.iter().map(|start| start.cpu).sum(),
            wall: starts.iter().map(|start| start.wall).sum(),
            stanzas: starts.iter().map(|start| start.stanzas).sum(),
            bytes: starts.iter().map(|start| start.bytes).sum(),
            rss: starts.iter().map(|start| start.rss).max().unwrap_or_default(),
            latency: latencies.map(|latencies| {
                let (p50, p99) = latencies.into_iter().unzip();
                (mean(p50), mean(p99))
            }),
        }
    }

    /// CPU seconds for a million; microseconds for one.
    pub(crate) fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.stanzas.max(1))
    }

    fn rate(&self) -> f64 {
        count(self.stanzas) / self.wall.as_secs_f64()
    }

    fn megabytes_per_second(&self) -> f64 {
        count(self.bytes) / 1e6 / self.wall.as_secs_f64()
    }

    pub(crate) fn p50(&self) -> f64 {
        self.latency.map_or(0.0, |(p50, _)| p50.as_secs_f64() * 1e6)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.latency.map_or(0.0, |(_, p99)| p99.as_secs_f64() * 1e6)
    }
}

impl Row {
    pub(crate) fn new(scenario: &str, subject: &str, runs: Vec<Measured>) -> Self {
        Self {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            runs,
            figures: Vec::new(),
        }
    }

    /// Adds the median of the ratios of each run to the same run of `base`.
    pub(crate) fn compare(
        &mut self,
        what: &'static str,
        figure: Judged,
        base: &[Measured],
        target: Option<f64>,
    ) {
        let ratios = self.runs.iter().zip(base).map(|(ours, base)| figure(ours) / figure(base));
        self.figures.push(Figure { what, value: median(ratios.collect()), target });
    }

    fn median(&self, figure: Judged) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }

    fn json(&self) -> Value {
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|r| {
                let met = r.target.map(|target| r.value <= target);
                json!({ "of": r.what, "value": r.value, "target": r.target, "met": met })
            })
            .collect();
        let has_latency = self.runs.iter().all(|run| run.latency.is_some());
        json!({
            "scenario": self.scenario,
            "subject": self.subject,
            "runs": self.runs.len(),
            "cpu_s_per_million": self.median(Measured::cpu_per_million),
            "cpu_s_per_million_of_runs":
                self.runs.iter().map(Measured::cpu_per_million).collect::<Vec<_>>(),
            "per_second": self.median(Measured::rate),
            "mb_per_second": self.median(Measured::megabytes_per_second),
            "p50_us": has_latency.then(|| self.median(Measured::p50)),
            "p99_us": has_latency.then(|| self.median(Measured::p99)),
            "rss_bytes": self.median(|run| count(run.rss)),
            "figures": figures,
        })
    }
}

/// All of it, for machines.
pub(crate) fn json(rows: &[Row]) -> Value {
    json!({ "rows": rows.iter().map(Row::json).collect::<Vec<_>>() })
}

/// The first lines of the table.
pub(crate) fn head() -> String {
    format!(
        "{:24} {:12} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}  {}\n",
        "scenario",
        "subject",
        "CPU s/M",
        "1/s",
        "MB/s",
        "p50 us",
        "p99 us",
        "RSS MB",
        "to the byte-blind TLS relay, and what was promised",
    )
}

/// A line of the table.
pub(crate) fn line(row: &Row) -> String {
    let number = |value: f64, digits: usize| {
        if value > 0.0 { format!("{value:.digits$}") } else { "-".to_owned() }
    };
    let mut line = format!(
        "{:24} {:12} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}  ",
        row.scenario,
        row.subject,
        number(row.median(Measured::cpu_per_million), 3),
        number(row.median(Measured::rate), 0),
        number(row.median(Measured::megabytes_per_second), 1),
        number(row.median(Measured::p50), 1),
        number(row.median(Measured::p99), 1),
        number(row.median(|run| count(run.rss)) / 1e6, 1),
    );
    for Figure { what, value, target } in &row.figures {
        // Writing into a string cannot fail.
        let _ = write!(line, "{what} {value:.2}");
        if let Some(target) = target {
            let met = if value <= target { "met" } else { "NOT met" };
            let _ = write!(line, " (at most {target}: {met})");
        }
        line += "  ";
    }
    line.trim_end().to_owned() + "\n"
}

/// The 50th and the 99th percentile.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or_default()
    };
    (at(50), at(99))
}

/// The middle one; of an even number the mean of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(value)) => *value,
        _ => 0.0,
    }
}

/// A number that is small enough to be exact.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}
