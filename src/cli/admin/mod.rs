//! The commands that ask a running fedgate, or give it orders, over its admin socket.

mod client;
mod deeds;
mod failures;
mod memory;
mod ping;
mod status;
mod streams;
mod table;
mod text;
mod watch;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use fedgate::{
    config,
    ops::report::{Check, Done, Listeners},
};

use self::{client::Client, table::Paint};
use super::ConfigDir;

/// All is well, or done.
pub(super) const OK: u8 = 0;
/// Somebody should look into it.
const WARNING: u8 = 1;
/// It does not work, or was not done.
const CRITICAL: u8 = 2;
/// It could not be found out: nobody answers.
const UNKNOWN: u8 = 3;

/// What fedgate says where there is nothing of that name or number.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoSuch(String);

/// What is asked of a running fedgate.
#[derive(Debug, Subcommand)]
pub(super) enum Admin {
    /// Show how fedgate does, and with whom it federates; of one domain everything there is.
    ///
    /// Exit status 0 if all is well, 1 with a failing domain, a certificate that is due to be renewed
    /// or a configuration that was refused, 2 if fedgate is not ready, or knows nothing of the
    /// domain, 3 if it does not answer.
    Status(status::Show),
    /// List the open streams.
    Streams(streams::Streams),
    /// Show one stream with all its domain pairs.
    ///
    /// Exit status 0, 2 if there is no such stream, 3 if fedgate does not answer.
    Show(streams::Show),
    /// Show which domain pairs fail, since when and why.
    ///
    /// Exit status 0 without any, 1 with some, 3 if fedgate does not answer.
    Failures(failures::Failures),
    /// Try failed domains again at once.
    Retry(deeds::Of),
    /// Forget failures.
    Forget(deeds::Of),
    /// What remote domains have reached so far, against which the key "downgrade" holds them.
    #[command(subcommand)]
    Memory(memory::Memory),
    /// Ping a remote domain in the name of a local one, over the way that stanzas take.
    ///
    /// Exit status 0 if every ping was answered, 1 if some were, 2 if none was or can be, as in the
    /// name of a domain that is not served here, 3 if fedgate does not answer.
    Ping(ping::Ping),
    /// Close a stream, or all streams with a domain.
    Close(deeds::Close),
    /// Read the configuration again and say what came of it.
    Reload(deeds::Plain),
    /// Take nothing new from peers, and end their streams: for one of several that is to be stopped.
    Drain(deeds::Plain),
    /// Log by another filter until the configuration is read again.
    LogLevel(deeds::LogLevel),
    /// Tell what happens, as it happens.
    Watch(watch::Watch),
}

/// How to ask.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ask {
    #[command(flatten)]
    dir: ConfigDir,
    /// The admin socket; by default that of the configuration, as far as it can be read.
    #[arg(long, value_name = "PATH", env = "FEDGATE_SOCKET")]
    socket: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Admin {
    /// Does it. Whatever keeps it from asking is exit status 3, that there is no such thing 2.
    pub(super) fn execute(self) -> ExitCode {
        let outcome = match self {
            Self::Status(command) => command.execute(),
            Self::Streams(command) => command.execute(),
            Self::Show(command) => command.execute(),
            Self::Failures(command) => command.execute(),
            Self::Retry(command) => command.execute("retry"),
            Self::Forget(command) => command.execute("forget"),
            Self::Memory(command) => command.execute(),
            Self::Ping(command) => command.execute(),
            Self::Close(command) => command.execute(),
            Self::Reload(command) => command.execute("reload"),
            Self::Drain(command) => command.execute("drain"),
            Self::LogLevel(command) => command.execute(),
            Self::Watch(command) => command.execute(),
        };
        match outcome {
            Ok(code) => ExitCode::from(code),
            // `fedgate streams | head` is good use.
            Err(error) if is_broken_pipe(&error) => ExitCode::from(OK),
            Err(error) => {
                eprintln!("fedgate: {}", text::clean(&format!("{error:#}")));
                ExitCode::from(if error.is::<NoSuch>() { CRITICAL } else { UNKNOWN })
            }
        }
    }
}

impl Ask {
    /// The way to the running fedgate.
    fn client(&self) -> anyhow::Result<Client> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => self.configured()?,
        };
        Client::new(socket)
    }

    /// The socket of the configuration. One with errors, which the running fedgate does not take, keeps
    /// nobody from asking it.
    fn configured(&self) -> anyhow::Result<PathBuf> {
        let dir = &self.dir.config;
        let (socket, problems) = match config::locate(dir) {
            Ok(loaded) => (loaded.config.admin.socket, None),
            Err(broken) => (broken.socket, Some(broken.problems)),
        };
        let socket = socket.with_context(|| {
            format!("\"admin.socket\" is off in {}: nobody can be asked", dir.display())
        })?;
        if let Some(problems) = problems {
            let (wrong, socket) = (problems.summary(), socket.display());
            let told = format!("{wrong}; asked is {socket}, another one with --socket PATH");
            eprintln!("fedgate: {}", text::clean(&told));
        }
        Ok(socket)
    }

    /// Prints JSON as it came.
    fn print_json(&self, json: &str) -> anyhow::Result<()> {
        io::stdout().write_all(json.as_bytes()).context("write to standard output")
    }

    /// Prints what came of a deed.
    fn print_done(&self, json: &str) -> anyhow::Result<u8> {
        let done: Done = serde_json::from_str(json).context("read the answer")?;
        if self.json {
            self.print_json(json)?;
        } else {
            let paint = Paint::of_stdout();
            let mut out = io::stdout().lock();
            let word = if done.ok { paint.good("done") } else { paint.bad("not done") };
            writeln!(out, "{word}: {}", text::clean(&done.detail))?;
            for problem in &done.problems {
                writeln!(out, "  {}", text::clean(problem))?;
            }
        }
        Ok(if done.ok { OK } else { CRITICAL })
    }
}

/// What the fedgate behind the socket says of its own work, be it well or not.
pub(super) fn ready(socket: PathBuf) -> anyhow::Result<Vec<Check>> {
    Client::new(socket)?.checks()
}

/// Where the fedgate behind the socket is reached, if it says so in time.
pub(super) fn listeners(socket: PathBuf, patience: Duration) -> anyhow::Result<Listeners> {
    Ok(Client::new(socket)?.within(patience).get("/api/listeners")?.0)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
