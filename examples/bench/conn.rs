//! One connection of the load generator, in the clear or with TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use bytes::BytesMut;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection with what came over it and was not looked at yet.
pub(crate) struct Conn {
    io: Io,
    pub(crate) input: BytesMut,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Gone,
}

/// How stanzas are put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// As many as fit into one record or write.
    Many,
    /// A TLS record for each; in the clear, a write for each.
    Single,
}

/// How much is read at once, in bytes.
const CHUNK: usize = 128 * 1024;

impl Conn {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { io: Io::Plain(socket), input: BytesMut::new() })
    }

    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let socket = timeout(PATIENCE, TcpStream::connect(to)).await??;
        Ok(Self::new(socket)?)
    }

    /// Writes text of the negotiation.
    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.write(text.as_ref(), usize::MAX, Packing::Many).await
    }

    /// Writes stanzas of `each` bytes.
    pub(crate) async fn write(
        &mut self,
        stanzas: &[u8],
        each: usize,
        packing: Packing,
    ) -> io::Result<()> {
        match (&mut self.io, packing) {
            (Io::Plain(socket), Packing::Many) => socket.write_all(stanzas).await,
            (Io::Plain(socket), Packing::Single) => {
                for stanza in stanzas.chunks(each) {
                    socket.write_all(stanza).await?;
                }
                Ok(())
            }
            (Io::Tls(stream), Packing::Many) => {
                stream.write_all(stanzas).await?;
                stream.flush().await
            }
            (Io::Tls(stream), Packing::Single) => {
                for stanza in stanzas.chunks(each) {
                    // Each goes into a record; they leave when the writer's buffer is full.
                    let written = match &mut **stream {
                        TlsStream::Client(tls) => {
                            io::Write::write(&mut tls.get_mut().1.writer(), stanza)
                        }
                        TlsStream::Server(tls) => {
                            io::Write::write(&mut tls.get_mut().1.writer(), stanza)
                        }
                    }?;
                    let rest = stanza.get(written..).unwrap_or_default();
                    if !rest.is_empty() {
                        stream.write_all(rest).await?;
                    }
                }
                stream.flush().await
            }
            (Io::Gone, _) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads once, behind what is in the input; an error at the end.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(CHUNK);
        let read = match &mut self.io {
            Io::Plain(socket) => socket.read_buf(&mut self.input).await?,
            Io::Tls(stream) => stream.read_buf(&mut self.input).await?,
            Io::Gone => 0,
        };
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }

    /// All up to and including `pattern`.
    pub(crate) async fn until(&mut self, pattern: &str) -> anyhow::Result<String> {
        let finder = memchr::memmem::Finder::new(pattern);
        loop {
            if let Some(at) = finder.find(&self.input) {
                let text = self.input.split_to(at + pattern.len());
                return Ok(String::from_utf8(text.to_vec())?);
            }
            let came = match timeout(PATIENCE, self.read()).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "nothing more came".to_owned(),
            };
            bail!("{pattern}: {came}; there is {:?}", String::from_utf8_lossy(&self.input));
        }
    }

    /// Whether the other end begins with a handshake of TLS.
    pub(crate) async fn begins_with_tls(&self) -> io::Result<bool> {
        const HANDSHAKE: u8 = 22; // RFC 8446 §5.1
        let mut first = [0];
        match &self.io {
            Io::Plain(socket) => Ok(socket.peek(&mut first).await? > 0 && first == [HANDSHAKE]),
            Io::Tls(_) | Io::Gone => Ok(false),
        }
    }

    /// TLS as client.
    pub(crate) async fn connect_tls(
        &mut self,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> anyhow::Result<()> {
        let name = ServerName::try_from(name.to_owned())?;
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, self.take()?);
        let stream = timeout(PATIENCE, connecting).await?.context("TLS as client")?;
        self.io = Io::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// TLS as server.
    pub(crate) async fn accept_tls(&mut self, config: &Arc<ServerConfig>) -> anyhow::Result<()> {
        let accepting = TlsAcceptor::from(Arc::clone(config)).accept(self.take()?);
        let stream = timeout(PATIENCE, accepting).await?.context("TLS as server")?;
        self.io = Io::Tls(Box::new(stream.into()));
        Ok(())
    }

    fn take(&mut self) -> anyhow::Result<TcpStream> {
        match std::mem::replace(&mut self.io, Io::Gone) {
            Io::Plain(socket) if self.input.is_empty() => Ok(socket),
            _ => bail!("TLS where it cannot begin"),
        }
    }
}
