//! The sockets of the admin interface, and the connections on them.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    api::{Api, Body, Call, refusal},
    control::Control,
    guard::{Access, TokenError, Via, Wants},
    progress::Progress,
    watch::{Until, Watchers},
};
use crate::{config::model, net::handover, ops::seldom::Seldom, proxy::Monitor};

/// Connections that the kernel holds ready.
const BACKLOG: i32 = 128;
/// Connections at once: by TCP, and as many by the Unix socket.
const CONNECTIONS: usize = 64;
/// The head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// The body of a request, in bytes.
const BODY_MAX: usize = 16 << 10;
/// How long a request may take to come, how long a connection waits for the next one, and how long
/// who asked may take nothing of the answer.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// How long an answer may take. Reloading waits for the disk, checks for neighbours.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long an answer that is being given may take to its end when the interface goes.
const END_TIME: Duration = Duration::from_secs(3);
/// How long accepting rests after an error.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// The owner and the group of the process.
const MODE: u32 = 0o660;

/// Why the admin interface cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The Unix socket.
    #[error("listen on {}", .0.display())]
    Socket(PathBuf, #[source] io::Error),
    /// Another process answers there.
    #[error("{} is in use: another fedgate runs with the same state_dir or admin.socket", .0.display())]
    InUse(PathBuf),
    /// An address for HTTP.
    #[error("listen for HTTP on {0}")]
    Http(SocketAddr, #[source] io::Error),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The admin interface of one fedgate. To be made and used inside a tokio runtime.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    socket: Option<(PathBuf, CancellationToken)>,
    http: HashMap<SocketAddr, Listening>,
}

#[derive(Debug)]
struct Listening {
    local: SocketAddr,
    stop: CancellationToken,
    /// For one that takes its port over; the socket is closed when all that have it are gone.
    socket: OwnedFd,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    admission: ArcSwap<Admission>,
    /// Who comes by TCP takes no place from who comes by the socket.
    tcp_places: Arc<Semaphore>,
    socket_places: Arc<Semaphore>,
    /// Requests that were refused.
    refused: Mutex<Seldom>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// Who may come in by TCP.
#[derive(Debug, Default)]
struct Admission {
    access: Access,
    /// Others may, so those that watch have to ask again.
    over: CancellationToken,
}

/// What a configuration needs in addition, ready to be served.
pub struct Bound {
    access: Access,
    /// The wanted socket, with its listener if it is new.
    socket: Option<(PathBuf, Option<UnixListener>)>,
    wanted: Vec<SocketAddr>,
    http: Vec<(SocketAddr, TcpListener, OwnedFd)>,
}

impl Server {
    /// An interface to `monitor` that gives its orders by `control`. Nothing is listened on yet.
    #[must_use]
    pub fn new(monitor: Monitor, control: Control) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let watchers = Watchers::new(tracker.clone(), stop.clone());
        tracker.spawn(Arc::clone(&watchers).run(monitor.clone()));
        let shared = Shared {
            api: Api { monitor, control, watchers },
            admission: ArcSwap::default(),
            tcp_places: Arc::new(Semaphore::new(CONNECTIONS)),
            socket_places: Arc::new(Semaphore::new(CONNECTIONS)),
            refused: Mutex::default(),
            tracker,
            stop,
        };
        Self { shared: Arc::new(shared), socket: None, http: HashMap::new() }
    }

    /// Binds what `config` wants and is not bound yet. What is served stays as it is.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn bind(&self, config: &model::Admin) -> Result<Bound, AdminError> {
        let model::Admin { socket, http, token_file, write } = config;
        let access = Access::new(token_file.as_deref(), *write)?;
        let mut new = Vec::new();
        for &address in http.iter().filter(|address| !self.http.contains_key(address)) {
            let fail = |error| AdminError::Http(address, error);
            let old = self.leaving(http, address.port());
            let listener = handover::bind(&old, |shares| listen(address, shares)).map_err(fail)?;
            let socket = listener.as_fd().try_clone_to_owned().map_err(fail)?;
            let listener = TcpListener::from_std(listener.into()).map_err(fail)?;
            new.push((address, listener, socket));
        }
        let socket = match socket {
            Some(path) if self.socket.as_ref().is_some_and(|(old, _)| old == path) => {
                Some((path.clone(), None))
            }
            Some(path) => Some((path.clone(), Some(bind(path)?))),
            None => None,
        };
        Ok(Bound { access, socket, wanted: http.clone(), http: new })
    }

    /// The sockets at a port that the wanted addresses leave behind.
    fn leaving(&self, wanted: &[SocketAddr], port: u16) -> Vec<BorrowedFd<'_>> {
        let leaving = self.http.iter().filter(|(address, _)| !wanted.contains(address));
        leaving
            .filter(|(_, listening)| listening.local.port() == port)
            .map(|(_, listening)| listening.socket.as_fd())
            .collect()
    }

    /// Serves what was bound, and stops what is no longer wanted.
    pub fn serve(&mut self, bound: Bound) {
        self.shared.admit_by(bound.access);
        self.http.retain(|address, listening| {
            let kept = bound.wanted.contains(address);
            if !kept {
                listening.stop.cancel();
                handover::end(listening.socket.as_fd());
            }
            kept
        });
        for (address, listener, socket) in bound.http {
            let local = listener.local_addr().unwrap_or(address);
            info!(addr = %local, entry = "admin", "listening");
            let stop = self.shared.stop.child_token();
            let shared = Arc::clone(&self.shared);
            self.shared.tracker.spawn(shared.accept_tcp(listener, stop.clone()));
            self.http.insert(address, Listening { local, stop, socket });
        }
        let path = bound.socket.as_ref().map(|(path, _)| path);
        if let Some((old, stop)) = self.socket.take_if(|(old, _)| Some(&*old) != path) {
            stop.cancel();
            remove(&old);
        }
        if let Some((path, Some(listener))) = bound.socket {
            info!(path = %path.display(), entry = "admin", "listening");
            let stop = self.shared.stop.child_token();
            let shared = Arc::clone(&self.shared);
            self.shared.tracker.spawn(shared.accept_unix(listener, stop.clone()));
            self.socket = Some((path, stop));
        }
    }

    /// The addresses for HTTP, as bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.http.values().map(|listening| listening.local).collect();
        all.sort();
        all
    }

    /// Ends all connections and takes the socket away, within a few seconds.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        if let Some((path, _)) = &self.socket {
            remove(path);
        }
        self.shared.tracker.close();
        if timeout(2 * END_TIME, self.shared.tracker.wait()).await.is_err() {
            debug!("the admin interface did not end in time");
        }
    }
}

