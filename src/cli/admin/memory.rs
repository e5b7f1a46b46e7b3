//! `fedgate memory`.

use std::io;

use clap::{Args, Subcommand};
use fedgate::{
    ops::report::{Reached, Remembered},
    xmpp::Domain,
};
use serde_json::json;

use super::{
    Ask, OK, deeds,
    table::{Cell, Look, Paint, Table},
    text::time,
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Memory {
    /// List what is remembered.
    ///
    /// Exit status 0, or 3 if fedgate does not answer.
    List(List),
    /// Forget what a remote domain has reached: what it shows next is what is expected from then on.
    ///
    /// Exit status 0 if that is done, 2 if nothing was remembered of it, 3 if fedgate does not answer.
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    ask: Ask,
    /// A remote domain; without one, all.
    domain: Option<Domain>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Forget {
    #[command(flatten)]
    ask: Ask,
    /// A remote domain.
    domain: Domain,
}

impl Memory {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        match self {
            Self::List(command) => command.execute(),
            Self::Forget(Forget { ask, domain }) => {
                deeds::post(&ask, "memory/forget", &json!({ "domain": domain.as_str() }))
            }
        }
    }
}

impl List {
    fn execute(self) -> anyhow::Result<u8> {
        let path = match &self.domain {
            Some(domain) => format!("/api/memory?domain={domain}"),
            None => "/api/memory".to_owned(),
        };
        let (all, json): (Vec<Remembered>, _) = self.ask.client()?.get(&path)?;
        if self.ask.json {
            self.ask.print_json(&json)?;
            return Ok(OK);
        }
        let mut table = Table::new(&["DOMAIN", "WAY", "BEST", "REACHED", "LAST", "SEEN"]);
        for of in &all {
            let at = |reached: &Option<Reached>| {
                reached.as_ref().map_or_else(|| "-".to_owned(), |reached| time(reached.at))
            };
            let level = |reached: &Option<Reached>| {
                let Some(Reached { level, strength, .. }) = reached else { return "-".to_owned() };
                match strength {
                    Some(strength) => format!("{level} {strength}"),
                    None => level.clone(),
                }
            };
            let is_less = level(&of.best) != level(&of.last);
            table.row(vec![
                Cell::text(&of.domain),
                Cell::text(if of.direction == "inbound" { "in" } else { "out" }),
                Cell::text(&level(&of.best)),
                Cell::text(&at(&of.best)),
                match of.refused {
                    Some(_) => Cell::text("refused"),
                    None if is_less => Cell::text(&level(&of.last)).look(Look::Bad),
                    None => Cell::text(&level(&of.last)),
                },
                Cell::text(&of.refused.map_or_else(|| at(&of.last), time)),
            ]);
        }
        table.write(&mut io::stdout().lock(), Paint::of_stdout())?;
        Ok(OK)
    }
}
