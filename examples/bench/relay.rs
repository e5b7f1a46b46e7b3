//! The two baselines: relays that know nothing of what they carry. They are run as a process of
//! their own, with the same kind of runtime as fedgate.
//!
//! Each connection that comes in leads to one that goes out. Whatever a read gave is written at
//! once; nothing waits for more, and Nagle's algorithm is off.

use std::{env, net::SocketAddr, path::PathBuf, sync::Arc, thread};

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustls::pki_types::ServerName;
use tokio::{
    io::{self, AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{names, pki::Identity};

/// `bench relay`, which the benchmark starts by itself.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What it speaks on its two sides.
    #[arg(long, value_enum)]
    kind: Kind,
    #[arg(long)]
    listen: SocketAddr,
    /// Where each connection is carried on to.
    #[arg(long)]
    to: SocketAddr,
    /// Where certificates are.
    #[arg(long)]
    directory: PathBuf,
}

/// What is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Kind {
    /// Nothing.
    Tcp,
    /// TLS comes in, and goes on in the clear.
    TlsIn,
    /// What comes in the clear goes on over TLS.
    TlsOut,
    /// TLS comes in, and gets back what it says: a handshake and little more.
    TlsAccept,
}

/// Bytes of the buffer of each direction.
const BUFFER: usize = 64 * 1024;

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // As many threads as fedgate has.
    let workers = match env::var("FEDGATE_WORKERS") {
        Ok(count) => count.parse().context("FEDGATE_WORKERS")?,
        Err(_) => thread::available_parallelism()?.get().div_ceil(2),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { kind, listen, to, directory } = arguments;
    let (kind, to) = (*kind, *to);
    let name = if kind == Kind::TlsOut { names::PEERS } else { names::LEGACY };
    let identity = Identity::read(directory, name)?;
    let acceptor = TlsAcceptor::from(identity.server()?);
    let connector = TlsConnector::from(identity.client()?);
    let tls = Arc::new((acceptor, connector));
    let listener = TcpListener::bind(listen).await.context("listen")?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        let tls = Arc::clone(&tls);
        connections.spawn(async move {
            // The ends of connections are what the load generator looks at.
            let _ = carry(kind, socket, to, &tls).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(
    kind: Kind,
    near: TcpStream,
    to: SocketAddr,
    (acceptor, connector): &(TlsAcceptor, TlsConnector),
) -> anyhow::Result<()> {
    near.set_nodelay(true)?;
    match kind {
        Kind::Tcp => copy(near, connect(to).await?).await?,
        Kind::TlsIn => {
            let near = acceptor.accept(near).await?;
            copy(near, connect(to).await?).await?;
        }
        Kind::TlsAccept => {
            let (mut from, mut to) = io::split(acceptor.accept(near).await?);
            io::copy(&mut from, &mut to).await?;
        }
        Kind::TlsOut => {
            let name = ServerName::try_from(names::peer(0))?;
            let far = connector.connect(name, connect(to).await?).await?;
            copy(near, far).await?;
        }
    }
    Ok(())
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn copy(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