impl Shared {
    /// Watching goes on where the token is the same.
    fn admit_by(&self, access: Access) {
        let old = self.admission.load_full();
        let same = old.access.asks_the_same(&access);
        let over = if same { old.over.clone() } else { CancellationToken::new() };
        self.admission.store(Arc::new(Admission { access, over }));
        if !same {
            old.over.cancel();
        }
    }

    async fn accept_tcp(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut told = Seldom::default();
        loop {
            let Some(place) = place(&self.tcp_places, &stop).await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => self.spawn(socket, Via::Tcp, place, &stop),
                // it may have ended before this task heard of it
                Err(_) if stop.is_cancelled() => return,
                Err(error) => rest(&error, &mut told).await,
            }
        }
    }

    async fn accept_unix(self: Arc<Self>, listener: UnixListener, stop: CancellationToken) {
        let mut told = Seldom::default();
        loop {
            let Some(place) = place(&self.socket_places, &stop).await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => self.spawn(socket, Via::Socket, place, &stop),
                Err(error) => rest(&error, &mut told).await,
            }
        }
    }

    fn spawn<S>(
        self: &Arc<Self>,
        socket: S,
        via: Via,
        place: OwnedSemaphorePermit,
        stop: &CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (shared, stop) = (Arc::clone(self), stop.clone());
        self.tracker.spawn(async move {
            let service = service_fn(|request| {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                async move { Ok::<_, Infallible>(shared.answer(request, via, stop).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(Progress::new(socket, REQUEST_TIME)), service);
            let mut connection = std::pin::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    timeout(END_TIME, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = outcome {
                debug!(%error, "admin connection");
            }
            drop(place);
        });
    }

    /// How many requests were refused since the log told of one, if it is to tell again.
    fn refused_again(&self) -> Option<u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).again(Instant::now())
    }

    /// `stop`: that of the listener by which the request came in.
    async fn answer(
        &self,
        request: Request<Incoming>,
        via: Via,
        stop: CancellationToken,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let call = Call::of(&head.method, path, head.uri.query().unwrap_or_default());
        let admission = self.admission.load_full();
        let access = &admission.access;
        // Who may not read is not told either what there is.
        let wants = call.as_ref().map_or(Wants::Read, Call::wants);
        if let Err(denied) = access.check(via, wants, &head.headers) {
            if let Some(times) = self.refused_again() {
                info!(path, reason = denied.as_str(), times, "admin request refused");
            }
            return denied.into();
        }
        let call = match call {
            Ok(call) => call,
            Err(why) => return why.into(),
        };
        let body = match timeout(REQUEST_TIME, Limited::new(body, BODY_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        };
        if let Call::Do(deed) = call {
            info!(?deed, via = ?via, body = %String::from_utf8_lossy(&body).escape_debug(), "order");
        }
        let may_read = access.check(via, Wants::Read, &head.headers).is_ok();
        let over = match via {
            Via::Tcp => admission.over.clone(),
            // its file says who may
            Via::Socket => stop.clone(),
        };
        let answer = self.api.answer(call, may_read, &body, Until { stop, over });
        match timeout(ANSWER_TIME, answer).await {
            Ok(answer) => answer,
            Err(_) => refusal(StatusCode::GATEWAY_TIMEOUT, "it took too long"),
        }
    }
}

/// Who comes when all places are taken waits in the kernel's queue.
async fn place(places: &Arc<Semaphore>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        place = Arc::clone(places).acquire_owned() => place.ok(),
        () = stop.cancelled() => None,
    }
}

fn listen(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Mostly no file descriptors: some will be free again.
async fn rest(error: &io::Error, told: &mut Seldom) {
    if let Some(times) = told.again(Instant::now()) {
        warn!(%error, times, "accept on the admin interface");
    }
    sleep(ACCEPT_REST).await;
}

/// Binds beside the path and moves the socket there, so that it never stands there with another
/// mode, and takes the place of one that a dead process left.
fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    if UnixStream::connect(path).is_ok() {
        return Err(AdminError::InUse(path.to_owned()));
    }
    let fail = |error| AdminError::Socket(path.to_owned(), error);
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fail)?;
    }
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside).map_err(fail)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(MODE)).map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)?;
    Ok(listener)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        debug!(%error, path = %path.display(), "remove the admin socket");
    }
}
