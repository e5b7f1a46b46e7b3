//! One connection under full control: every byte before, in and after TLS is the test's.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FOOTER: &str = "</stream:stream>";

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A connection, and what came over it and was not looked at yet.
pub(crate) struct Conn {
    io: Io,
    buffer: Vec<u8>,
}

enum Io {
    Clear(TcpStream),
    Tls(Box<dyn Socket>),
    Gone,
}

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

impl Conn {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { io: Io::Clear(socket), buffer: Vec::new() }
    }

    /// Connects from a loopback address of one's choice.
    pub(crate) async fn open(to: SocketAddr, from: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        Self::new(soon("connect", socket.connect(to)).await.unwrap())
    }

    /// Connects from 127.0.0.1, with a small receive buffer: who sends to it soon has to wait.
    pub(crate) async fn open_narrow(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::new(soon("connect", socket.connect(to)).await.unwrap())
    }

    /// Where it comes from, before TLS.
    pub(crate) fn local_address(&self) -> SocketAddr {
        match &self.io {
            Io::Clear(socket) => socket.local_addr().unwrap(),
            Io::Tls(_) | Io::Gone => panic!("no longer known"),
        }
    }

    /// Sends text. That the other end closed meanwhile shows when reading.
    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        // a refusal half way is what many tests are about
        let _ = self.try_say(text.as_ref()).await;
    }

    /// Sends text, and says whether it could all be sent.
    pub(crate) async fn try_say(&mut self, text: &[u8]) -> io::Result<()> {
        let write = async {
            match &mut self.io {
                Io::Clear(socket) => socket.write_all(text).await,
                Io::Tls(socket) => {
                    socket.write_all(text).await?;
                    socket.flush().await
                }
                Io::Gone => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        soon("write", write).await
    }

    /// Reads once more; none at the end, however it came.
    async fn read(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        let read = match &mut self.io {
            Io::Clear(socket) => socket.read(&mut chunk).await,
            Io::Tls(socket) => socket.read(&mut chunk).await,
            Io::Gone => return None,
        };
        match read {
            Ok(0) | Err(_) => None,
            Ok(len) => {
                self.buffer.extend_from_slice(&chunk[..len]);
                Some(())
            }
        }
    }

    /// All up to and including `pattern`.
    pub(crate) async fn until(&mut self, pattern: &str) -> String {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], pattern.as_bytes()) {
                let at = at + searched;
                let rest = self.buffer.split_off(at + pattern.len());
                let text = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8(text).unwrap();
            }
            searched = self.buffer.len().saturating_sub(pattern.len());
            let more = timeout(PATIENCE, self.read()).await;
            if !matches!(more, Ok(Some(()))) {
                let came = String::from_utf8_lossy(&self.buffer);
                panic!("{pattern} did not come ({more:?}), but: {came}");
            }
        }
    }

    /// All to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        String::from_utf8(self.rest_bytes().await).unwrap()
    }

    /// The same, where it need not be text.
    pub(crate) async fn rest_bytes(&mut self) -> Vec<u8> {
        let end = async { while self.read().await.is_some() {} };
        if timeout(PATIENCE, end).await.is_err() {
            panic!("not closed, but: {}", String::from_utf8_lossy(&self.buffer));
        }
        std::mem::take(&mut self.buffer)
    }

    /// The connection ends with this stream error, and nothing after it but the footer.
    pub(crate) async fn ends_with(&mut self, condition: &str) {
        let text = self.rest().await;
        assert_error(&text, condition);
    }

    /// The connection ends with our header, this stream error, and nothing else.
    pub(crate) async fn ends_with_header_and(&mut self, condition: &str) {
        let text = self.rest().await;
        assert!(text.starts_with("<?xml version='1.0'?><stream:stream "), "no header: {text}");
        assert_eq!(text.matches("<stream:stream ").count(), 1, "{text}");
        assert_error(&text, condition);
    }

    /// No byte more comes before the end.
    pub(crate) async fn ends_silently(&mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// What comes next, in whatever pieces; none at the end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.read().await?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Closes this end's sending direction.
    pub(crate) async fn finish(&mut self) {
        let _ = match &mut self.io {
            Io::Clear(socket) => socket.shutdown().await,
            Io::Tls(socket) => socket.shutdown().await,
            Io::Gone => Ok(()),
        };
    }

    /// TLS as client, on what is a clear connection now.
    pub(crate) async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<()> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let socket = self.take();
        let tls = soon("TLS", TlsConnector::from(config).connect(name, socket)).await?;
        self.io = Io::Tls(Box::new(tls));
        Ok(())
    }

    /// TLS as server.
    pub(crate) async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let socket = self.take();
        let tls = soon("TLS", TlsAcceptor::from(config).accept(socket)).await?;
        self.io = Io::Tls(Box::new(tls));
        Ok(())
    }

    fn take(&mut self) -> TcpStream {
        assert!(self.buffer.is_empty(), "{}", String::from_utf8_lossy(&self.buffer));
        match std::mem::replace(&mut self.io, Io::Gone) {
            Io::Clear(socket) => socket,
            Io::Tls(_) | Io::Gone => panic!("TLS twice"),
        }
    }
}

/// `text` ends with a stream error of this condition and one footer.
pub(crate) fn assert_error(text: &str, condition: &str) {
    let error = format!("<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
    assert!(text.contains(&error), "{condition} expected: {text}");
    assert_eq!(text.matches("<stream:error>").count(), 1, "{text}");
    assert!(text.ends_with("</stream:error></stream:stream>"), "{text}");
}

/// The value of an attribute in the first tag that has it.
pub(crate) fn attribute(text: &str, name: &str) -> String {
    let start = text.find(&format!(" {name}='")).unwrap_or_else(|| panic!("no {name}: {text}"));
    let value = &text[start + name.len() + 3..];
    value[..value.find('\'').unwrap()].to_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Whether anything of what we say in XML stands among these bytes. TLS records are random: a
/// mere `<` says nothing.
pub(crate) fn has_xml(bytes: &[u8]) -> bool {
    let words = [&b"<?xml"[..], b"<stream:", b"</stream:", b"<db:", b"<starttls", b"<proceed"];
    words.iter().any(|word| bytes.windows(word.len()).any(|part| part == *word))
}
