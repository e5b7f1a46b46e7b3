//! What the process may do, settled before it reads a file or starts a thread.

use std::{convert::Infallible, str::FromStr};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};
use rustix::{
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
        set_no_new_privs,
    },
};

/// Whom to run as: `USER` or `USER:GROUP`, each by name or number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Account {
    user: String,
    group: Option<String>,
}

/// What is left of root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// Everything.
    Root,
    /// Nothing, but that ports below 1024 may be listened on where that was so before.
    Nothing,
}

/// Gives up what `run` does not need: being root, if another account is named; new privileges by any
/// program that it might be made to execute; and core dumps, in which its secrets would stand. Nobody
/// of the same user can look into its memory either.
///
/// To be called while there is no other thread, for capabilities are each thread's own.
///
/// # Errors
/// If the account is not there, or the system refuses.
pub(super) fn settle(account: Option<&Account>) -> anyhow::Result<Left> {
    if let Some(account) = account {
        account.become_it().with_context(|| format!("run as {}", account.user))?;
    }
    set_no_new_privs(true).context("renounce new privileges")?;
    // last, for to change the user sets it anew
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("renounce core dumps")?;
    Ok(if geteuid().is_root() { Left::Root } else { Left::Nothing })
}

impl Account {
    fn become_it(&self) -> anyhow::Result<()> {
        let (uid, gid, name) = self.found()?;
        if uid.is_root() {
            bail!("that is root");
        }
        if geteuid() == uid {
            return Ok(());
        }
        if !geteuid().is_root() {
            bail!("only root can become another user");
        }
        let Some(gid) = gid else { bail!("it has no group: name one, as USER:GROUP") };
        // Files are then read, and read again, as that user. Sockets are bound again by a reload too,
        // and those of the DNS responder want a port below 1024.
        let ports = capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE;
        set_keep_capabilities(true)?;
        match &name {
            Some(name) => initgroups(name, gid).context("take its groups")?,
            None => setgroups(&[gid]).context("take its group")?,
        }
        setgid(gid).context("take its group")?;
        setuid(uid)?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: ports,
                permitted: ports,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        set_keep_capabilities(false)?;
        if setuid(Uid::from_raw(0)).is_ok() {
            bail!("root is still to be had");
        }
        Ok(())
    }

    /// The user, its group, and its name where it has one.
    fn found(&self) -> anyhow::Result<(Uid, Option<Gid>, Option<std::ffi::CString>)> {
        let user = match self.user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(&self.user),
        };
        let user = user.context("look the user up")?;
        let uid = match (&user, self.user.parse()) {
            (Some(user), _) => user.uid,
            (None, Ok(number)) => Uid::from_raw(number),
            (None, Err(_)) => bail!("there is no such user"),
        };
        let gid = match &self.group {
            Some(group) => Some(group_of(group)?),
            None => user.as_ref().map(|user| user.gid),
        };
        let name = user.map(|user| std::ffi::CString::new(user.name)).transpose()?;
        Ok((uid, gid, name))
    }
}

fn group_of(group: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(group).context("look the group up")? {
        Some(group) => Ok(group.gid),
        None => bail!("there is no group {group}"),
    }
}

impl FromStr for Account {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some((user, group)) => Self { user: user.to_owned(), group: Some(group.to_owned()) },
            None => Self { user: text.to_owned(), group: None },
        })
    }
}
