//! What is measured, by name, and what was promised of it.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;

use super::{
    bulk::{Flow, Load},
    conn::Packing,
    flat::{self, More},
    idle, joining,
    neighbours::{Proof, Way},
    pingpong::PingPong,
    pki::Issuers,
    report::{Measured, Row},
    setup::SetUp,
    stanzas::{Direction, Form, Shape},
    starting::{self, Much},
    subject::{Extra, Subject},
};

/// One thing to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Bulk(Load),
    PingPong {
        form: Form,
        /// The peer's stream goes both ways.
        bidi: bool,
    },
    SetUp(Direction, Way, Issuers),
    Joining,
    Idle {
        connections: usize,
    },
    Starting(Much),
    Flat(More),
}

/// How it is done.
pub(crate) struct Plan<'a> {
    pub(crate) fedgates: &'a [Subject],
    pub(crate) runs: usize,
    /// Divides how much is done.
    pub(crate) less: u64,
    /// Certificates of a CA of ours.
    pub(crate) directory: &'a Path,
    /// Certificates as public CAs issue them.
    pub(crate) public: &'a Path,
}

/// Starts of each subject in a run: more where more hangs on where a process happens to run.
mod starts {
    pub(super) const BULK: u64 = 4;
    pub(super) const PING_PONG: u64 = 12;
    pub(super) const SET_UP: u64 = 8;
}

/// A subject, and what its runs gave.
type Runs<'a> = (&'a Subject, Vec<Measured>);

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |name: String, what| all.push(Scenario { name, what });
    for direction in [Direction::In, Direction::Out] {
        let forms = [
            (Form::TEXT, 1_000_000),
            (Form::ENCRYPTED, 200_000),
            (Form::PICTURE, 20_000),
            (Form::ITEMS, 20_000),
        ];
        for (form, count) in forms {
            for streams in [1, 8, 1000] {
                for packing in [Packing::Many, Packing::Single] {
                    let load = Load { direction, form, streams, joined: false, packing, count };
                    if !is_needless(&load) {
                        add(bulk_name(&load), What::Bulk(load));
                    }
                }
            }
        }
    }
    for form in [Form::TEXT, Form::ENCRYPTED] {
        add(format!("ping-pong/{}", form.size), What::PingPong { form, bidi: false });
        add(format!("ping-pong/{}-bidi", form.size), What::PingPong { form, bidi: true });
    }
    let direct_tls = Way { direct_tls: true, ..Way::USUAL };
    let dialback = Way { proof: Proof::Dialback, ..Way::USUAL };
    for (name, direction, way, issuers) in [
        ("in/external", Direction::In, Way::USUAL, Issuers::Own),
        ("in/external-public", Direction::In, Way::USUAL, Issuers::Public),
        ("in/external-public-direct", Direction::In, direct_tls, Issuers::Public),
        ("in/dialback", Direction::In, dialback, Issuers::Own),
        ("out/external", Direction::Out, Way::USUAL, Issuers::Own),
        ("out/external-public", Direction::Out, Way::USUAL, Issuers::Public),
        ("out/external-public-direct", Direction::Out, direct_tls, Issuers::Public),
    ] {
        add(format!("set-up/{name}"), What::SetUp(direction, way, issuers));
    }
    add("joining/out".to_owned(), What::Joining);
    for connections in [100, 1_000, 10_000] {
        add(format!("idle/{connections}"), What::Idle { connections });
    }
    for much in [Much::Nothing, Much::Lists, Much::Rules] {
        add(format!("start/{}", much.name()), What::Starting(much));
    }
    for more in More::ALL {
        add(format!("flat/{}", more.name()), What::Flat(more));
    }
    all
}

/// Whether others say the same.
fn is_needless(load: &Load) -> bool {
    match load.form {
        Form::TEXT => false,
        Form::ENCRYPTED => load.packing == Packing::Single && load.streams == 1000,
        // A large stanza has several records in any case.
        Form::PICTURE => load.packing == Packing::Single,
        _ => load.packing == Packing::Single || load.streams > 1,
    }
}

