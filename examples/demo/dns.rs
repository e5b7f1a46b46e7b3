//! The Internet's DNS, as far as the demo needs it: a name server on a loopback UDP port that
//! knows where each domain's XMPP server is (RFC 6120 §3.2.1), and remembers what it said.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{SOA, SRV},
    },
};
use tokio::{net::UdpSocket, task::JoinSet};

/// A name server; it ends when this is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<Name, Vec<Record>>,
    said: Vec<String>,
}

/// How long answers may be remembered, in seconds.
const TTL: u32 = 60;

impl NameServer {
    /// Begins to serve an empty zone.
    pub(crate) async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let zone = Arc::<Mutex<Zone>>::default();
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&zone)));
        Ok(Self { address, zone, _task: task })
    }

    /// Where to ask.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes that the XMPP server of `domain` is at `server`: an SRV record that names the
    /// port, and the address of the name that it points to.
    pub(crate) fn publish(&self, domain: &str, server: SocketAddr) -> anyhow::Result<()> {
        let service = Name::from_ascii(format!("_xmpp-server._tcp.{domain}."))?;
        let host = Name::from_ascii(format!("xmpp.{domain}."))?;
        let srv = RData::SRV(SRV::new(0, 5, server.port(), host.clone()));
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.records.insert(service.clone(), vec![Record::from_rdata(service, TTL, srv)]);
        let address = Record::from_rdata(host.clone(), TTL, RData::from(server.ip()));
        zone.records.insert(host, vec![address]);
        Ok(())
    }

    /// The questions and answers so far, in order, such as
    /// `SRV _xmpp-server._tcp.capulet.example: 0 5 5269 xmpp.capulet.example.`
    pub(crate) fn said(&self) -> Vec<String> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).said.clone()
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = buffer
            .get(..length)
            .and_then(|query| zone.lock().unwrap_or_else(PoisonError::into_inner).answer(query));
        if let Some(answer) = answer {
            // Who did not get it asks again.
            drop(socket.send_to(&answer, client).await);
        }
    }
}

impl Zone {
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(query).ok()?;
        let question = message.queries.first()?;
        let (name, kind) = (question.name().clone(), question.query_type());
        let records = self.records.get(&name);
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.additionals.clear();
        message.answers = records.into_iter().flatten().filter(|r| is(r, kind)).cloned().collect();
        if message.answers.is_empty() {
            if records.is_none() {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            // RFC 2308 §3: without it nobody may remember that there is nothing.
            let zone = Name::from_ascii("example.").ok()?;
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, TTL);
            message.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
        }
        let answers: Vec<_> = message.answers.iter().map(|r| r.data.to_string()).collect();
        let answers = if answers.is_empty() { "nothing".to_owned() } else { answers.join(", ") };
        self.said.push(format!("{kind} {}: {answers}", name.to_string().trim_end_matches('.')));
        message.to_vec().ok()
    }
}

fn is(record: &Record, kind: RecordType) -> bool {
    record.record_type() == kind
}
