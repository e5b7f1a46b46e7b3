//! A socket that reads ahead: TLS asks for a few kilobytes at a time, each of which would be a call
//! into the kernel.

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
}

impl Ahead {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: BytesMut::new(), chunk: SMALL }
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
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
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
}