fn bulk_name(load: &Load) -> String {
    let direction = match load.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let packing = match load.packing {
        Packing::Many => "many",
        Packing::Single => "single",
    };
    let Load { form, streams, .. } = load;
    let items = if form.shape == Shape::Items { "-items" } else { "" };
    format!("bulk/{direction}/{}{items}/{streams}/{packing}", form.size)
}

impl Scenario {
    /// Measures all subjects, in turns.
    pub(crate) async fn measure(&self, plan: &Plan<'_>) -> anyhow::Result<Vec<Row>> {
        let (name, directory) = (&*self.name, plan.directory);
        let mut rows = Vec::new();
        match self.what {
            What::Bulk(load) => return self.bulk(load, plan).await,
            What::PingPong { form, bidi } => return self.ping_pong(form, bidi, plan).await,
            What::SetUp(direction, way, issuers) => {
                return self.set_up((direction, way), issuers, plan).await;
            }
            What::Joining => {
                for subject in plan.fedgates {
                    let pairs = plan.times(200);
                    rows.push(joining::measure(name, subject, pairs, directory).await?);
                }
            }
            What::Idle { connections } => {
                let connections = plan.connections(connections, 1)?.max(10);
                let pause = Duration::from_secs(3) / plan.less.try_into().unwrap_or(1);
                for subject in plan.with(&[Subject::TlsRelay]) {
                    rows.push(idle::measure(name, &subject, connections, pause, directory).await?);
                }
            }
            What::Starting(much) => {
                let how = (much, plan.runs);
                for subject in plan.fedgates {
                    rows.push(starting::measure(name, subject, how, directory).await?);
                }
            }
            What::Flat(more) => {
                let many = if more == More::Rules {
                    plan.times(10_000)
                } else {
                    plan.connections(10_000, 2)?
                };
                let how = (plan.runs, (500_000 / plan.less).max(many as u64));
                let relay: &[_] = match more {
                    More::Peers | More::PeersActive => &[Subject::TlsRelay],
                    // It knows neither.
                    More::Pairs | More::PairsActive | More::Rules => &[],
                };
                for subject in plan.with(relay) {
                    rows.push(flat::measure(name, &subject, more, many, how, directory).await?);
                }
            }
        }
        Ok(rows)
    }

    async fn bulk(&self, load: Load, plan: &Plan<'_>) -> anyhow::Result<Vec<Row>> {
        let most = |count: u64| (count / plan.less).max(load.streams as u64);
        let count = most(load.count / starts::BULK);
        // A thousand streams take their time to have the memory that they need.
        let warm_up = if load.streams < 1000 { count / 4 } else { most(load.count) };
        let subjects = plan.with(&[Subject::TlsRelay, Subject::TcpRelay]);
        let measure = async |subject: &Subject| {
            let flow = Flow::open(subject, load, plan.directory, &Extra::default()).await?;
            flow.run(warm_up).await?;
            flow.run(count).await
        };
        let runs = plan.in_turns(&subjects, starts::BULK, measure).await?;
        let target = match (load.form, load.packing) {
            (Form::TEXT, Packing::Many) => Some(3.0),
            (Form::TEXT, Packing::Single) => Some(1.7),
            (Form::ENCRYPTED, _) => Some(1.5),
            (Form::PICTURE, _) => Some(1.2),
            _ => None,
        };
        Ok(self.rows(runs, &Subject::TlsRelay, |row, base| {
            row.compare("CPU", Measured::cpu_per_million, base, target);
        }))
    }

    async fn ping_pong(&self, form: Form, bidi: bool, plan: &Plan<'_>) -> anyhow::Result<Vec<Row>> {
        let count = 5_000 / plan.less;
        let subjects = plan.with(&[Subject::TlsRelay, Subject::TcpRelay]);
        let measure = async |subject: &Subject| {
            let mut game = PingPong::open(subject, form, bidi, plan.directory).await?;
            game.run(count / 4).await?;
            game.run(count).await
        };
        let runs = plan.in_turns(&subjects, starts::PING_PONG, measure).await?;
        Ok(self.rows(runs, &Subject::TlsRelay, |row, base| {
            row.compare("p50", Measured::p50, base, Some(1.2));
            row.compare("p99", Measured::p99, base, Some(1.2));
            row.compare("CPU", Measured::cpu_per_million, base, None);
        }))
    }

