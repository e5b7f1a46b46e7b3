//! What rules say of what stanzas carry, and what it comes to for a pair.

use std::{fmt, sync::Arc};

use super::{Decision, Place, key::Key, rule::Rule};
use crate::{
    features::{Carried, Class, Classes, Member, Payloads},
    xml::{Header, Tag},
    xmpp::{Direction, Domain, jid},
};

/// What one rule says of what stanzas carry; nothing of what it leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::config) struct FeatureTerms {
    /// The classes of which it speaks,
    pub(in crate::config) spoken: Classes,
    /// and those of them that it refuses.
    pub(in crate::config) denied: Classes,
    pub(in crate::config) payloads: Option<Arc<Payloads>>,
    pub(in crate::config) whom: Whom,
}

/// For which local addresses the refusals of a rule hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::config) struct Whom {
    /// These alone; empty: all.
    pub(in crate::config) only: Vec<Role>,
    /// Not for these.
    pub(in crate::config) except: Vec<Role>,
}

/// Local addresses by a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Role {
    /// The name in the configuration.
    pub name: Arc<str>,
    /// Who has it.
    pub members: Arc<[Member]>,
}

/// What is refused to the stanzas of a pair for what they carry. Made once for a pair, from a
/// [`Decision`].
#[derive(Clone, Debug)]
pub struct Guard {
    /// The side of the stanza on which the local address stands, and its domain.
    local: Domain,
    direction: Direction,
    is_enforced: bool,
    denials: Vec<Denial>,
    payloads: Option<Arc<Payloads>>,
    /// All that is refused to anybody.
    denied: Classes,
}

#[derive(Clone, Debug)]
struct Denial {
    class: Class,
    whom: Whom,
    rule: Place,
}

/// Why a stanza is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'g> {
    /// What it is for.
    pub class: Class,
    /// The rule that refuses that.
    pub rule: &'g Place,
    /// Whether it is carried out; in mode `report` it is not.
    pub is_enforced: bool,
}

impl FeatureTerms {
    /// Says whether a class is refused.
    pub(in crate::config) fn say(&mut self, class: Class, is_denied: bool) {
        self.spoken.insert(class);
        if is_denied {
            self.denied.insert(class);
        }
    }

    /// Whether anything is said of a class.
    pub(super) fn has(&self, class: Class) -> bool {
        self.spoken.contains(class)
    }

    /// Whether both say the same of a class.
    pub(super) fn agrees(&self, other: &Self, class: Class) -> bool {
        let denied = self.denied.contains(class);
        self.has(class) == other.has(class)
            && denied == other.denied.contains(class)
            && (!denied || self.whom == other.whom)
            && (class != Class::Payloads || self.payloads == other.payloads)
    }

    /// What is said of a class, for people.
    pub(super) fn show(&self, class: Class) -> Option<String> {
        if !self.has(class) {
            return None;
        }
        let whom = if self.denied.contains(class) { self.whom.to_string() } else { String::new() };
        let word = |denied| if denied { "deny" } else { "allow" };
        Some(match (class, &self.payloads) {
            (Class::Payloads, Some(payloads)) => {
                let each = |(pattern, denied)| format!("{pattern}: {}", word(denied));
                format!("{}{whom}", payloads.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            _ => format!("{}{whom}", word(self.denied.contains(class))),
        })
    }
}

impl Whom {
    /// All roles that it names.
    pub(in crate::config) fn roles(&self) -> impl Iterator<Item = &Role> {
        self.only.iter().chain(&self.except)
    }

    /// Whether a refusal holds for a local address.
    fn holds(&self, localpart: Option<&str>, domain: &Domain) -> bool {
        let among = |roles: &[Role]| {
            roles.iter().flat_map(|role| &*role.members).any(|m| m.is(localpart, domain))
        };
        (self.only.is_empty() || among(&self.only)) && !among(&self.except)
    }

    fn is_everybody(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |roles: &[Role]| {
            roles.iter().map(|role| role.name.to_string()).collect::<Vec<_>>().join(", ")
        };
        if !self.only.is_empty() {
            write!(f, " only {}", names(&self.only))?;
        }
        if !self.except.is_empty() {
            write!(f, " except {}", names(&self.except))?;
        }
        Ok(())
    }
}

impl Decision<'_> {
    /// What stanzas of the pair may not carry, the local domain being `local`; none: anything goes.
    #[must_use]
    pub fn guard(&self, local: &Domain) -> Option<Guard> {
        let mut denials = Vec::new();
        let mut payloads = None;
        for class in Class::ALL {
            let Some(rule) = self.rule(Key::Feature(class)) else { continue };
            let Some(terms) = terms(rule).filter(|terms| terms.denied.contains(class)) else {
                continue;
            };
            if class == Class::Payloads {
                payloads.clone_from(&terms.payloads);
            }
            let (whom, rule) = (terms.whom.clone(), rule.place.clone());
            denials.push(Denial { class, whom, rule });
        }
        let denied = denials.iter().map(|denial| denial.class).collect();
        let (direction, is_enforced) = (self.direction, self.is_enforced());
        (!denials.is_empty()).then(|| Guard {
            local: local.clone(),
            direction,
            is_enforced,
            denials,
            payloads,
            denied,
        })
    }
}

impl Guard {
    /// Judges an admitted stanza of the pair, whose tag and stream header these are. What cannot be
    /// read counts as all that is refused; the framer lets none such pass.
    #[must_use]
    pub fn judge(&self, stanza: &[u8], tag: &Tag, header: &Header) -> Option<Refused<'_>> {
        let carried = Carried::by(stanza, tag)?;
        let mut found = carried.classes().common(self.denied);
        if found.is_empty() || self.is_for_some() {
            let inside = carried.inside(stanza, header, self.payloads.as_deref());
            found = inside.map_or(self.denied, |inside| inside.common(self.denied));
        }
        found.first()?;
        let jid = match self.direction {
            Direction::Inbound => tag.to,
            Direction::Outbound => tag.from,
        };
        let jid = jid.map(|span| span.text(stanza)).unwrap_or_default();
        let localpart = jid::localpart(&jid).map(jid::folded);
        let holds = |denial: &&Denial| {
            found.contains(denial.class) && denial.whom.holds(localpart.as_deref(), &self.local)
        };
        let denial = self.denials.iter().find(holds)?;
        Some(Refused { class: denial.class, rule: &denial.rule, is_enforced: self.is_enforced })
    }

    /// Whether a refusal holds for some alone, so that the first that fits need not decide.
    fn is_for_some(&self) -> bool {
        self.denials.iter().any(|denial| !denial.whom.is_everybody())
    }
}

/// Whether a rule refuses anything to anybody for what it carries.
pub(super) fn refuses(rule: &Rule) -> bool {
    terms(rule).is_some_and(|terms| !terms.denied.is_empty())
}

fn terms(rule: &Rule) -> Option<&FeatureTerms> {
    rule.terms.features.as_deref()
}

#[cfg(test)]
mod tests;
