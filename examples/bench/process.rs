//! What a process costs, as the kernel counts it (proc(5)).

use std::{
    fs, io,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A child process, which ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    ending: Ending,
}

/// How a process is made to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// At once.
    Kill,
    /// As an operator does it, so that it can write down what it counted about itself.
    Terminate,
}

/// CPU time of a process up to a moment.
#[derive(Clone, Default, Debug)]
pub(crate) struct CpuTime {
    /// Thread and nanoseconds, of those that live.
    threads: Vec<(u32, u64)>,
    /// All threads, in ticks of [`TICK`].
    ticks: u64,
}

/// What the kernel counts in `/proc/PID/stat`: `USER_HZ` is 100 on all of Linux.
const TICK: Duration = Duration::from_millis(10);

/// How long a process may take to end by itself.
const TIME_TO_END: Duration = Duration::from_secs(30);

impl Process {
    /// Starts it; what it says goes into `log`.
    pub(crate) fn spawn(mut command: Command, log: &fs::File, ending: Ending) -> io::Result<Self> {
        let (out, err) = (log.try_clone()?, log.try_clone()?);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn()?;
        Ok(Self { child, ending })
    }

    /// An error, once it has ended.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the process ended with {status}"),
            None => Ok(()),
        }
    }

    /// Its CPU time until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<CpuTime> {
        let pid = self.child.id();
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            // A thread that ends just now is in the ticks.
            let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
            let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let time = text.split(' ').next().and_then(|time| time.parse().ok());
            threads.extend(id.zip(time));
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which is in brackets and may hold anything, stands field 3.
        let fields = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
        let field = |number: usize| -> Option<u64> {
            fields.split_ascii_whitespace().nth(number - 3)?.parse().ok()
        };
        let ticks = field(14).zip(field(15)).context("no times in /proc/PID/stat")?;
        Ok(CpuTime { threads, ticks: ticks.0 + ticks.1 })
    }

    /// Asks it to end; whether it has.
    fn terminate(&mut self) -> io::Result<bool> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let end = Instant::now() + TIME_TO_END;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return Ok(false);
            }
            sleep(Duration::from_millis(5));
        }
        Ok(true)
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("no VmRSS in /proc/PID/status")? * 1024)
    }
}

impl CpuTime {
    /// What was spent since then. To the nanosecond, unless a thread ended meanwhile.
    pub(crate) fn since(&self, then: &Self) -> Duration {
        let now_of = |id| self.threads.iter().find(|(thread, _)| *thread == id);
        if then.threads.iter().any(|(id, _)| now_of(*id).is_none()) {
            return TICK * u32::try_from(self.ticks - then.ticks).unwrap_or(u32::MAX);
        }
        let sum = |cpu: &Self| cpu.threads.iter().map(|(_, time)| time).sum::<u64>();
        Duration::from_nanos(sum(self).saturating_sub(sum(then)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ending == Ending::Terminate {
            match self.terminate() {
                Ok(true) => return,
                outcome => eprintln!("killed, for it did not end by itself: {outcome:?}"),
            }
        }
        // That it has ended by itself does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
