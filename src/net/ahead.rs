//! A socket that reads ahead: TLS asks for a few kilobytes at a time, each of which would be a call
//! into the kernel. And one that can hold back the last that a TLS client says in its handshake, so that
//! what it says next goes with it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

/// How much is read at a time, in bytes: two TLS records of the largest size.
const CHUNK: usize = 32 * 1024;
/// The same where less comes, as in handshakes: large buffers have allocators tidy up.
const SMALL: usize = 4 * 1024;
/// Where a read gives less than this, little comes.
const TINY: usize = 512;

/// A socket, and what was read of it and not asked for yet. It holds no memory when that is nothing.
#[derive(Debug)]
pub struct Ahead {
    socket: TcpStream,
    ahead: BytesMut,
    /// How much the next read may take.
    chunk: usize,
    held: Option<Box<Held>>,
}

/// What is to be written together with what follows.
#[derive(Default, Debug)]
struct Held {
    bytes: Vec<u8>,
    /// Something was read: what was written before that was not held back.
    has_read: bool,
    /// The handshake is done: what is written next is what it waits for.
    is_released: bool,
    /// That is there.
    is_joined: bool,
}

impl Ahead {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: BytesMut::new(), chunk: SMALL, held: None }
    }

    /// The same for a TLS client: what it writes after it has read something waits until it reads
    /// again, or until [`Self::release`].
    #[must_use]
    pub fn holding(socket: TcpStream) -> Self {
        Self { held: Some(Box::default()), ..Self::new(socket) }
    }

    /// The handshake is done: what is held back goes with what is written next, or goes when somebody
    /// flushes or reads.
    pub fn release(&mut self) {
        self.held = self.held.take().filter(|held| !held.bytes.is_empty());
        if let Some(held) = &mut self.held {
            held.is_released = true;
        }
    }

    /// Whether something is held back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.bytes.is_empty())
    }

    /// Writes what is held back.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(held) = &mut self.held
            && !held.bytes.is_empty()
        {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &held.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(held.bytes.drain(..written)),
            }
            if held.is_released && held.bytes.is_empty() {
                self.held = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the slices to what is held back, if they are to go with it; else they are the socket's.
    fn poll_join(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let Some(held) = &mut self.held else { return Poll::Ready(Ok(None)) };
        let joins = held.is_released && !held.is_joined;
        if !joins && (held.is_released || !held.has_read) {
            ready!(self.poll_held(cx))?;
            return Poll::Ready(Ok(None));
        }
        for slice in slices {
            held.bytes.extend_from_slice(slice);
        }
        held.is_joined = joins;
        // what cannot be written now is waited for by who flushes, or writes more
        if joins && let Poll::Ready(Err(error)) = self.poll_held(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(Some(slices.iter().map(|slice| slice.len()).sum())))
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether a read can be answered without the socket.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            // who waits for an answer has said all before
            ready!(this.poll_held(cx))?;
            if buf.remaining() >= CHUNK {
                return Pin::new(&mut this.socket).poll_read(cx, buf);
            }
            ready!(this.socket.poll_read_ready(cx))?;
            this.ahead.reserve(this.chunk);
            let read = poll_read_buf(Pin::new(&mut this.socket), cx, &mut this.ahead);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                this.ahead = BytesMut::new();
            }
            // bursts end with a small piece, which is no reason to take the next one in pieces
            match ready!(read)? {
                0..TINY => this.chunk = SMALL,
                read if read >= this.chunk => this.chunk = CHUNK,
                _ => {}
            }
            if let Some(held) = &mut this.held {
                held.has_read = true;
            }
        }
        let len = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..len]);
        this.ahead.advance(len);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(this.poll_join(cx, &[IoSlice::new(buf)]))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut this.socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(this.poll_join(cx, slices))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut this.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // in a handshake it is held back although it is flushed
        if this.held.as_ref().is_some_and(|held| held.is_released) {
            ready!(this.poll_held(cx))?;
        }
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Ahead, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Ahead::new(ours), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn small_reads_get_all_bytes_in_order_and_then_the_end() {
        let (mut ahead, mut other) = pair().await;
        let sent: Vec<u8> = (0..3 * CHUNK + 1).map(|n| (n / 3) as u8).collect();
        let all = sent.clone();
        let writer = tokio::spawn(async move { other.write_all(&all).await.unwrap() });
        let (mut got, mut buf) = (Vec::new(), [0; 1000]);
        loop {
            match ahead.read(&mut buf).await.unwrap() {
                0 => break,
                len => got.extend_from_slice(&buf[..len]),
            }
        }
        assert!(got == sent);
        assert!(!ahead.has_more());
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn room_is_made_for_as_much_as_comes() {
        let (mut ahead, mut other) = pair().await;
        let mut buf = [0; 1];
        for (sent, room) in [
            (1, SMALL),
            (SMALL, CHUNK),
            (SMALL, CHUNK),
            (TINY, CHUNK),
            (TINY - 1, SMALL),
            (9, SMALL),
        ] {
            other.write_all(&vec![0; sent]).await.unwrap();
            // wholly there before it is read
            while ahead.socket.peek(&mut vec![0; sent]).await.unwrap() < sent {}
            for _ in 0..sent {
                ahead.read_exact(&mut buf).await.unwrap();
            }
            assert_eq!((ahead.chunk, ahead.has_more()), (room, false), "{sent}");
        }
    }

    #[tokio::test]
    async fn memory_is_held_only_while_something_is_read_ahead() {
        let (mut ahead, mut other) = pair().await;
        other.write_all(b"abc").await.unwrap();
        let mut buf = [0; 2];
        ahead.read_exact(&mut buf).await.unwrap();
        assert!(ahead.has_more());
        ahead.read_exact(&mut buf[..1]).await.unwrap();
        assert_eq!((ahead.has_more(), ahead.ahead.capacity()), (false, 0));
        let waiting =
            tokio::time::timeout(std::time::Duration::from_millis(50), ahead.read(&mut buf));
        assert!(waiting.await.is_err());
        assert_eq!(ahead.ahead.capacity(), 0);
    }

    /// A socket that holds something back, for it has read before.
    async fn holding() -> (Ahead, TcpStream) {
        let (ahead, mut other) = pair().await;
        let mut ahead = Ahead::holding(ahead.socket);
        ahead.write_all(b"hello").await.unwrap();
        expect(&mut other, b"hello").await;
        other.write_all(b"reply").await.unwrap();
        ahead.read_exact(&mut [0; 5]).await.unwrap();
        assert!(!ahead.is_holding());
        ahead.write_all(b"last ").await.unwrap();
        ahead.write_all(b"words").await.unwrap();
        ahead.flush().await.unwrap();
        assert!(ahead.is_holding());
        assert!(!has_come(&other).await);
        (ahead, other)
    }

    async fn has_come(other: &TcpStream) -> bool {
        let wait = std::time::Duration::from_millis(50);
        tokio::time::timeout(wait, other.peek(&mut [0; 1])).await.is_ok()
    }

    async fn expect(other: &mut TcpStream, text: &[u8]) {
        let mut buf = vec![0; text.len()];
        other.read_exact(&mut buf).await.unwrap();
        assert!(buf == text);
    }

    #[tokio::test]
    async fn what_is_held_back_goes_with_what_follows() {
        let (mut ahead, mut other) = holding().await;
        ahead.release();
        assert!(!has_come(&other).await);
        ahead.write_all(b", first").await.unwrap();
        assert!(ahead.held.is_none());
        let mut buf = [0; 100];
        // in one piece
        let len = other.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..len], b"last words, first");
        ahead.write_all(b"more").await.unwrap();
        expect(&mut other, b"more").await;
    }

    #[tokio::test]
    async fn what_is_held_back_goes_when_somebody_waits_or_flushes_or_ends() {
        let (mut ahead, mut other) = holding().await;
        let mut buf = [0; 1];
        // a second turn of the handshake
        let reading = ahead.read(&mut buf);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), reading).await.is_err());
        expect(&mut other, b"last words").await;
        ahead.write_all(b"!").await.unwrap();
        assert!(!has_come(&other).await);
        ahead.release();
        ahead.flush().await.unwrap();
        expect(&mut other, b"!").await;
        assert!(ahead.held.is_none());

        let (mut ahead, mut other) = holding().await;
        ahead.shutdown().await.unwrap();
        expect(&mut other, b"last words").await;
        assert_eq!(other.read(&mut buf).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn more_than_the_socket_takes_follows_whole() {
        let (mut ahead, mut other) = holding().await;
        let much: Vec<u8> = (0..8 << 20).map(|n: usize| (n / 7) as u8).collect();
        let all = much.clone();
        ahead.release();
        let writer = tokio::spawn(async move {
            ahead.write_all(&all).await.unwrap();
            ahead.write_all(b"end").await.unwrap();
            ahead.flush().await.unwrap();
            assert!(ahead.held.is_none());
        });
        expect(&mut other, b"last words").await;
        expect(&mut other, &much).await;
        expect(&mut other, b"end").await;
        writer.await.unwrap();
    }
}
