//! The Linux redirect: nftables rules that send the legacy server's outgoing S2S connections to
//! fedgate's local listener, for servers whose resolver cannot be steered.
//!
//! The rules belong into the network namespace of the legacy server. They see its connections by
//! port, so that a peer whose SRV records name another port than 5269 escapes them, and it still
//! resolves every remote domain by itself first: prefer the DNS responder where it can be used.
//!
//! Promises: text that loads at once or not at all, and may be loaded again at any time; fedgate's
//! own connections and those to this host are left alone; what cannot be redirected is refused at
//! once rather than left to leak past fedgate in the clear.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Stdio},
    str::FromStr,
};

mod deny;

pub use deny::{Deny, NoListener};

/// What is redirected, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// fedgate's local listeners; the first that is reachable counts for its family.
    pub listeners: Vec<SocketAddr>,
    /// Whom fedgate runs as: its own connections must get out.
    pub fedgate: User,
    /// Whom the legacy server runs as, if nobody else's connections are to be redirected.
    pub legacy: Option<User>,
}

/// A user of the system; a name is looked up by `nft` when it loads the rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// By number.
    Id(u32),
    /// By name: letters, digits, `_`, `-` and `.`.
    Name(String),
}

/// A text that is neither a user's number nor a user's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a user name or number")]
pub struct UserError;

/// Why there can be no such rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RedirectError {
    /// There is nowhere to send the connections.
    #[error("no local listener to redirect to: set listen.local")]
    NoListener,
    /// The exemption of one would exempt the other.
    #[error("fedgate and the legacy server run as the same user: fedgate needs one of its own")]
    SameUser,
}

/// Why `nft` did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It could not be run.
    #[error("run nft (package nftables)")]
    Run(#[source] io::Error),
    /// It refused, and said this.
    #[error("nft: {0}")]
    Refused(String),
}

impl Redirect {
    /// The ruleset, for `nft -f`: replaces that of an earlier call in one transaction.
    ///
    /// # Errors
    /// [`RedirectError`] where the rules could not work.
    pub fn ruleset(&self) -> Result<String, RedirectError> {
        if self.listeners.is_empty() {
            return Err(RedirectError::NoListener);
        }
        if self.legacy.as_ref() == Some(&self.fedgate) {
            return Err(RedirectError::SameUser);
        }
        let mut out = String::from(HEAD);
        for family in [Family::V4, Family::V6] {
            self.write_table(&mut out, family);
        }
        Ok(out)
    }

    fn write_table(&self, out: &mut String, family: Family) {
        let mut lines = vec![
            "# fedgate itself, on its way to the peer".to_owned(),
            format!("meta skuid {} return", self.fedgate),
        ];
        if let Some(legacy) = &self.legacy {
            lines.push("# anyone but the legacy server".into());
            lines.push(format!("meta skuid != {legacy} return"));
        }
        lines.push("# this host".into());
        lines.push("fib daddr type local return".into());
        let (hook, verdict) = match self.destination(family) {
            Some(destination) => ("type nat hook output priority -100", destination),
            None => {
                lines.push(format!("# no local listener on {family}: refused, so that the legacy"));
                lines.push("# server goes on to the other address family at once".into());
                // The last packets of a connection have no socket any more, and so no user: of what
                // is open nothing is refused, or fedgate's own connections would end with a reset.
                let refuse = "tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset";
                ("type filter hook output priority 0", refuse.into())
            }
        };
        lines.push(format!("tcp dport {XMPP_SERVER} {verdict}"));
        // Writing to a string cannot fail.
        let table = family.table();
        let _ = write!(out, "\ntable {table} {{}}\ndelete table {table}\n");
        let _ = write!(out, "table {table} {{\n\tchain output {{\n\t\t{hook}; policy accept;\n");
        for line in lines {
            let _ = writeln!(out, "\t\t{line}");
        }
        out.push_str("\t}\n}\n");
    }

    /// Where the connections of the family go. `redirect` means 127.0.0.1 or ::1 for connections
    /// made on this host; a listener elsewhere is named by its address.
    fn destination(&self, family: Family) -> Option<String> {
        let of_family = || self.listeners.iter().filter(|l| family.has(l.ip()));
        let loopback = family.loopback();
        let redirected = of_family().find(|l| l.ip().is_unspecified() || l.ip() == loopback);
        let named = || of_family().next().map(|listener| format!("dnat to {listener}"));
        // `[::]` takes IPv4 too
        let any = || self.listeners.iter().find(|l| l.ip() == Ipv6Addr::UNSPECIFIED);
        let redirect = |listener: &SocketAddr| format!("redirect to :{}", listener.port());
        redirected.map(redirect).or_else(named).or_else(|| any().map(redirect))
    }
}

