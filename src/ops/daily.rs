//! The report of a day, in the shape of RFC 8460 §4.4: what became of the streams with each remote
//! domain. Its result types are of TLS; what fails otherwise is `validation-failure`, with our own
//! word for it as `failure-reason-code`. `direction` is a member of ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::civil;

/// Remote domains of a day that are told apart; strangers choose them.
const DOMAINS: usize = 1000;
/// Kinds of failure of one domain that are told apart.
const KINDS: usize = 16;
/// Stands for the domains beyond.
const OTHERS: &str = "*";
/// In seconds.
const DAY: u64 = 24 * 60 * 60;

/// The report of one day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Who reports: the local domains.
    pub organization_name: String,
    /// The day, from its first to its last second.
    pub date_range: DateRange,
    /// Tells it from all other reports.
    pub report_id: String,
    /// One for each remote domain.
    pub policies: Vec<Policy>,
}

/// From when to when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DateRange {
    /// The first second (RFC 3339).
    pub start_datetime: String,
    /// The last second.
    pub end_datetime: String,
}

/// What became of the streams with one remote domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Which domain.
    pub policy: PolicyOf,
    /// How often it went well, and how often not.
    pub summary: Summary,
    /// The failures by type.
    pub failure_details: Vec<Detail>,
}

/// Which domain a policy is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyOf {
    /// Always `no-policy-found`: XMPP has none of MTA-STS, and what DANE says is in the types.
    pub policy_type: String,
    /// The remote domain, as an A-label; `*` for all that were too many to be told apart.
    pub policy_domain: String,
}

/// How often it went well, and how often not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Pairs that came about.
    pub total_successful_session_count: u64,
    /// Attempts that came to nothing.
    pub total_failure_session_count: u64,
}

/// Failures of one type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detail {
    /// RFC 8460 §4.3.
    pub result_type: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// How often.
    pub failed_session_count: u64,
    /// Our word for it, as in `/api/failures`.
    pub failure_reason_code: String,
    /// In words, of the first one.
    pub additional_information: String,
}

/// What was counted of one day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Day {
    /// Days since 1970.
    number: u64,
    domains: BTreeMap<String, Counted>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Counted {
    successful: u64,
    details: Vec<Detail>,
}

/// One failure.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The remote domain, as an A-label.
    pub remote: &'a str,
    /// Why, in one word.
    pub reason: &'a str,
    /// Why, in words.
    pub detail: &'a str,
}

impl Day {
    /// The day of a time, in seconds since 1970, with nothing counted.
    #[must_use]
    pub fn of(now: u64) -> Self {
        Self { number: now / DAY, domains: BTreeMap::new() }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        now / DAY > self.number
    }

    /// Goes on counting where a report of the same day ends.
    #[must_use]
    pub fn after(self, report: Report) -> Self {
        let mut day = Self { number: self.number, domains: BTreeMap::new() };
        for policy in report.policies.into_iter().take(DOMAINS + 1) {
            let mut details = policy.failure_details;
            details.truncate(KINDS + 1);
            let successful = policy.summary.total_successful_session_count;
            day.domains.insert(policy.policy.policy_domain, Counted { successful, details });
        }
        for (remote, counted) in self.domains {
            let sum = day.domain(&remote);
            sum.successful += counted.successful;
            for detail in counted.details {
                let Detail { direction, result_type, failure_reason_code: reason, .. } = &detail;
                let kind = [&**direction, result_type, reason];
                sum.failed(kind, detail.failed_session_count, &detail.additional_information);
            }
        }
        day
    }

    /// A pair with a remote domain came about.
    pub fn succeeded(&mut self, remote: &str) {
        self.domain(remote).successful += 1;
    }

    /// An attempt failed.
    pub fn failed(&mut self, fact: Fact<'_>) {
        let Fact { direction, remote, reason, detail } = fact;
        let kind = [direction, result_type(reason, detail), reason];
        self.domain(remote).failed(kind, 1, detail);
    }

    fn domain(&mut self, remote: &str) -> &mut Counted {
        let is_known = self.domains.len() < DOMAINS || self.domains.contains_key(remote);
        self.domains.entry(if is_known { remote } else { OTHERS }.to_owned()).or_default()
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}{SUFFIX}", civil::day(self.number))
    }

    /// The report of it, until now.
    #[must_use]
    pub fn report(&self, organization: &str) -> Report {
        let date = civil::day(self.number);
        let policies = self.domains.iter().map(|(domain, counted)| {
            let failed = counted.details.iter().map(|detail| detail.failed_session_count).sum();
            Policy {
                policy: PolicyOf {
                    policy_type: "no-policy-found".to_owned(),
                    policy_domain: domain.clone(),
                },
                summary: Summary {
                    total_successful_session_count: counted.successful,
                    total_failure_session_count: failed,
                },
                failure_details: counted.details.clone(),
            }
        });
        Report {
            organization_name: organization.to_owned(),
            date_range: DateRange {
                start_datetime: format!("{date}T00:00:00Z"),
                end_datetime: format!("{date}T23:59:59Z"),
            },
            report_id: format!("{date}_{organization}"),
            policies: policies.collect(),
        }
    }
}

impl Counted {
    /// So many failures of one kind, the first of which is told in words.
    fn failed(&mut self, [direction, result, reason]: [&str; 3], times: u64, text: &str) {
        let details = &mut self.details;
        let is_same = |known: &Detail| {
            (&*known.direction, &*known.result_type, &*known.failure_reason_code)
                == (direction, result, reason)
        };
        let is_full = details.len() >= KINDS;
        // behind the last one stands that for all others
        let known = details.iter().position(is_same).or(is_full.then_some(KINDS));
        if let Some(known) = known.and_then(|at| details.get_mut(at)) {
            known.failed_session_count += times;
            return;
        }
        details.push(Detail {
            result_type: if is_full { OTHER_TYPE } else { result }.to_owned(),
            direction: direction.to_owned(),
            failed_session_count: times,
            failure_reason_code: if is_full { OTHERS } else { reason }.to_owned(),
            additional_information: text.chars().take(TEXT).collect(),
        });
    }
}

/// Whether a file of that name is a report from before the last `keep` days, and may go.
#[must_use]
pub fn is_outdated(name: &str, now: u64, keep: u64) -> bool {
    let Some(date) = name.strip_suffix(SUFFIX) else { return false };
    let first = (now / DAY).saturating_sub(keep);
    // dates of this form have the order of time
    is_date(date) && date < civil::day(first).as_str()
}

fn is_date(text: &str) -> bool {
    let form = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    form && text.len() == "2026-01-01".len()
}

/// The type of RFC 8460 §4.3 for a failure, from our word for it and the words of the error.
fn result_type(reason: &str, detail: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|words| detail.contains(words));
    match reason {
        "tls" if says(&["STARTTLS", "no TLS"]) => "starttls-not-supported",
        "resolution" if says(&["dnssec validation failed"]) => "dnssec-invalid",
        "not-proven" if says(&["TLSA records of", "TLSA record of"]) => "tlsa-invalid",
        "not-proven" if says(&[" expired on "]) => "certificate-expired",
        "not-proven" if says(&["certificate is not for "]) => "certificate-host-mismatch",
        "not-proven" if says(&["issuer is unknown", "self-signed"]) => "certificate-not-trusted",
        _ => OTHER_TYPE,
    }
}

/// What is of no other type.
const OTHER_TYPE: &str = "validation-failure";
/// Characters of a text that are kept.
const TEXT: usize = 200;
/// What the names of the files end with.
const SUFFIX: &str = ".json";

#[cfg(test)]
mod tests;
