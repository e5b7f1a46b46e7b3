//! A relay between two servers whose connections break when a test says so.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};

/// How a connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Both ends get a reset, and what was on the way is lost.
    Reset,
    /// Nothing gets through any more, and nobody is told for a while.
    Hole,
}

/// How long a hole stays: longer than anybody waits.
const HOLE: Duration = Duration::from_secs(5);

/// A connection: since when, and how to break it.
type Live = (Instant, oneshot::Sender<Cut>);

/// The relay.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    live: Arc<Mutex<Vec<Live>>>,
    _task: JoinSet<()>,
}

impl Cutter {
    /// Relays all connections to that address.
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let live = Arc::<Mutex<Vec<Live>>>::default();
        let mut task = JoinSet::new();
        let register = Arc::clone(&live);
        task.spawn(async move {
            let mut relayed = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else { continue };
                let (cut, told) = oneshot::channel();
                register.lock().unwrap().push((Instant::now(), cut));
                relayed.spawn(relay(near, far, told));
                while relayed.try_join_next().is_some() {}
            }
        });
        Self { address, live, _task: task }
    }

    /// Breaks the oldest connection, if there is one and it has lived for that long.
    pub(crate) fn cut(&self, how: Cut, age: Duration) -> bool {
        let mut live = self.live.lock().unwrap();
        live.retain(|(_, cut)| !cut.is_closed());
        let is_due = live.first().is_some_and(|(since, _)| since.elapsed() >= age);
        is_due && live.remove(0).1.send(how).is_ok()
    }
}

async fn relay(mut near: TcpStream, mut far: TcpStream, cut: oneshot::Receiver<Cut>) {
    let how = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        how = cut => how,
    };
    match how {
        Ok(Cut::Reset) => {
            for socket in [&near, &far] {
                SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
        Ok(Cut::Hole) => sleep(HOLE).await,
        Err(_) => {}
    }
}
