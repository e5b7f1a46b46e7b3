//! The log: one line an event on standard error, as text for people or JSON for machines.
//!
//! Levels by what a person should do: `error` wake someone, `warn` look into it by day, `info` a
//! state that users would notice, `debug` a choice taken. What a peer does is never above `info`:
//! strangers do not write our alarms.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, registry::LookupSpan, reload,
    util::SubscriberInitExt,
};

use crate::config::model::{Log, LogFormat};

/// Crates whose lines strangers can cause, or that say nothing an operator can use.
const QUIET: &[&str] =
    &["hickory_net=off", "hickory_resolver=off", "hickory_proto=off", "notify=off", "rustls=off"];

/// Changes the level while running.
#[derive(Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level or filter.
    #[error("log level {0:?}")]
    Level(String, #[source] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("set up the log")]
    Init(#[source] tracing_subscriber::util::TryInitError),
    /// The log is gone.
    #[error("change the log level")]
    Gone(#[source] reload::Error),
}

/// Sets up the log of the process.
///
/// # Errors
/// [`LogError`].
pub fn init(config: &Log) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(config.format))
        .try_init()
        .map_err(LogError::Init)?;
    Ok(LogHandle(handle))
}

impl LogHandle {
    /// Sets another level.
    ///
    /// # Errors
    /// [`LogError::Level`] for what is no level.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?).map_err(LogError::Gone)
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let mut filter =
        EnvFilter::try_new(level).map_err(|error| LogError::Level(level.to_owned(), error))?;
    for directive in QUIET {
        if let Ok(directive) = directive.parse() {
            filter = filter.add_directive(directive);
        }
    }
    Ok(filter)
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_span_list(false).with_current_span(false).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        assert!(filter("info").is_ok());
        assert!(filter("fedgate=debug,info").is_ok());
        assert!(filter("fedgate=loud").is_err());
    }
}
