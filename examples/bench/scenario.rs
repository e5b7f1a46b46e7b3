//! What is measured, by name, and what was promised of it.

use std::path::Path;

use super::{
    bulk::{Flow, Load},
    conn::Packing,
    report::{Measured, Row},
    stanzas::Direction,
    subject::{Extra, Subject},
};

/// One row of questions.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Bulk(Load),
}

/// How it is done.
pub(crate) struct Plan<'a> {
    pub(crate) subjects: &'a [Subject],
    pub(crate) runs: usize,
    /// Divides how much is done.
    pub(crate) less: u64,
    pub(crate) directory: &'a Path,
}

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        for (size, count) in [(300, 1_000_000), (4_000, 200_000), (64_000, 20_000)] {
            for streams in [1, 8, 1000] {
                for packing in [Packing::Many, Packing::Single] {
                    let is_large = size > 300 && (streams == 1000 || size > 16_000);
                    if packing == Packing::Single && is_large {
                        // A stanza of 64 kB has several records in any case.
                        continue;
                    }
                    let load = Load { direction, size, streams, packing, count };
                    all.push(Scenario { name: name(&load), what: What::Bulk(load) });
                }
            }
        }
    }
    all
}

fn name(load: &Load) -> String {
    let direction = match load.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let packing = match load.packing {
        Packing::Many => "many",
        Packing::Single => "single",
    };
    format!("bulk/{direction}/{}/{}/{packing}", load.size, load.streams)
}

impl Scenario {
    /// Measures all subjects, in turns.
    pub(crate) async fn measure(&self, plan: &Plan<'_>) -> anyhow::Result<Vec<Row>> {
        match self.what {
            What::Bulk(load) => self.bulk(load, plan).await,
        }
    }

    async fn bulk(&self, load: Load, plan: &Plan<'_>) -> anyhow::Result<Vec<Row>> {
        let count = (load.count / plan.less).max(load.streams as u64);
        let mut flows = Vec::new();
        for subject in plan.subjects {
            let flow = Flow::open(subject, load, plan.directory, &Extra::default()).await?;
            flow.run(count / 4).await?;
            flows.push((subject, flow, Vec::new()));
        }
        for _ in 0..plan.runs {
            for (_, flow, runs) in &mut flows {
                runs.push(flow.run(count).await?);
            }
        }
        let runs = flows.into_iter().map(|(subject, _, runs)| (subject, runs)).collect();
        Ok(self.rows(runs, |row, base| {
            let target = match (load.size, load.packing) {
                (300, Packing::Many) => 3.0,
                (300, Packing::Single) => 1.7,
                (4_000, _) => 1.5,
                _ => 1.2,
            };
            row.compare("CPU", Measured::cpu_per_million, base, Some(target));
        }))
    }

    /// A row for each subject; those of fedgates are compared with the byte-blind TLS relay.
    fn rows(
        &self,
        runs: Vec<(&Subject, Vec<Measured>)>,
        compare: impl Fn(&mut Row, &[Measured]),
    ) -> Vec<Row> {
        let base = runs.iter().find(|(subject, _)| **subject == Subject::TlsRelay);
        let base = base.map(|(_, runs)| runs.clone());
        let row = |(subject, runs): (&Subject, Vec<Measured>)| {
            let mut row = Row::new(&self.name, subject.label(), runs);
            if let Some(base) = base.as_ref().filter(|_| subject.is_fedgate()) {
                compare(&mut row, base);
            }
            row
        };
        runs.into_iter().map(row).collect()
    }
}
