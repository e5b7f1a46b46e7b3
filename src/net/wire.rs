//! One connection, plain or TLS, with its buffers: what came and is not read yet, what is to be
//! written. Both directions make progress in one cancel-safe call, so that a task can wait for
//! bytes, for room and for its mailbox at the same time.

mod output;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use self::output::{Output, SLICES};
use super::{ahead::Ahead, tune::tune};

/// How much one read takes, in bytes.
const READ_CHUNK: usize = 16 * 1024;
/// The same where less came before.
const READ_LITTLE: usize = 4 * 1024;
/// How much comes in at most before it is looked at, in bytes.
const READ_MOST: usize = 4 * READ_CHUNK;
/// Above this many bytes waiting to be written, nothing more should be put.
const OUTPUT_HIGH: usize = 64 * 1024;
/// How long the other end may take to close after us.
const LINGER: Duration = Duration::from_secs(1);

/// What happened on the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Bytes came: see [`Wire::input`].
    Read,
    /// All that was put is written.
    Written,
    /// The other end will send no more.
    Eof,
}

/// A connection with its buffers.
#[derive(Debug)]
pub struct Wire {
    transport: Transport,
    input: BytesMut,
    output: Output,
    /// Where answers end that wait in the output, and their lengths.
    answers: VecDeque<(u64, u64)>,
    /// The sum of those lengths.
    unanswered: u64,
    /// Bytes that the transport took since the beginning.
    written: u64,
    /// Bytes of the output of which nobody knows whether they were written: TLS was given them, and
    /// the connection broke meanwhile.
    doubtful: u64,
    /// Bytes that came since the beginning.
    read: u64,
    /// More may have come: the last read did not say otherwise.
    more: bool,
    /// How much to make room for: more where much came before.
    expected: usize,
    /// What a read said when others had brought something just before.
    ended: Option<io::Result<Event>>,
    /// The other end will send no more.
    is_over: bool,
    /// When something was last put.
    put: Instant,
    /// The transport may hold bytes that are not on the wire yet.
    dirty: bool,
    /// When the transport last took bytes, or had none to take.
    progress: Instant,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Ahead>>),
    /// Taken out.
    Gone,
}

impl Wire {
    /// A connection in the clear.
    #[must_use]
    pub fn plain(socket: TcpStream) -> Self {
        Self::new(Transport::Plain(socket))
    }

    /// A connection after a TLS handshake. Nothing of the time before it is left.
    #[must_use]
    pub fn tls(stream: TlsStream<Ahead>) -> Self {
        let dirty = stream.get_ref().0.is_holding();
        Self { dirty, ..Self::new(Transport::Tls(Box::new(stream))) }
    }

    fn new(transport: Transport) -> Self {
        Self {
            transport,
            input: BytesMut::new(),
            output: Output::default(),
            answers: VecDeque::new(),
            unanswered: 0,
            written: 0,
            doubtful: 0,
            read: 0,
            more: true,
            expected: READ_LITTLE,
            ended: None,
            is_over: false,
            put: Instant::now(),
            dirty: false,
            progress: Instant::now(),
        }
    }

    /// Takes the socket out for a TLS handshake. `None`, and the end of the connection, if the other
    /// end already sent bytes that a parser of the clear-text stream holds (STARTTLS injection,
    /// protocol TLS-4), if something is not written yet, or if it is TLS already.
    #[must_use]
    pub fn take_clean_socket(&mut self) -> Option<TcpStream> {
        let clean = self.input.is_empty() && self.output.is_empty();
        match std::mem::replace(&mut self.transport, Transport::Gone) {
            Transport::Plain(socket) if clean => Some(socket),
            Transport::Plain(_) | Transport::Tls(_) | Transport::Gone => None,
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Plain(socket) => Some(socket),
            Transport::Tls(stream) => Some(stream.get_ref().0.socket()),
            Transport::Gone => None,
        }
    }

