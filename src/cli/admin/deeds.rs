//! The commands that change something.

use std::str::FromStr;

use clap::Args;
use fedgate::xmpp::{Domain, DomainError};
use serde_json::json;

use super::Ask;

#[derive(Debug, Args)]
pub(in crate::cli) struct Of {
    #[command(flatten)]
    ask: Ask,
    /// A domain, local or remote.
    #[arg(required_unless_present = "all")]
    domain: Option<Domain>,
    /// All domains.
    #[arg(long, conflicts_with = "domain")]
    all: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Close {
    #[command(flatten)]
    ask: Ask,
    /// The number of a stream, as `streams` lists it, or a domain.
    #[arg(value_name = "ID|DOMAIN")]
    what: What,
}

/// What is to be closed.
#[derive(Clone, Debug)]
enum What {
    Stream(u64),
    Domain(Domain),
}

impl FromStr for What {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        match text.parse() {
            Ok(id) => Ok(Self::Stream(id)),
            Err(_) => text.parse().map(Self::Domain),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Plain {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogLevel {
    #[command(flatten)]
    ask: Ask,
    /// A filter such as `debug` or `warn,fedgate=debug`.
    level: String,
}

impl Of {
    pub(super) fn execute(self, deed: &str) -> anyhow::Result<u8> {
        let body = match &self.domain {
            Some(domain) => json!({ "domain": domain.as_str() }),
            None => json!({}),
        };
        post(&self.ask, deed, &body)
    }
}

impl Close {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let body = match &self.what {
            What::Stream(id) => json!({ "stream": id }),
            What::Domain(domain) => json!({ "domain": domain.as_str() }),
        };
        post(&self.ask, "close", &body)
    }
}

impl Plain {
    pub(super) fn execute(self, deed: &str) -> anyhow::Result<u8> {
        post(&self.ask, deed, &json!({}))
    }
}

impl LogLevel {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        post(&self.ask, "log-level", &json!({ "level": self.level }))
    }
}

pub(super) fn post(ask: &Ask, deed: &str, body: &serde_json::Value) -> anyhow::Result<u8> {
    let answer = ask.client()?.post(&format!("/api/{deed}"), body.to_string())?;
    ask.print_done(&answer)
}
