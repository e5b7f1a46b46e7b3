//! A small XMPP server as they were before TLS: its server-to-server streams are plain TCP, and
//! server dialback (XEP-0220) is all it has to prove and to check a domain. It serves one domain,
//! answers pings (XEP-0199), and records every element on its wire.
//!
//! What it says is in `legacy/machine.rs`; this file gives it sockets.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

#[path = "legacy/machine.rs"]
mod machine;
#[path = "legacy/xml.rs"]
pub(crate) mod xml;

use machine::{Action, Machine};
pub(crate) use machine::{Arrival, Style};
use xml::{Frame, Reader};

/// A running server; it ends when this is dropped.
pub(crate) struct LegacyServer {
    core: Arc<Core>,
    address: SocketAddr,
    arrivals: UnboundedReceiver<Arrival>,
    _stop: DropGuard,
}

/// An element on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Since the clock given at the start.
    pub(crate) at: Duration,
    /// The connection's number, in order of opening.
    pub(crate) stream: usize,
    /// Whether the server opened the connection; else it accepted it.
    pub(crate) opened: bool,
    /// Whether the server sent it; else it came.
    pub(crate) sent: bool,
    pub(crate) frame: Frame,
}

struct Core {
    state: Mutex<State>,
    arrivals: UnboundedSender<Arrival>,
    clock: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct State {
    machine: Machine,
    /// What is to be written, by connection. Without bounds, like the servers it is modelled on.
    outputs: HashMap<usize, UnboundedSender<String>>,
    next_hop: Option<SocketAddr>,
    wire: Vec<Record>,
}

/// One connection.
struct Connection {
    core: Arc<Core>,
    number: usize,
    opened: bool,
    output: UnboundedReceiver<String>,
}

impl LegacyServer {
    /// Starts a server for `domain` on a free loopback port. `clock` is the zero of its records.
    pub(crate) async fn start(domain: &str, style: Style, clock: Instant) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let core = Arc::new(Core {
            state: Mutex::new(State {
                machine: Machine::new(domain, style, random()),
                outputs: HashMap::new(),
                next_hop: None,
                wire: Vec::new(),
            }),
            arrivals: sender,
            clock,
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        });
        core.spawn(Arc::clone(&core).accept(listener));
        Ok(Self { core, address, arrivals, _stop: stop.drop_guard() })
    }

    /// Where it accepts streams.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on all its connections go here, whatever the domain: what DNS answers or a
    /// redirect do to a real server.
    pub(crate) fn steer(&self, next_hop: SocketAddr) {
        self.core.lock().next_hop = Some(next_hop);
    }

    /// Sends a stanza to a domain, over a stream that is opened if need be.
    pub(crate) fn send(&self, remote: &str, stanza: String) {
        self.core.step(|machine| machine.send(remote, stanza));
    }

    /// Waits for what comes next.
    pub(crate) async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// Everything that was on the wire so far.
    pub(crate) fn wire(&self) -> Vec<Record> {
        self.core.lock().wire.clone()
    }

    /// Ends at once; gives back what arrived and was not taken.
    pub(crate) async fn stop(mut self) -> Vec<Arrival> {
        self.core.stop.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
        std::iter::from_fn(|| self.arrivals.try_recv().ok()).collect()
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every task ends with the server.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let number = self.step(Machine::accepted);
            let connection = self.connection(&mut self.lock(), number, false);
            self.spawn(connection.serve(socket));
        }
    }

    /// Lets the machine take a step and does what it wants.
    fn step<T>(self: &Arc<Self>, step: impl FnOnce(&mut Machine) -> T) -> T {
        let mut state = self.lock();
        let outcome = step(&mut state.machine);
        for action in state.machine.actions() {
            match action {
                Action::Open(number) => {
                    let connection = self.connection(&mut state, number, true);
                    self.spawn(connection.open(state.next_hop));
                }
                Action::Say(number, text) => {
                    // Nobody listens where the connection broke, which it says itself.
                    drop(state.outputs.get(&number).map(|output| output.send(text)));
                }
                Action::Close(number) => drop(state.outputs.remove(&number)),
                Action::Tell(arrival) => drop(self.arrivals.send(arrival)),
            }
        }
        outcome
    }

    fn connection(self: &Arc<Self>, state: &mut State, number: usize, opened: bool) -> Connection {
        let (sender, output) = mpsc::unbounded_channel();
        state.outputs.insert(number, sender);
        Connection { core: Arc::clone(self), number, opened, output }
    }
}

impl Connection {
    async fn open(self, next_hop: Option<SocketAddr>) {
        let socket = match next_hop {
            Some(address) => TcpStream::connect(address).await,
            None => Err(io::Error::other("the server was not steered")),
        };
        match socket {
            Ok(socket) => self.serve(socket).await,
            Err(error) => self.end(&error.to_string()),
        }
    }

    async fn serve(mut self, mut socket: TcpStream) {
        // Else short stanzas wait for the acknowledgement of those before them.
        drop(socket.set_nodelay(true));
        let why = match self.pump(&mut socket).await {
            Ok(()) => "the connection was closed".to_owned(),
            Err(error) => error.to_string(),
        };
        self.end(&why);
    }

    async fn pump(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let (mut input, mut output) = socket.split();
        let (mut received, mut sent) = (Reader::default(), Reader::default());
        let mut buffer = [0; 8192];
        loop {
            tokio::select! {
                length = input.read(&mut buffer) => {
                    let bytes = buffer.get(..length?).unwrap_or_default();
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    let mut frames = Vec::new();
                    let outcome = received.feed(bytes, &mut frames);
                    for frame in frames {
                        self.record(false, &frame);
                        self.core.step(|machine| machine.frame(self.number, &frame));
                    }
                    outcome.map_err(io::Error::other)?;
                }
                text = self.output.recv() => {
                    let Some(text) = text else { return output.shutdown().await };
                    let mut frames = Vec::new();
                    sent.feed(text.as_bytes(), &mut frames).map_err(io::Error::other)?;
                    for frame in &frames {
                        self.record(true, frame);
                    }
                    output.write_all(text.as_bytes()).await?;
                }
            }
        }
    }

    fn record(&self, sent: bool, frame: &Frame) {
        let (stream, opened, frame) = (self.number, self.opened, frame.clone());
        let record = Record { at: self.core.clock.elapsed(), stream, opened, sent, frame };
        self.core.lock().wire.push(record);
    }

    fn end(self, why: &str) {
        self.core.step(|machine| machine.closed(self.number, why));
        self.core.lock().outputs.remove(&self.number);
    }
}

/// A hundred and more bits that nobody can guess.
fn random() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    format!("{:032x}", u128::from_be_bytes(bytes))
}
