//! What a named list has: domains, `*.domain`, networks, each with its line.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{network::Networks, suffixes};
use crate::xmpp::Domain;

/// What a list has, each with the number of its line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    file: Arc<str>,
    exact: HashMap<Box<str>, u32>,
    below: HashMap<Box<str>, u32>,
    networks: Networks<u32>,
}

/// What a line of a list names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) enum ListEntry {
    Exact(Domain),
    /// The names below this one.
    Below(Arc<str>),
    Network(IpNet),
}

impl List {
    /// One that is empty, by the name of `file`.
    pub(in crate::config) fn named(file: Arc<str>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Adds an entry of a line; the first line that has it counts.
    pub(in crate::config) fn add(&mut self, entry: ListEntry, line: usize) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        match entry {
            ListEntry::Exact(domain) => {
                self.exact.entry(domain.as_str().into()).or_insert(line);
            }
            ListEntry::Below(suffix) => {
                self.below.entry(suffix.as_ref().into()).or_insert(line);
            }
            ListEntry::Network(network) => {
                self.networks.entry(network, || line);
            }
        }
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

    /// Whether both name the same domains, on whatever lines.
    pub(super) fn names_like(&self, other: &Self) -> bool {
        let alike = |one: &HashMap<Box<str>, u32>, other: &HashMap<Box<str>, u32>| {
            one.len() == other.len() && one.keys().all(|name| other.contains_key(name))
        };
        alike(&self.exact, &other.exact) && alike(&self.below, &other.below)
    }

    /// The length of the longest prefix of an address in it, and its line.
    pub(super) fn network(&self, address: IpAddr) -> Option<(u8, u32)> {
        self.networks.longest(address, |line| Some(*line))
    }

    pub(super) fn networks(&self) -> &Networks<u32> {
        &self.networks
    }

    /// Where a line of it stands; those of a list without lines stand together.
    pub(super) fn place(&self, line: u32) -> String {
        match line {
            0 => self.file.to_string(),
            line => format!("{}:{line}", self.file),
        }
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

#[cfg(test)]
impl List {
    /// Bytes that its tables take, at what a hash table and an allocation cost beside their content.
    pub(super) fn memory(&self) -> usize {
        let of = |map: &HashMap<Box<str>, u32>| {
            let texts: usize = map.keys().map(|name| name.len().next_multiple_of(16) + 16).sum();
            map.capacity() * 8 / 7 * (size_of::<(Box<str>, u32)>() + 1) + texts
        };
        of(&self.exact) + of(&self.below) + self.networks.memory()
    }
}
