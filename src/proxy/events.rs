//! What happens, told to whoever watches at the moment. Nobody waits for a watcher: one that is
//! slow misses some.

use tokio::sync::broadcast;

use crate::{
    ops::report::{self, Event},
    xmpp::{Direction, Domain, DomainPair},
};

/// Events that a watcher may be behind.
const BEHIND: usize = 256;

/// Tells watchers what happens.
#[derive(Debug)]
pub(super) struct Events(broadcast::Sender<Event>);

/// Whom an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) stream: Option<u64>,
    pub(super) direction: Option<Direction>,
    pub(super) local: Option<&'a Domain>,
    pub(super) remote: Option<&'a Domain>,
}

impl<'a> About<'a> {
    /// A stream.
    pub(super) fn stream(id: u64, direction: Direction) -> Self {
        Self { stream: Some(id), direction: Some(direction), ..Self::default() }
    }

    /// A pair in that direction.
    pub(super) fn pair(pair: &'a DomainPair, direction: Direction) -> Self {
        Self { direction: Some(direction), ..Self::default() }.of(pair)
    }

    /// The same about a pair.
    pub(super) fn of(mut self, pair: &'a DomainPair) -> Self {
        (self.local, self.remote) = match self.direction {
            Some(Direction::Inbound) => (Some(&pair.target), Some(&pair.sender)),
            Some(Direction::Outbound) | None => (Some(&pair.sender), Some(&pair.target)),
        };
        self
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }

    /// From now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// Tells what happened; costs nothing while nobody watches.
    pub(super) fn tell(&self, what: &str, about: About<'_>, detail: impl FnOnce() -> String) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let name = |domain: Option<&Domain>| domain.map(Domain::to_unicode);
        // Without a watcher by now it is nobody's.
        let _ = self.0.send(Event {
            at: report::now(),
            what: what.to_owned(),
            stream: about.stream,
            direction: about.direction.map(|direction| direction.as_str().to_owned()),
            local: name(about.local),
            remote: name(about.remote),
            detail: detail(),
        });
    }
}
