//! Denied addresses for the kernel: what the rules refuse to let in does not get as far as fedgate.
//!
//! The set is made from the configuration of now and knows nothing of later changes: load it again
//! after each. fedgate refuses the same addresses by itself, with or without it.
//!
//! Load balancers are let through, whatever the rules say: fedgate judges the address in the PROXY
//! header, which the kernel does not see.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use ipnet::IpNet;

/// Whom to keep from which ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deny {
    /// fedgate's listeners for peers.
    pub listeners: Vec<SocketAddr>,
    /// Ranges that do not meet, each of one family.
    pub addresses: Vec<RangeInclusive<IpAddr>>,
    /// Whose connections begin with a PROXY header.
    pub balancers: Vec<IpNet>,
}

/// There is nobody to keep out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nothing listens for peers: set listen.public or listen.direct_tls")]
pub struct NoListener;

impl Deny {
    /// The ruleset, for `nft -f`: replaces that of an earlier call in one transaction.
    ///
    /// # Errors
    /// [`NoListener`].
    pub fn ruleset(&self) -> Result<String, NoListener> {
        if self.listeners.is_empty() {
            return Err(NoListener);
        }
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
        let ports = ports.join(", ");
        // in one set no two networks may meet
        let (v4, v6): (Vec<_>, Vec<_>) =
            IpNet::aggregate(&self.balancers).into_iter().partition(|net| net.addr().is_ipv4());
        out.push_str("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n");
        for (networks, source) in [(v4, "ip saddr"), (v6, "ip6 saddr")] {
            if !networks.is_empty() {
                let networks: Vec<_> = networks.iter().map(IpNet::to_string).collect();
                let networks = networks.join(", ");
                let _ =
                    writeln!(out, "\t\ttcp dport {{ {ports} }} {source} {{ {networks} }} accept");
            }
        }
        for (set, source) in [("deny4", "ip saddr"), ("deny6", "ip6 saddr")] {
            let _ = writeln!(out, "\t\ttcp dport {{ {ports} }} {source} @{set} counter drop");
        }
        out.push_str("\t}\n}\n");
        Ok(out)
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
            balancers: Vec::new(),
        };
        let text = deny.ruleset().unwrap();
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
        let none = Deny { addresses: Vec::new(), ..deny }.ruleset().unwrap();
        assert!(!none.contains("elements"));
    }

    #[test]
    fn load_balancers_come_through_whatever_is_refused() {
        let deny = Deny {
            listeners: vec!["[::]:5269".parse().unwrap()],
            addresses: vec!["10.0.0.0".parse().unwrap()..="10.255.255.255".parse().unwrap()],
            balancers: ["10.0.0.7/24", "10.0.0.9/32", "192.0.2.1/32", "2001:db8::/64"]
                .map(|network| network.parse().unwrap())
                .to_vec(),
        };
        let text = deny.ruleset().unwrap();
        let (_, rules) = text.split_once("policy accept;\n").unwrap();
        assert_eq!(
            rules,
            "\t\ttcp dport { 5269 } ip saddr { 10.0.0.0/24, 192.0.2.1/32 } accept\n\
             \t\ttcp dport { 5269 } ip6 saddr { 2001:db8::/64 } accept\n\
             \t\ttcp dport { 5269 } ip saddr @deny4 counter drop\n\
             \t\ttcp dport { 5269 } ip6 saddr @deny6 counter drop\n\t}\n}\n"
        );
    }

    #[test]
    fn where_nothing_listens_for_peers_there_are_no_rules() {
        let deny = Deny { listeners: Vec::new(), addresses: Vec::new(), balancers: Vec::new() };
        assert_eq!(deny.ruleset(), Err(NoListener));
    }
}