    /// Sets the options of the socket for another `stall`, as [`tune`] does.
    ///
    /// # Errors
    /// What the kernel says; the connection is as good as before.
    pub fn tune(&self, stall: Duration) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| tune(socket, stall))
    }

    /// What came and was not taken yet.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Puts bytes behind those that wait to be written. Who does not take them is not read from any
    /// more at some point: they are taken for answers.
    pub fn put(&mut self, bytes: &[u8]) {
        self.putting();
        self.output.copy(bytes);
        let len = bytes.len() as u64;
        self.unanswered += len;
        self.answers.push_back((self.put_total(), len));
    }

    /// The same for what is sent unasked: reading goes on, or two ends that both write would wait
    /// for each other.
    pub fn put_stanzas(&mut self, bytes: &Bytes) {
        self.putting();
        self.output.push(bytes);
    }

    fn putting(&mut self) {
        self.put = Instant::now();
        if self.output.is_empty() {
            self.progress = self.put;
        }
    }

    /// Whether there is room for more; a matter of fairness, [`Self::put`] takes all.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_HIGH
    }

    /// Whether all that was put is written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.dirty
    }

    /// Bytes put since the beginning.
    #[must_use]
    pub fn put_total(&self) -> u64 {
        self.written + self.output.len() as u64
    }

    /// When something was last put, or else when the connection began.
    #[must_use]
    pub fn last_put(&self) -> Instant {
        self.put
    }

    /// Bytes that came since the beginning.
    #[must_use]
    pub fn read_total(&self) -> u64 {
        self.read
    }

    /// Bytes written since the beginning.
    #[must_use]
    pub fn written_total(&self) -> u64 {
        self.written
    }

    /// Bytes that may have been written: no more than that.
    #[must_use]
    pub fn written_at_most(&self) -> u64 {
        self.written + self.doubtful
    }

    /// When the other end will have taken nothing for `stall`, if anything waits.
    #[must_use]
    pub fn stalls_at(&self, stall: Duration) -> Option<Instant> {
        (!self.is_flushed()).then(|| self.progress + stall)
    }

    /// Waits for bytes to come or to be written. Cancel-safe.
    ///
    /// # Errors
    /// What the socket or TLS says; the connection is of no more use.
    pub async fn event(&mut self) -> io::Result<Event> {
        poll_fn(|cx| self.poll_event(cx, true)).await
    }

    /// The same, but nothing is read unless `read`.
    ///
    /// # Errors
    /// As above.
    pub async fn event_reading(&mut self, read: bool) -> io::Result<Event> {
        poll_fn(|cx| self.poll_event(cx, read)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Event>> {
        if !self.is_flushed()
            && let Poll::Ready(result) = self.poll_write_out(cx)
        {
            result?;
            return Poll::Ready(Ok(Event::Written));
        }
        // Who does not take our answers may not ask more.
        if !read || self.unanswered >= OUTPUT_HIGH as u64 {
            return Poll::Pending;
        }
        self.poll_read_in(cx)
    }

    /// Reads what has come, or as much as should be looked at in one go.
    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended);
        }
        if !self.more {
            // Who waits needs no buffer.
            let Some(socket) = self.socket() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            ready!(socket.poll_read_ready(cx))?;
            self.more = true;
        }
        let mut came = 0;
        loop {
            let least = if came == 0 { READ_LITTLE } else { READ_CHUNK };
            self.input.reserve(self.expected.saturating_sub(came).max(least));
            let room = self.input.capacity() - self.input.len();
            let (read, rest) = match &mut self.transport {
                Transport::Plain(socket) => {
                    (poll_read_buf(Pin::new(socket), cx, &mut self.input), false)
                }
                Transport::Tls(stream) => {
                    let read = poll_read_buf(Pin::new(&mut **stream), cx, &mut self.input);
                    (read, stream.get_ref().0.has_more())
                }
                Transport::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            let outcome = match read {
                Poll::Pending => {
                    self.more = false;
                    None
                }
                Poll::Ready(Ok(0)) => {
                    self.is_over = true;
                    Some(Ok(Event::Eof))
                }
                Poll::Ready(Ok(bytes)) => {
                    self.read += bytes as u64;
                    came += bytes;
                    if came < READ_MOST && (rest || bytes >= READ_CHUNK.min(room)) {
                        continue;
                    }
                    None
                }
                Poll::Ready(Err(error)) => {
                    // without close_notify
                    self.is_over |= error.kind() == io::ErrorKind::UnexpectedEof;
                    Some(Err(error))
                }
            };
            return match (came, outcome) {
                (0, None) => {
                    self.shrink();
                    Poll::Pending
                }
                (0, Some(outcome)) => Poll::Ready(outcome),
                (_, outcome) => {
                    self.expected = match came {
                        0..READ_LITTLE => READ_LITTLE,
                        READ_LITTLE..READ_CHUNK => READ_CHUNK,
                        _ => READ_MOST,
                    };
                    self.ended = outcome;
                    Poll::Ready(Ok(Event::Read))
                }
            };
        }
    }

    /// Ready when nothing is left to be written.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.output.slices(&mut slices);
            let slices = &slices[..filled];
            let written = match &mut self.transport {
                Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
                Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
                Transport::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            let written = match ready!(written) {
                Ok(written) => written,
                Err(error) => {
                    // TLS writes record by record, and says nothing of those before the one that
                    // failed.
                    if matches!(self.transport, Transport::Tls(_)) {
                        self.doubtful = self.output.len() as u64;
                    }
                    return Poll::Ready(Err(error));
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken(written);
        }
        let flushed = match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Transport::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        ready!(flushed)?;
        self.dirty = false;
        Poll::Ready(Ok(()))
    }

    /// The transport took so many bytes of the output.
    fn taken(&mut self, bytes: usize) {
        self.output.advance(bytes);
        self.written += bytes as u64;
        while let Some((end, len)) = self.answers.front()
            && *end <= self.written
        {
            self.unanswered -= len;
            self.answers.pop_front();
        }
        self.dirty = true;
        self.progress = Instant::now();
    }

    /// Writes all that was put.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.is_flushed() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_write_out(cx)).await
    }

    /// Lets go of what was put and is not written. What is written may end anywhere.
    pub fn discard(&mut self) {
        self.output.clear();
        self.answers.clear();
        self.unanswered = 0;
    }

    /// Closes the connection without a word.
    pub fn cut(&mut self) {
        self.transport = Transport::Gone;
        self.discard();
        self.dirty = false;
        self.input = BytesMut::new();
    }

    /// Gives the buffer back when nothing is in it. Whether that is so.
    pub fn shrink(&mut self) -> bool {
        let empty = self.input.is_empty();
        if empty {
            self.input = BytesMut::new();
        }
        empty
    }

    /// Ends the connection: writes all within `stall`, sends close_notify and FIN, and waits a
    /// moment for the other end to do the same, so that it reads our last words.
    pub async fn close(mut self, stall: Duration) {
        if !matches!(timeout(stall, self.flush()).await, Ok(Ok(()))) {
            return;
        }
        let finish = async {
            match &mut self.transport {
                // nobody is waited for, and FIN goes by itself
                Transport::Plain(_) if self.is_over => return Ok(()),
                Transport::Tls(stream) if self.is_over => {
                    stream.get_mut().1.send_close_notify();
                    return stream.flush().await;
                }
                Transport::Plain(socket) => socket.shutdown().await?,
                Transport::Tls(stream) => stream.shutdown().await?,
                Transport::Gone => return Ok(()),
            }
            loop {
                self.input.clear();
                if self.event().await? == Event::Eof {
                    return io::Result::Ok(());
                }
            }
        };
        // Who does not close in time is cut off.
        let _ = timeout(LINGER, finish).await;
    }
}

#[cfg(test)]
mod tests;
