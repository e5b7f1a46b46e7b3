//! Denied addresses for the kernel: what the rules refuse to let in does not get as far as fedgate.
//!
//! The set is made from the configuration of now and knows nothing of later changes: load it again
//! after each. fedgate refuses the same addresses by itself, with or without it.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

/// Whom to keep from which ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deny {
    /// fedgate's listeners for peers.
    pub listeners: Vec<SocketAddr>,
    /// Ranges that do not meet, each of one family.
    pub addresses: Vec<RangeInclusive<IpAddr>>,
}

impl Deny {
    /// The ruleset, for `nft -f`: replaces that of an earlier call in one transaction.
    #[must_use]
    pub fn ruleset(&self) -> String {
        let mut out = String::from(HEAD);
        // Writing to a string cannot fail.
        let _ = write!(out, "\ntable {TABLE} {{}}\ndelete table {TABLE}\n");
        let mut ports: Vec<u16> = self.listeners.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let _ = writeln!(out, "table {TABLE} {{");
        let of = |v6: bool| {
            let own = self.addresses.iter().filter(move |range| range.start().is_ipv6() == v6);
            own.map(|range| match range.start() == range.end() {
                true => range.start().to_string(),
                false => format!("{}-{}", range.start(), range.end()),
            })
        };
        let sets = [("deny4", "ipv4_addr", false), ("deny6", "ipv6_addr", true)];
        for (set, kind, v6) in sets {
            let _ = write!(out, "\tset {set} {{\n\t\ttype {kind}\n\t\tflags interval\n");
            let elements: Vec<_> = of(v6).collect();
            if !elements.is_empty() {
                let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t"));
            }
            out.push_str("\t}\n");
        }
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        out.push_str("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n");
        for (set, source) in [("deny4", "ip saddr"), ("deny6", "ip6 saddr")] {
            let ports = ports.join(", ");
            let _ = writeln!(out, "\t\ttcp dport {{ {ports} }} {source} @{set} counter drop");
        }
        out.push_str("\t}\n}\n");
        out
    }
}

const HEAD: &str = "\
#!/usr/sbin/nft -f
# Drops connections to fedgate's public ports from the addresses that its rules refuse.
# Load it in the network namespace of fedgate, and again when the rules have changed.
";
/// Of both families, for the listeners are.
pub(super) const TABLE: &str = "inet fedgate_deny";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_stand_in_sets_for_the_public_ports() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let deny = Deny {
            listeners: ["[::]:5270", "[::]:5269", "192.0.2.1:5269"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            addresses: vec![
                ip("203.0.113.0")..=ip("203.0.113.127"),
                ip("203.0.113.200")..=ip("203.0.113.200"),
                ip("2001:db8::")..=ip("2001:db8::ffff"),
            ],
        };
        let text = deny.ruleset();
        let (_, rules) = text.split_once("table inet fedgate_deny {\n").unwrap();
        assert_eq!(
            rules,
            "\tset deny4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\
             \t\telements = { 203.0.113.0-203.0.113.127,\n\t\t\t203.0.113.200 }\n\t}\n\
             \tset deny6 {\n\t\ttype ipv6_addr\n\t\tflags interval\n\
             \t\telements = { 2001:db8::-2001:db8::ffff }\n\t}\n\
             \tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n\
             \t\ttcp dport { 5269, 5270 } ip saddr @deny4 counter drop\n\
             \t\ttcp dport { 5269, 5270 } ip6 saddr @deny6 counter drop\n\t}\n}\n"
        );
        let none = Deny { addresses: Vec::new(), ..deny }.ruleset();
        assert!(!none.contains("elements"));
    }
}