    async fn set_up(
        &self,
        (direction, way): (Direction, Way),
        issuers: Issuers,
        plan: &Plan<'_>,
    ) -> anyhow::Result<Vec<Row>> {
        let count = 400 / plan.less;
        let directory = match issuers {
            Issuers::Own => plan.directory,
            Issuers::Public => plan.public,
        };
        let subjects = plan.with(&[Subject::TlsRelay, Subject::TlsAccept]);
        let measure = async |subject: &Subject| {
            let mut set_up = SetUp::open(subject, direction, way, directory).await?;
            set_up.run(count / 4).await?;
            set_up.run(count).await
        };
        let runs = plan.in_turns(&subjects, starts::SET_UP, measure).await?;
        let target = (way.proof == Proof::External).then_some(1.5);
        let relay = runs.iter().find(|(subject, _)| **subject == Subject::TlsRelay);
        let relay = relay.map(|(_, runs)| runs.clone()).unwrap_or_default();
        Ok(self.rows(runs, &Subject::TlsAccept, |row, bare| {
            row.compare("CPU", Measured::cpu_per_million, &relay, None);
            row.compare("of a bare handshake", Measured::cpu_per_million, bare, target);
        }))
    }

    /// A row for each subject; those of fedgates are compared with a baseline.
    fn rows(
        &self,
        runs: Vec<Runs<'_>>,
        base: &Subject,
        compare: impl Fn(&mut Row, &[Measured]),
    ) -> Vec<Row> {
        let base = runs.iter().find(|(subject, _)| *subject == base);
        let base = base.map(|(_, runs)| runs.clone()).unwrap_or_default();
        let row = |(subject, runs): Runs<'_>| {
            let mut row = Row::new(&self.name, subject.label(), runs);
            if subject.is_fedgate() {
                compare(&mut row, &base);
            }
            row
        };
        runs.into_iter().map(row).collect()
    }
}

impl Plan<'_> {
    /// The fedgates and these.
    fn with(&self, baselines: &[Subject]) -> Vec<Subject> {
        self.fedgates.iter().chain(baselines).cloned().collect()
    }

    /// As many rounds as there are runs. In each, every subject is started anew so many times and
    /// warmed up, since figures change with where a process happens to run. They take turns, forwards
    /// and backwards.
    async fn in_turns<'a>(
        &self,
        subjects: &'a [Subject],
        starts: u64,
        measure: impl AsyncFn(&Subject) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Vec<Runs<'a>>> {
        let mut all: Vec<Runs<'a>> = subjects.iter().map(|subject| (subject, Vec::new())).collect();
        let mut is_forwards = false;
        for _ in 0..self.runs {
            let mut measured = vec![Vec::new(); all.len()];
            for _ in 0..starts {
                is_forwards = !is_forwards;
                for turn in 0..all.len() {
                    let place = if is_forwards { turn } else { all.len() - 1 - turn };
                    measured[place].push(measure(all[place].0).await?);
                }
            }
            for ((_, runs), starts) in all.iter_mut().zip(measured) {
                runs.push(Measured::together(&starts));
            }
        }
        Ok(all)
    }

    /// So many, or less.
    fn times(&self, number: usize) -> usize {
        (number as u64 / self.less).max(1).try_into().unwrap_or(number)
    }

    /// So many connections, or as many as a process may have descriptors for: two for each.
    fn connections(&self, number: usize, processes: usize) -> anyhow::Result<usize> {
        let limits = fs::read_to_string("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let most = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        let most: usize = most.context("no limit of open files in /proc/self/limits")?;
        Ok(self.times(number).min(most.saturating_sub(200 * processes) / 2))
    }
}
