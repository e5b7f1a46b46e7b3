//! What another policy would change for the remote domains seen lately: each is judged by the rules
//! of now and by the new ones, as if it came again as it did the last time.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use rustls::pki_types::UnixTime;
use serde::Serialize;

use crate::{
    auth::{
        Strength,
        memory::{Memory, Record},
        pkix,
    },
    config::policy::{Decision, Downgrade, Place, Policy, Query},
    xmpp::Domain,
};

/// The version of the structure that `--json` writes. Members are added, never renamed or taken
/// away, as long as it stays.
pub const VERSION: u32 = 1;

/// What changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// How many domains were seen lately, each direction for itself.
    pub seen: usize,
    /// Whom the rules of now let in, and the new ones do not; by name.
    pub refused: Vec<Change>,
    /// The other way round.
    pub admitted: Vec<Change>,
}

/// A domain for which something changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Change {
    /// The remote domain.
    pub domain: String,
    /// Which way the stanzas go.
    pub direction: &'static str,
    /// The local domains for which it is so; empty: for all that are not named here or elsewhere.
    pub local: Vec<String>,
    /// The level that it reached the last time; none: it never reached any.
    pub level: Option<&'static str>,
    /// How strong its proof was then.
    pub proof: Option<&'static str>,
    /// When that was, in seconds since 1970.
    pub last: u64,
    /// The rule that refuses it, of the new policy or else of that of now.
    pub rule: Option<String>,
    /// Why, in words.
    pub why: String,
}

/// Why a domain is refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Objection {
    rule: Option<Place>,
    why: String,
}

/// Compares two policies for what was seen at `since` or later, in seconds since 1970.
#[must_use]
pub fn simulate(memory: &Memory, now: &Policy, new: &Policy, since: u64) -> Report {
    let mut report = Report { version: VERSION, seen: 0, refused: vec![], admitted: vec![] };
    let named: BTreeSet<&Domain> = now.named_locals().chain(new.named_locals()).collect();
    let seen = memory
        .records()
        .map(|(domain, direction, record)| (domain, direction, record.last.at, Some(record)));
    let refused = memory.refused().map(|(domain, direction, at)| (domain, direction, at, None));
    for (domain, direction, at, record) in seen.chain(refused).filter(|(_, _, at, _)| *at >= since)
    {
        report.seen += 1;
        // what is the same for all local domains is one change
        let (mut refused, mut admitted) = (Changes::default(), Changes::default());
        for local in named.iter().copied().map(Some).chain([None]) {
            let by = |policy: &Policy| {
                let query = Query { local, remote: domain, direction, address: None };
                objection(&policy.decide(&query), record)
            };
            match (by(now), by(new)) {
                (None, Some(why)) => refused.add(why, local),
                (Some(why), None) => admitted.add(why, local),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        let change = |(why, local): (Objection, Vec<String>)| Change {
            domain: domain.to_unicode(),
            direction: direction.as_str(),
            local,
            level: record.map(|record| record.last.level().as_str()),
            proof: record.and_then(|record| record.last.strength).map(Strength::as_str),
            last: at,
            rule: why.rule.map(|rule| rule.to_string()),
            why: why.why,
        };
        report.refused.extend(refused.into_iter(named.len()).map(change));
        report.admitted.extend(admitted.into_iter(named.len()).map(change));
    }
    report.refused.sort();
    report.admitted.sort();
    report
}

/// By why it is so, the local domains for which it is so.
#[derive(Default)]
struct Changes(Vec<(Objection, Vec<Option<String>>)>);

impl Changes {
    fn add(&mut self, why: Objection, local: Option<&Domain>) {
        let local = local.map(Domain::to_unicode);
        match self.0.iter_mut().find(|(other, _)| *other == why) {
            Some((_, locals)) => locals.push(local),
            None => self.0.push((why, vec![local])),
        }
    }

    /// Without those for which it is so like for all others.
    fn into_iter(self, named: usize) -> impl Iterator<Item = (Objection, Vec<String>)> {
        self.0.into_iter().flat_map(move |(why, locals)| {
            let is_for_others = locals.contains(&None);
            let is_for_all = locals.len() == named + 1;
            let some: Vec<String> = locals.into_iter().flatten().collect();
            let mut all = Vec::new();
            if is_for_others {
                all.push((why.clone(), Vec::new()));
            }
            if !is_for_all && !some.is_empty() {
                all.push((why, some));
            }
            all
        })
    }
}

/// Why a domain would be refused that comes as it did the last time. One that only was refused so
/// far is taken to be good enough for whatever lets it in.
fn objection(decision: &Decision<'_>, record: Option<&Record>) -> Option<Objection> {
    if let Some(denied) = decision.denied() {
        let reason = denied.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        return Some(Objection { why: format!("denied{reason}"), rule: Some(denied.rule) });
    }
    let Record { best, last, .. } = record?;
    let prooftype = last.strength.map(Strength::prooftype);
    if let Err(short) = decision.suffices_by(last.tls, prooftype, last.strong) {
        return Some(Objection { why: short.to_string(), rule: short.rule });
    }
    if last.level() < best.level() && decision.downgrade() == Downgrade::Refuse {
        let why = format!("it was {} before", best.level().as_str());
        return Some(Objection { why, rule: decision.downgrade_rule() });
    }
    None
}

impl Report {
    /// As text; `days` is how far back it looks.
    #[must_use]
    pub fn to_text(&self, days: u32) -> String {
        let mut out = String::new();
        let parts = [("refused", "", &self.refused), ("admitted", "was refused: ", &self.admitted)];
        for (what, was, changes) in parts {
            if changes.is_empty() {
                continue;
            }
            // writing to a string does not fail
            let _ = writeln!(out, "{what} by the new policy");
            for change in changes {
                let Change { domain, direction, local, level, proof, last, rule, why } = change;
                let _ = write!(out, "  {domain}  {direction}");
                if !local.is_empty() {
                    let _ = write!(out, " ({})", local.join(", "));
                }
                let date = pkix::utc(UnixTime::since_unix_epoch(Duration::from_secs(*last)));
                let _ = match level {
                    Some(level) => {
                        let proof = proof.unwrap_or("no proof");
                        writeln!(out, "  {level}, {proof}, last seen {date}")
                    }
                    None => writeln!(out, "  never let in, last tried {date}"),
                };
                let rule = match rule {
                    Some(rule) if !why.contains(rule) => format!(" (rule at {rule})"),
                    Some(_) | None => String::new(),
                };
                let _ = writeln!(out, "    {was}{why}{rule}");
            }
        }
        let (refused, admitted) = (domains(&self.refused), domains(&self.admitted));
        let _ = writeln!(
            out,
            "{} seen in {days} days, counted by direction: {refused} refused, {admitted} admitted",
            self.seen
        );
        out
    }
}

fn domains(changes: &[Change]) -> usize {
    changes.iter().map(|change| (&change.domain, change.direction)).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests;