/// Loads a ruleset into this network namespace; needs root or `CAP_NET_ADMIN`.
///
/// # Errors
/// [`NftError`], with what `nft` said; nothing has changed then.
pub fn apply(ruleset: &str) -> Result<(), NftError> {
    let run = |program: &str| {
        Command::new(program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    let spawned = match run("nft") {
        // Outside of root's PATH.
        Err(error) if error.kind() == io::ErrorKind::NotFound => run("/usr/sbin/nft"),
        spawned => spawned,
    };
    let mut nft = spawned.map_err(NftError::Run)?;
    if let Some(mut stdin) = nft.stdin.take() {
        // When it ends early, it says why on stderr.
        drop(stdin.write_all(ruleset.as_bytes()));
    }
    let output = nft.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(format!("{} ({})", said.trim(), output.status)))
}

/// Removes what [`apply`] loaded, if it did.
///
/// # Errors
/// As of [`apply`].
pub fn remove() -> Result<(), NftError> {
    remove_tables(&[Family::V4.table(), Family::V6.table()])
}

/// Removes what [`apply`] loaded of [`Deny`], if it did.
///
/// # Errors
/// As of [`apply`].
pub fn remove_deny() -> Result<(), NftError> {
    remove_tables(&[deny::TABLE])
}

fn remove_tables(tables: &[&str]) -> Result<(), NftError> {
    let mut ruleset = String::new();
    for table in tables {
        let _ = write!(ruleset, "table {table} {{}}\ndelete table {table}\n");
    }
    apply(&ruleset)
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::Id).map_err(|_| UserError);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if text.len() > LONGEST_USER || text.starts_with('-') || !text.bytes().all(fits) {
            return Err(UserError);
        }
        Ok(Self::Name(text.into()))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// A table for each family: one for both needs a kernel that old servers may not have.
    fn table(self) -> &'static str {
        match self {
            Self::V4 => "ip fedgate_steer",
            Self::V6 => "ip6 fedgate_steer",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

const HEAD: &str = "\
#!/usr/sbin/nft -f
# Sends the legacy server's outgoing S2S connections to fedgate's local listener.
# Load it in the network namespace of the legacy server; loading it again replaces it.
# A peer on another port than 5269 is not seen: steer by DNS where you can.
# Redirected to a loopback address, connections count as coming from there; to any
# other, they keep the host's address, which then must be among legacy.*.sources.
";
/// The port that is redirected (RFC 6120 §14.7).
const XMPP_SERVER: u16 = 5269;
/// Bytes of a user name (`useradd`'s limit).
const LONGEST_USER: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(listeners: &[&str]) -> Redirect {
        Redirect {
            listeners: listeners.iter().map(|l| l.parse().unwrap()).collect(),
            fedgate: User::Name("fedgate".into()),
            legacy: None,
        }
    }

    /// The rules of each table, without comments.
    fn rules(redirect: &Redirect) -> Vec<Vec<String>> {
        let ruleset = redirect.ruleset().unwrap();
        let tables = ruleset.split("chain output {").skip(1);
        tables
            .map(|table| {
                let lines = table.lines().map(str::trim);
                lines
                    .filter(|l| !l.starts_with('#') && !l.is_empty())
                    .take_while(|l| *l != "}")
                    .map(Into::into)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn a_listener_on_loopback_is_redirected_to_and_the_other_family_refused() {
        let nat = [
            "type nat hook output priority -100; policy accept;",
            "meta skuid \"fedgate\" return",
            "fib daddr type local return",
            "tcp dport 5269 redirect to :5270",
        ];
        let refuse = [
            "type filter hook output priority 0; policy accept;",
            "meta skuid \"fedgate\" return",
            "fib daddr type local return",
            "tcp dport 5269 tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset",
        ];
        for (listener, expected) in [
            ("127.0.0.1:5270", [nat, refuse]),
            ("0.0.0.0:5270", [nat, refuse]),
            ("[::1]:5270", [refuse, nat]),
            ("[::]:5270", [nat, nat]),
        ] {
            assert_eq!(rules(&redirect(&[listener])), expected, "{listener}");
        }
        assert_eq!(rules(&redirect(&["[::]:5270", "127.0.0.1:5270"])), [nat, nat]);
    }

    #[test]
    fn a_listener_elsewhere_is_named_by_its_address() {
        let elsewhere = redirect(&["10.0.0.2:5270", "[fd00::2]:5271"]);
        let verdicts: Vec<_> = rules(&elsewhere).into_iter().map(|t| t[3].clone()).collect();
        let expected = ["10.0.0.2:5270", "[fd00::2]:5271"];
        assert_eq!(verdicts, expected.map(|to| format!("tcp dport 5269 dnat to {to}")));
        let any = redirect(&["10.0.0.2:5270", "[::]:5271"]);
        let verdicts: Vec<_> = rules(&any).into_iter().map(|t| t[3].clone()).collect();
        let expected = ["dnat to 10.0.0.2:5270", "redirect to :5271"];
        assert_eq!(verdicts, expected.map(|to| format!("tcp dport 5269 {to}")));
        let both = redirect(&["10.0.0.2:5270", "127.0.0.1:5272"]);
        assert_eq!(rules(&both)[0][3], "tcp dport 5269 redirect to :5272");
    }

    #[test]
    fn only_the_legacy_servers_connections_are_redirected_where_it_has_a_user() {
        let mut redirect = redirect(&["127.0.0.1:5270"]);
        redirect.legacy = Some(User::Id(1001));
        assert_eq!(rules(&redirect)[0][2], "meta skuid != 1001 return");
        assert_eq!(rules(&redirect)[1][2], "meta skuid != 1001 return");
        redirect.fedgate = User::Id(1001);
        assert_eq!(redirect.ruleset(), Err(RedirectError::SameUser));
    }

    #[test]
    fn without_a_listener_there_are_no_rules() {
        assert_eq!(redirect(&[]).ruleset(), Err(RedirectError::NoListener));
    }

    #[test]
    fn a_user_is_a_number_or_a_plain_name() {
        assert_eq!("1001".parse(), Ok(User::Id(1001)));
        assert_eq!("_jabber.d-2".parse(), Ok(User::Name("_jabber.d-2".into())));
        let long = "a".repeat(33);
        for text in ["", "-x", "a b", "a\"", "a;b", "a\n", "4294967296", "ü", &long] {
            assert_eq!(text.parse::<User>(), Err(UserError), "{text:?}");
        }
    }
}
