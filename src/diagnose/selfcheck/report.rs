//! How it is on this side, item by item: the structure that `--json` writes. Members are added,
//! never renamed or taken away, as long as [`VERSION`] stays.

use serde::Serialize;

use crate::diagnose::{Status, text::Lines};

/// The version of the structure.
pub const VERSION: u32 = 1;

/// How it is on this side.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The worst of all; the exit status of the command says the same.
    pub status: Status,
    /// What was looked at, in order.
    pub items: Vec<Item>,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Item {
    /// What it is about.
    pub topic: Topic,
    /// The local domain; none for what all have in common.
    pub domain: Option<String>,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub text: String,
}

/// What an item is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// What the configuration is made into.
    Config,
    /// What is published for the domain.
    Dns,
    /// The certificate that the domain shows.
    Certificate,
    /// An address that DNS names.
    Reach,
    /// What peers see there.
    Seen,
    /// The legacy server behind.
    Legacy,
    /// The DNS responder.
    Steer,
    /// The time of day.
    Clock,
    /// The state directory and the dialback secret.
    State,
    /// The running fedgate.
    Running,
}

impl Topic {
    /// The word for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Dns => "dns",
            Self::Certificate => "cert",
            Self::Reach => "reach",
            Self::Seen => "seen",
            Self::Legacy => "legacy",
            Self::Steer => "steer",
            Self::Clock => "clock",
            Self::State => "state",
            Self::Running => "running",
        }
    }
}

impl Item {
    pub(super) fn new(
        topic: Topic,
        domain: Option<&crate::xmpp::Domain>,
        status: Status,
        text: impl Into<String>,
    ) -> Self {
        Self { topic, domain: domain.map(ToString::to_string), status, text: text.into() }
    }
}

impl Report {
    /// One line for each item, domain by domain, in colours if they are wanted.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        let mut lines = Lines::default();
        let mut about = None;
        for item in &self.items {
            if let Some(domain) = &item.domain
                && about != Some(domain)
                && item.topic != Topic::Legacy
            {
                lines.add("domain", None, None, domain.as_str());
                about = Some(domain);
            }
            lines.add(item.topic.as_str(), None, Some(item.status), item.text.as_str());
        }
        let of = |status| self.items.iter().filter(|item| item.status == status).count();
        let text = match self.status {
            Status::Ok => "ok: all is well as far as it can be seen from here".to_owned(),
            status => format!(
                "{status} (critical: {}, unknown: {}, warnings: {})",
                of(Status::Critical),
                of(Status::Unknown),
                of(Status::Warning)
            ),
        };
        lines.add("result", None, Some(self.status), text);
        lines.write(colour)
    }
}
