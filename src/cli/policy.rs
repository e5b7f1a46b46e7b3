//! `fedgate policy`: what the rules come to, and why.

mod simulate;

use std::{fmt::Write, net::IpAddr, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use fedgate::{
    config::policy::{Explanation, Mode, Place, Policy as Rules, Query},
    xmpp::{Direction, Domain},
};
use serde::Serialize;

use super::{ConfigDir, EXIT_USAGE, Format, load};

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Print every rule that matches a pair of domains, where it stands, and what they come to.
    ///
    /// Exit status: 0 the stanzas may pass, also where only the mode `report` lets them, 1 some
    /// direction that was asked for is refused, 64 with wrong arguments or a wrong configuration.
    Explain(Explain),
    /// Print which of the domains seen lately another configuration would refuse, and by which rule;
    /// and which it would newly admit.
    ///
    /// Takes what the running gate remembers of each domain as what it will show again. Exit status:
    /// 0 nobody is refused who is let in now, 1 somebody is, 3 nobody knows, 64 with wrong arguments
    /// or a wrong configuration.
    Simulate(simulate::Simulate),
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The local domain.
    #[arg(value_parser = domain)]
    local: Domain,
    /// The remote domain.
    #[arg(value_parser = domain)]
    remote: Domain,
    /// Judge the address at the other end too.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Only stanzas from the remote domain.
    #[arg(long, conflicts_with = "outbound")]
    r#in: bool,
    /// Only stanzas to the remote domain.
    #[arg(long = "out", id = "outbound")]
    outbound: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    dir: ConfigDir,
}

/// A domain as people paste it: with a scheme, a user or a slash.
fn domain(text: &str) -> Result<Domain, String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default();
    let bare = bare.rsplit('@').next().unwrap_or_default();
    Domain::parse(bare).map_err(|error| error.to_string())
}

impl Policy {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Explain(command) => command.execute(),
            Self::Simulate(command) => command.execute(),
        }
    }
}

impl Explain {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match load(&self.dir) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        if !config.local_domains.contains_key(&self.local) {
            eprintln!("fedgate: {} is not served by any legacy server", self.local);
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        let directions: &[Direction] = match (self.r#in, self.outbound) {
            (true, _) => &[Direction::Inbound],
            (_, true) => &[Direction::Outbound],
            (false, false) => &[Direction::Inbound, Direction::Outbound],
        };
        let rulings: Vec<_> =
            directions.iter().map(|direction| self.ruling(&config.policy, *direction)).collect();
        let refused = rulings.iter().any(|ruling| !ruling.allowed);
        let text = |_| rulings.iter().map(Ruling::text).collect::<Vec<_>>().join("\n");
        self.format.print(&rulings, text).context("write to standard output")?;
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn ruling(&self, rules: &Rules, direction: Direction) -> Ruling {
        let (local, remote) = (Some(&self.local), &self.remote);
        let Explanation { decision, matched } =
            rules.explain(&Query { local, remote, direction, address: self.address });
        let refusal = decision.refusal();
        Ruling {
            local: self.local.to_string(),
            remote: remote.to_string(),
            direction: direction.as_str(),
            address: self.address,
            mode: match rules.mode() {
                Mode::Enforce => "enforce",
                Mode::Report => "report",
            },
            allowed: decision.denied().is_none(),
            refused_by: refusal.as_ref().map(|denied| place(&denied.rule)),
            reason: refusal.and_then(|denied| denied.reason).map(|reason| reason.to_string()),
            level: decision.level().as_str(),
            values: decision
                .values()
                .into_iter()
                .map(|(key, value, rule)| Value { key, value, rule: place(&rule) })
                .collect(),
            matched: matched
                .into_iter()
                .map(|rule| Matched {
                    rule: place(&rule.place),
                    by: rule.by,
                    line: rule.line,
                    reason: rule.reason.map(str::to_owned),
                    says: rule
                        .says
                        .into_iter()
                        .map(|(key, value, counts)| Says { key, value, counts })
                        .collect(),
                })
                .collect(),
        }
    }
}

fn place(place: &Place) -> String {
    format!("{place:#}")
}

/// What the rules come to in one direction.
#[derive(Serialize)]
struct Ruling {
    local: String,
    remote: String,
    direction: &'static str,
    address: Option<IpAddr>,
    mode: &'static str,
    allowed: bool,
    refused_by: Option<String>,
    reason: Option<String>,
    level: &'static str,
    values: Vec<Value>,
    matched: Vec<Matched>,
}

#[derive(Serialize)]
struct Value {
    key: &'static str,
    value: String,
    rule: String,
}

#[derive(Serialize)]
struct Matched {
    rule: String,
    by: String,
    line: Option<String>,
    reason: Option<String>,
    says: Vec<Says>,
}

#[derive(Serialize)]
struct Says {
    key: &'static str,
    value: String,
    counts: bool,
}

impl Ruling {
    fn text(&self) -> String {
        let (from, to) = match self.direction {
            "inbound" => (&self.remote, &self.local),
            _ => (&self.local, &self.remote),
        };
        let mut out = format!("{from} → {to} ({})", self.direction);
        if let Some(address) = self.address {
            let _ = write!(out, ", {address}");
        }
        out.push_str("\n  rules that match, the most specific first; \"+\" is what counts\n");
        for rule in &self.matched {
            let _ = write!(out, "    {}  {}", rule.rule, rule.by);
            if let Some(line) = &rule.line {
                let _ = write!(out, "  ({line})");
            }
            if let Some(reason) = &rule.reason {
                let _ = write!(out, "  \"{reason}\"");
            }
            out.push('\n');
            for Says { key, value, counts } in &rule.says {
                let mark = if *counts { '+' } else { ' ' };
                let _ = writeln!(out, "      {mark} {key}: {value}");
            }
        }
        if self.matched.is_empty() {
            out.push_str("    none\n");
        }
        match (&self.refused_by, self.allowed) {
            (None, _) => out.push_str("  allowed\n"),
            (Some(by), false) => {
                let _ = writeln!(out, "  REFUSED by {by}{}", self.why());
            }
            (Some(by), true) => {
                let _ = writeln!(out, "  would be refused by {by}{}: mode is report", self.why());
            }
        }
        let _ = writeln!(out, "  it takes the level {}", self.level);
        for Value { key, value, rule } in self.values.iter().filter(|said| said.key != "allow") {
            let _ = writeln!(out, "  {key}: {value}  ({rule})");
        }
        out
    }

    fn why(&self) -> String {
        self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    }
}
