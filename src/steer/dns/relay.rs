//! Asks the upstream on behalf of the client: the message is relayed as it is, but for its id,
//! and only an answer to that very question, under that id, from that address is relayed back.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

use super::answer::failure;

/// How the client asked, and so how the upstream is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// The answer for the client: the upstream's, or SERVFAIL when none has answered in time.
///
/// The servers are asked in turn, each for its part of the time; one that fails or refuses is
/// believed only if the others do no better.
pub(super) async fn relay(
    query: &[u8],
    upstream: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    let end = Instant::now() + TIMEOUT;
    let mut worst = None;
    for (n, server) in upstream.iter().enumerate() {
        let parts = u32::try_from(upstream.len() - n).unwrap_or(u32::MAX);
        let part = Instant::now() + end.saturating_duration_since(Instant::now()) / parts;
        let answer = match transport {
            Transport::Tcp => timeout_at(part, ask_tcp(query, *server)).await,
            Transport::Udp => timeout_at(part, ask_udp(query, *server)).await,
        };
        match answer {
            Ok(Ok(answer)) if has_failed(&answer) => worst = Some(answer),
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "name server of the responder"),
            Err(_) => tracing::debug!(%server, "name server of the responder is silent"),
        }
    }
    worst.or_else(|| failure(query))
}

async fn ask_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    // A socket for each query: its port is part of what a forger has to guess (RFC 5452 §9.2).
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let (id, relayed) = with_random_id(query)?;
    socket.send(&relayed).await?;
    let mut buffer = vec![0; super::LARGEST];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..len).and_then(|answer| restore(query, id, answer));
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, relayed) = with_random_id(query)?;
    write_message(&mut stream, &relayed).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    let mismatch = || io::Error::new(io::ErrorKind::InvalidData, "answer to another question");
    restore(query, id, &answer).ok_or_else(mismatch)
}

/// Writes a message behind its length (RFC 1035 §4.2.2), as one segment where it fits.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "dns message over 64 KiB"))?;
    stream.write_all(&[&len.to_be_bytes(), message].concat()).await
}

fn with_random_id(query: &[u8]) -> io::Result<([u8; 2], Vec<u8>)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id)?;
    let rest = query.get(2..).unwrap_or_default();
    Ok((id, [&id, rest].concat()))
}

/// The answer with the client's id and spelling of the question, if it answers `query` as it was
/// sent under `id`. An answer without a question will do where it tells of an error.
fn restore(query: &[u8], id: [u8; 2], answer: &[u8]) -> Option<Vec<u8>> {
    let (header, _) = answer.split_first_chunk::<12>()?;
    if header.get(..2)? != id || header[2] & 0x80 == 0 {
        return None;
    }
    let mut restored = answer.to_vec();
    restored.get_mut(..2)?.copy_from_slice(query.get(..2)?);
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if questions == 0 && header[3] & 0x0f != 0 {
        return Some(restored);
    }
    let (asked, echoed) = (question(query)?, question(answer)?);
    let (asked_name, asked_type) = asked.split_last_chunk::<4>()?;
    let (echoed_name, echoed_type) = echoed.split_last_chunk::<4>()?;
    if questions != 1 || asked_type != echoed_type || !asked_name.eq_ignore_ascii_case(echoed_name)
    {
        return None;
    }
    restored.get_mut(12..12 + asked.len())?.copy_from_slice(asked);
    Some(restored)
}

/// The bytes of the first question: name, type and class. A pointer has no place there.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1 + len;
        match len {
            0 => return message.get(12..at + 4),
            1..=63 => {}
            _ => return None,
        }
    }
}

/// SERVFAIL, NOTIMP or REFUSED: another server may do better.
fn has_failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| matches!(flags & 0x0f, 2 | 4 | 5))
}

/// All servers together (RFC 1123 §6.1.3.3 asks for no less than five seconds).
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, Query},
        rr::{Name, RecordType},
    };

    use super::*;

    fn query(name: &str) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 0x1234;
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    fn answer(name: &str, id: [u8; 2]) -> Vec<u8> {
        let mut answer = query(name);
        answer[..2].copy_from_slice(&id);
        answer[2] |= 0x80;
        answer
    }

    #[test]
    fn the_clients_id_and_spelling_come_back() {
        let query = query("wWw.Example.");
        let restored = restore(&query, [9, 9], &answer("www.example.", [9, 9])).unwrap();
        assert_eq!(restored[..2], [0x12, 0x34]);
        assert_eq!(restored[12..], query[12..]);
    }

    #[test]
    fn an_answer_to_another_question_is_no_answer() {
        let query = query("www.example.");
        let good = answer("www.example.", [9, 9]);
        assert!(restore(&query, [9, 9], &good).is_some());
        assert!(restore(&query, [9, 8], &good).is_none(), "id");
        assert!(restore(&query, [9, 9], &answer("wwx.example.", [9, 9])).is_none(), "name");
        let mut other = good.clone();
        let kind = other.len() - 3;
        other[kind] = 28;
        assert!(restore(&query, [9, 9], &other).is_none(), "type");
        let mut question = good.clone();
        question[2] &= 0x7f;
        assert!(restore(&query, [9, 9], &question).is_none(), "a query");
        let mut empty = good[..12].to_vec();
        empty[5] = 0;
        assert!(restore(&query, [9, 9], &empty).is_none(), "no question and no error");
        empty[3] |= 5;
        assert!(restore(&query, [9, 9], &empty).is_some(), "no question but an error");
        for len in 0..good.len() {
            assert!(restore(&query, [9, 9], &good[..len]).is_none(), "cut to {len}");
        }
    }
}
