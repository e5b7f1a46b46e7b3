//! Named lists: a domain, a `*.domain`, an address or a network a line, and comments behind `#`,
//! as block lists are published.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use super::{network::Networks, rule::Pattern, suffixes};
use crate::{
    config::{problem::Wrong, value},
    xmpp::Domain,
};

/// What a list has, each with the number of its line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    file: Arc<str>,
    exact: HashMap<Box<str>, u32>,
    below: HashMap<Box<str>, u32>,
    networks: Networks<u32>,
}

/// A line that is none.
#[derive(Debug)]
pub(in crate::config) struct BadLine {
    pub(in crate::config) line: usize,
    pub(in crate::config) column: usize,
    pub(in crate::config) width: usize,
    pub(in crate::config) wrong: Wrong,
}

impl List {
    /// One that is empty, by the name of `file`.
    pub(in crate::config) fn named(file: Arc<str>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Reads the text of a file by the name of `file`.
    ///
    /// # Errors
    /// Every line that is neither a domain nor a network, up to a number of them.
    pub(in crate::config) fn parse(file: Arc<str>, text: &str) -> Result<Self, Vec<BadLine>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut list = Self::named(file);
        let mut bad = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default();
            let entry = said.trim();
            if entry.is_empty() {
                continue;
            }
            if let Err(wrong) = list.add(entry, number + 1) {
                let before = said.split(entry).next().unwrap_or_default();
                bad.push(BadLine {
                    line: number + 1,
                    column: before.chars().count() + 1,
                    width: entry.chars().count(),
                    wrong,
                });
            }
            if bad.len() >= MAX_BAD {
                break;
            }
        }
        if bad.is_empty() { Ok(list) } else { Err(bad) }
    }

    /// Adds an entry of a line.
    pub(in crate::config) fn add(&mut self, entry: &str, line: usize) -> Result<(), Wrong> {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        match read(entry)? {
            Entry::Domain(Pattern::Exact(domain)) => {
                self.exact.entry(domain.as_str().into()).or_insert(line);
            }
            Entry::Domain(Pattern::Below(suffix)) => {
                self.below.entry(suffix.as_ref().into()).or_insert(line);
            }
            Entry::Domain(Pattern::Any | Pattern::List(_)) => {
                return Err(Wrong::new("\"*\" in a list").hint("for all domains write a rule"));
            }
            Entry::Network(network) => {
                self.networks.entry(network, || line);
            }
        }
        Ok(())
    }

    /// The line that names a domain.
    #[must_use]
    pub fn line(&self, domain: &Domain) -> Option<u32> {
        if let Some(line) = self.exact.get(domain.as_str()) {
            return Some(*line);
        }
        if self.below.is_empty() {
            return None;
        }
        suffixes(domain.as_str()).find_map(|suffix| self.below.get(suffix)).copied()
    }

    /// The length of the longest prefix of an address in it, and its line.
    pub(super) fn network(&self, address: IpAddr) -> Option<(u8, u32)> {
        self.networks.longest(address, |line| Some(*line))
    }

    pub(super) fn networks(&self) -> &Networks<u32> {
        &self.networks
    }

    /// Where it comes from, for messages.
    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// How many domains and networks are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.below.len() + self.networks.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Entry {
    Domain(Pattern),
    Network(ipnet::IpNet),
}

fn read(entry: &str) -> Result<Entry, Wrong> {
    // a domain never ends with a digit alone between dots, nor has it a slash or a colon
    let is_network = entry.contains(['/', ':']) || entry.parse::<IpAddr>().is_ok();
    if is_network && !entry.contains("://") {
        return value::network(entry).map(Entry::Network);
    }
    value::pattern(entry).map(Entry::Domain)
}

/// Bad lines that are reported; more are not looked for.
const MAX_BAD: usize = 20;
