//! Listens to what a fedgate in this process logs, so that what it says about TLS and proofs can be
//! shown, or tested, as it was said.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Since the clock given at the start.
    pub(crate) at: Duration,
    pub(crate) message: String,
    fields: BTreeMap<&'static str, String>,
}

/// A layer that keeps every line that it gets; clones share them.
#[derive(Clone)]
pub(crate) struct LogTap {
    clock: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Line {
    /// A field's value; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl LogTap {
    /// `clock` is the zero of the lines' times.
    pub(crate) fn new(clock: Instant) -> Self {
        Self { clock, lines: Arc::default() }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for LogTap {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let message = fields.remove("message").unwrap_or_default();
        let line = Line { at: self.clock.elapsed(), message, fields };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
