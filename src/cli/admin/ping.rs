//! `fedgate ping`.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use fedgate::{
    ops::report::{self, Done},
    xmpp::Domain,
};

use super::{Ask, CRITICAL, OK, WARNING, table::Paint, text::clean};

/// Between two pings.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct Ping {
    #[command(flatten)]
    ask: Ask,
    /// The local domain, in whose name fedgate pings.
    local: Domain,
    /// The remote domain.
    remote: Domain,
    /// How often, a second apart.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
}

impl Ping {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let client = self.ask.client()?;
        let body = serde_json::json!({
            "local": self.local.to_string(),
            "remote": self.remote.to_string(),
        })
        .to_string();
        let mut answered = 0;
        for n in 0..self.count {
            if n > 0 {
                thread::sleep(PAUSE);
            }
            let json = client.post("/api/ping", body.clone())?;
            let ping: report::Ping = match serde_json::from_str(&json) {
                Ok(ping) => ping,
                Err(error) => match serde_json::from_str::<Done>(&json) {
                    Ok(_) => return self.ask.print_done(&json),
                    Err(_) => return Err(error).context("read the answer"),
                },
            };
            answered += u32::from(ping.ok);
            if self.ask.json {
                self.ask.print_json(&json)?;
            } else {
                write(&mut io::stdout().lock(), Paint::of_stdout(), &ping)?;
            }
        }
        Ok(match answered {
            0 => CRITICAL,
            n if n < self.count => WARNING,
            _ => OK,
        })
    }
}

/// Each milestone with the time since the ping began.
fn write(out: &mut impl Write, paint: Paint, ping: &report::Ping) -> io::Result<()> {
    let pair = format!("{} > {}", clean(&ping.local), clean(&ping.remote));
    writeln!(out, "{}", paint.strong(&pair))?;
    let mut line = |ms: Option<u64>, text: &str| match ms {
        Some(ms) => writeln!(out, "  {ms:>6} ms  {text}"),
        None => writeln!(out, "  {:>9}  {text}", ""),
    };
    if ping.was_open {
        line(Some(0), "a stream is open already")?;
    }
    for step in &ping.steps {
        line(Some(step.ms), &clean(&step.text))?;
    }
    if let Some(ms) = ping.opened_ms {
        line(Some(ms), "authorized")?;
    }
    if let Some(ms) = ping.written_ms {
        line(Some(ms), "written")?;
    }
    match (&ping.answer, &ping.failure) {
        (Some(answer), _) if answer == "result" => line(ping.answered_ms, &paint.good("answered")),
        (Some(condition), _) => {
            let text = format!("answered with the error {}: the way is good", clean(condition));
            line(ping.answered_ms, &paint.good(&text))
        }
        (None, failure) => {
            let why = failure.as_deref().unwrap_or("no answer");
            line(None, &paint.bad(&clean(why)))
        }
    }
}
