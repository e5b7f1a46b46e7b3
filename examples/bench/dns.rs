//! A name server that knows where the domains with a common server are, and nothing else: fedgate
//! asks for what strangers publish before it goes over to dialback with them, and has its answer at
//! once.

use std::net::SocketAddr;

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{SOA, SRV},
    },
};
use tokio::{net::UdpSocket, task::JoinSet};

/// The server; it ends when this is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

/// The common server of [`SHARED`].
const HOST: &str = "xmpp.shared.test.";
/// How its domains end.
const SHARED: &str = ".shared.test.";
/// How long answers may be remembered, in seconds.
const TTL: u32 = 60;

impl NameServer {
    /// Begins to answer. The server of those domains is at `peers`.
    pub(crate) async fn start(peers: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
                if let Some(answer) = buffer.get(..length).and_then(|query| answer(query, peers)) {
                    // Who did not get it asks again.
                    drop(socket.send_to(&answer, client).await);
                }
            }
        });
        Ok(Self { address, _task: task })
    }
}

fn answer(query: &[u8], peers: SocketAddr) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(query).ok()?;
    let question = message.queries.first()?;
    let (name, kind) = (question.name().clone(), question.query_type());
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.additionals.clear();
    let (host, zone) = (Name::from_ascii(HOST).ok()?, Name::from_ascii("test.").ok()?);
    let text = name.to_ascii();
    let is_shared = text.starts_with("_xmpp-server._tcp.") && text.ends_with(SHARED);
    let data = match kind {
        RecordType::SRV if is_shared => {
            Some(RData::SRV(SRV::new(0, 0, peers.port(), host.clone())))
        }
        RecordType::A if name == host => Some(RData::from(peers.ip())),
        _ => None,
    };
    match data {
        Some(data) => {
            message.add_answer(Record::from_rdata(name, TTL, data));
        }
        None => {
            if name != host {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            // RFC 2308 §3: without it nobody may remember that there is nothing.
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, TTL);
            message.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
        }
    }
    message.to_vec().ok()
}
