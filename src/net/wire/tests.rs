//! What is read while something waits to be written; and a wire for other tests that leads nowhere.

use std::future::Future;

use socket2::SockRef;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket},
};

use super::*;

impl Wire {
    /// A wire without a connection.
    pub(crate) fn unconnected() -> Self {
        Self::new(Transport::Gone)
    }

    /// As if the transport had taken so many bytes.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken(bytes);
    }

    /// As if TLS had failed while it wrote these bytes of the output.
    pub(crate) fn fail(&mut self, bytes: usize) {
        self.doubtful = bytes as u64;
    }

    /// What waits to be written.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.output.bytes()
    }
}

/// More than the sockets between two ends hold.
const MUCH: usize = 8 << 20;

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("nothing happened")
}

/// A wire and its other end.
async fn connected() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(32 << 10).unwrap();
    let ours = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    (Wire::plain(ours), theirs)
}

/// Events until something is read.
async fn read(wire: &mut Wire) {
    let read = async { while wire.event().await.unwrap() != Event::Read {} };
    soon(read).await;
}

#[tokio::test]
async fn reading_goes_on_while_stanzas_wait_to_be_written() {
    let (mut wire, mut theirs) = connected().await;
    wire.put_stanzas(&vec![b'x'; MUCH].into());
    // an answer or two behind them changes nothing
    wire.put(b"<db:result type='valid'/>");
    theirs.write_all(b"<message/>").await.unwrap();
    read(&mut wire).await;
    assert_eq!(&wire.input()[..], b"<message/>");
    assert!(!wire.is_flushed(), "the other end has not read a byte");
    assert!(!wire.has_room());
}

#[tokio::test]
async fn reading_waits_while_answers_wait_to_be_written() {
    let (mut wire, mut theirs) = connected().await;
    for _ in 0..MUCH / 1024 {
        wire.put(&[b'x'; 1024]);
    }
    wire.put_stanzas(&vec![b'y'; 1024].into());
    theirs.write_all(b"<message/>").await.unwrap();
    let other = tokio::spawn(async move {
        let mut all = vec![0; MUCH + 1024];
        theirs.read_exact(&mut all).await.unwrap();
        (all, theirs)
    });
    read(&mut wire).await;
    let left = wire.put_total() - wire.written_total();
    assert!(left < (OUTPUT_HIGH + 1024) as u64, "read with {left} bytes unanswered");
    assert_eq!(&wire.input()[..], b"<message/>");
    soon(wire.flush()).await.unwrap();
    let (all, _theirs) = soon(other).await.unwrap();
    assert!(all[..MUCH].iter().all(|byte| *byte == b'x'));
    assert!(all[MUCH..].iter().all(|byte| *byte == b'y'));
}

#[tokio::test]
async fn what_is_discarded_does_not_hold_up_reading() {
    let (mut wire, mut theirs) = connected().await;
    wire.put(&vec![b'x'; MUCH]);
    wire.discard();
    theirs.write_all(b"<message/>").await.unwrap();
    read(&mut wire).await;
    assert_eq!(wire.put_total(), wire.written_total());
}

#[tokio::test]
async fn an_open_connection_takes_another_stall() {
    let (wire, _theirs) = connected().await;
    for stall in [90, 600].map(Duration::from_secs) {
        wire.tune(stall).unwrap();
        let socket = SockRef::from(wire.socket().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(stall));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), (stall / 2).min(Duration::from_secs(60)));
    }
    Wire::unconnected().tune(Duration::from_secs(90)).unwrap();
}

#[test]
fn an_answer_counts_until_its_last_byte_is_written() {
    let mut wire = Wire::unconnected();
    wire.put_stanzas(&vec![b's'; 10].into());
    wire.put(&[b'a'; 20]);
    wire.put_stanzas(&vec![b's'; 10].into());
    wire.put(&[b'a'; 5]);
    for (taken, unanswered) in [(0, 25), (10, 25), (19, 25), (1, 5), (10, 5), (4, 5), (1, 0)] {
        wire.take(taken);
        assert_eq!(wire.unanswered, unanswered, "at {}", wire.written_total());
    }
}
