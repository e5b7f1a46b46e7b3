//! Orders to the process that only its main loop can carry out.

use tokio::sync::{mpsc, oneshot};

use crate::ops::report::Done;

/// Orders that may wait.
const WAITING: usize = 8;

/// What the process is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Read the configuration again.
    Reload,
    /// Take nothing new from peers.
    Drain,
    /// Log by this filter until the configuration is read again.
    LogLevel(String),
}

/// A command, and where its outcome goes.
#[derive(Debug)]
pub struct Order {
    /// What to do.
    pub command: Command,
    /// Takes the outcome. That nobody waits for it any more does not matter.
    pub reply: oneshot::Sender<Done>,
}

/// Gives orders.
#[derive(Clone, Debug)]
pub struct Control(mpsc::Sender<Order>);

impl Control {
    /// A control, and where its orders come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Gives an order and waits for its outcome.
    pub(super) async fn order(&self, command: Command) -> Done {
        let (reply, outcome) = oneshot::channel();
        if self.0.send(Order { command, reply }).await.is_err() {
            return ended();
        }
        outcome.await.unwrap_or_else(|_| ended())
    }
}

fn ended() -> Done {
    let detail = "fedgate is ending: no more orders are taken".to_owned();
    Done { ok: false, detail, problems: Vec::new() }
}
