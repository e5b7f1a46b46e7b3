//! What fedgate costs, measured on loopback: a load generator with an old server and peers, the
//! real program as a process of its own between them, and in the same run two relays that know
//! nothing of what they carry, one with TLS and one without. `examples/bench/run` builds all of it
//! and runs it; docs/performance.md says how to read what it prints.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

mod bulk;
mod conn;
mod dns;
mod flat;
mod idle;
mod joining;
mod names;
mod neighbours;
mod pingpong;
mod pki;
mod process;
mod relay;
mod report;
mod scenario;
mod setup;
mod stanzas;
mod starting;
mod subject;

use pki::Issuers;
use process::Ending;
use scenario::{Plan, Scenario};
use subject::Subject;

/// Measures fedgate beside byte-blind relays, on loopback.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Scenarios by name, with `*` for any part of it; all without any.
    scenarios: Vec<String>,
    /// Runs of each, of which the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A hundredth of the work, to see that all is well; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Writes the figures into a file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the names of the scenarios.
    #[arg(long)]
    list: bool,
    /// A program to measure, by a name for the table; more than once to compare several.
    #[arg(long, value_name = "[NAME=]PROGRAM")]
    fedgate: Vec<String>,
    /// Has each fedgate end by itself, which takes some seconds, so that one that is compiled to
    /// count what it does can write that down.
    #[arg(long)]
    end_gently: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// One of the baselines; the benchmark starts it by itself.
    #[command(hide = true)]
    Relay(relay::Arguments),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::Relay(arguments)) = &arguments.role {
        return relay::run(arguments);
    }
    let scenarios: Vec<_> = scenario::all()
        .into_iter()
        .filter(|scenario| {
            let wanted = &arguments.scenarios;
            wanted.is_empty() || wanted.iter().any(|pattern| matches(pattern, &scenario.name))
        })
        .collect();
    if scenarios.is_empty() {
        bail!("no such scenario; --list names them");
    }
    if arguments.list {
        let names: String = scenarios.iter().map(|scenario| scenario.name.clone() + "\n").collect();
        return Ok(io::stdout().write_all(names.as_bytes())?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What is dropped takes its processes and files along.
        tokio::select! {
            outcome = measure(&arguments, &scenarios) => outcome,
            _ = terminate.recv() => bail!("terminated"),
            _ = interrupt.recv() => bail!("interrupted"),
        }
    })
}

async fn measure(arguments: &Arguments, scenarios: &[Scenario]) -> anyhow::Result<()> {
    let ending = if arguments.end_gently { Ending::Terminate } else { Ending::Kill };
    let fedgate =
        |label: &str, program| Subject::Fedgate { label: label.to_owned(), program, ending };
    let mut fedgates = Vec::new();
    for given in &arguments.fedgate {
        let (label, program) = given.split_once('=').unwrap_or(("fedgate", given));
        fedgates.push(fedgate(label, program.into()));
    }
    if fedgates.is_empty() {
        let here = std::env::current_exe()?;
        let built = here.parent().and_then(|examples| examples.parent()).context("no directory")?;
        fedgates.push(fedgate("fedgate", built.join("fedgate")));
    }
    let directory = tempfile::tempdir()?;
    let (own, public) = (directory.path().join("own"), directory.path().join("public"));
    subject::make_certificates(&own, Issuers::Own)?;
    subject::make_certificates(&public, Issuers::Public)?;
    let plan = Plan {
        fedgates: &fedgates,
        runs: arguments.runs.max(1),
        less: if arguments.quick { 100 } else { 1 },
        directory: &own,
        public: &public,
    };
    let mut out = io::stdout();
    out.write_all(report::head().as_bytes())?;
    let mut rows = Vec::new();
    for scenario in scenarios {
        let measured = scenario.measure(&plan).await.with_context(|| scenario.name.clone())?;
        for row in &measured {
            out.write_all(report::line(row).as_bytes())?;
        }
        out.flush()?;
        rows.extend(measured);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report::json(&rows))?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Whether a name is as the pattern, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| tail.get(at..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}
