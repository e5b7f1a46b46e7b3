//! Start-up: from the command to open ports, with much to read.

use std::{fmt::Write as _, fs, path::Path, time::Instant};

use super::{
    report::{Measured, Row},
    stanzas::Direction,
    subject::{Extra, Subject},
};

/// What the configuration has much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Much {
    /// Nothing.
    Nothing,
    /// 10,000 local domains, and a list of 100,000 remote ones.
    Lists,
    /// 10,000 local domains, and 100,000 rules.
    Rules,
}

impl Much {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "small",
            Self::Lists => "lines-100000",
            Self::Rules => "rules-100000",
        }
    }

    fn extra(self, directory: &Path) -> anyhow::Result<Extra> {
        let mut extra = Extra::default();
        if self == Self::Nothing {
            return Ok(extra);
        }
        for number in 0..10_000 {
            write!(extra.domains, ", l{number:05}.legacy.test")?;
        }
        if self == Self::Rules {
            extra.rules = rules(100_000)?;
            return Ok(extra);
        }
        let mut list = String::new();
        for number in 0..100_000 {
            writeln!(list, "d{number:06}.spam.test")?;
        }
        let path = directory.join("spam.txt");
        fs::write(&path, list)?;
        writeln!(extra.rules, "  - match: list(spam)\n    allow: none")?;
        writeln!(extra.top, "lists: {{ spam: {{ file: {} }} }}", path.display())?;
        Ok(extra)
    }
}

/// So many rules, each for a domain that does not take part.
pub(crate) fn rules(number: usize) -> anyhow::Result<String> {
    let mut rules = String::new();
    for number in 0..number {
        writeln!(rules, "  - {{ match: d{number:06}.spam.test, allow: none }}")?;
    }
    Ok(rules)
}

/// Starts it `runs` times.
pub(crate) async fn measure(
    scenario: &str,
    subject: &Subject,
    (much, runs): (Much, usize),
    directory: &Path,
) -> anyhow::Result<Row> {
    let extra = much.extra(directory)?;
    let mut all = Vec::new();
    for _ in 0..runs {
        let begin = Instant::now();
        let running = subject.start(Direction::In, directory, &extra).await?;
        let wall = running.ready.duration_since(begin);
        let cpu = running.process.cpu()?.since(&super::process::CpuTime::default());
        all.push(Measured {
            cpu,
            wall,
            stanzas: 1,
            bytes: 0,
            rss: running.process.rss()?,
            latency: Some((wall, wall)),
        });
    }
    Ok(Row::new(scenario, subject.label(), all))
}
