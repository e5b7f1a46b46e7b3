//! A name server for tests: UDP and TCP on one loopback port, answering from a table.
//!
//! A name that is not in the table does not exist; one that is there with another type has no
//! data; unless another source of answers stands behind the table. An answer that is too long for UDP is truncated there and complete over TCP.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, NS, SOA, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// What the server does with one question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These records.
    Answers(Vec<Record>),
    /// A response code and nothing else.
    Code(ResponseCode),
    /// All of it.
    Full {
        code: ResponseCode,
        answers: Vec<Record>,
        authorities: Vec<Record>,
        /// The AD bit.
        authentic: bool,
    },
    /// Bytes that are no DNS message, behind the right id.
    Garbage,
    /// Name servers of the zone instead of an answer.
    Referral,
    /// Nothing.
    Silence,
}

/// The server; it ends when this is dropped.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
    _tasks: JoinSet<()>,
}

/// The table, being filled.
#[derive(Clone, Default)]
pub(crate) struct Zone {
    table: HashMap<(Name, RecordType), Reply>,
    behind: Option<Source>,
}

/// Answers what is not in the table.
pub(crate) type Source = Arc<dyn Fn(&Name, RecordType) -> Reply + Send + Sync>;

/// Name, type and transport of a question that came.
pub(crate) type Question = (String, RecordType, Transport);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Zone {
    /// A table with nothing in it yet, and this behind it.
    pub(crate) fn before(source: Source) -> Self {
        Self { table: HashMap::new(), behind: Some(source) }
    }

    pub(crate) fn reply(mut self, name: &str, kind: RecordType, reply: Reply) -> Self {
        self.table.insert((fqdn(name), kind), reply);
        self
    }

    pub(crate) fn srv(self, name: &str, records: &[(u16, u16, u16, &str)]) -> Self {
        let records = records.iter().map(|r| srv(name, *r)).collect();
        self.reply(name, RecordType::SRV, Reply::Answers(records))
    }

    /// A or AAAA records of a name, by the family of each address.
    pub(crate) fn addresses(mut self, name: &str, addresses: &[&str]) -> Self {
        for address in addresses {
            let data = RData::from(address.parse::<IpAddr>().unwrap());
            let record = Record::from_rdata(fqdn(name), 300, data);
            let kind = record.record_type();
            match self.table.entry((fqdn(name), kind)).or_insert(Reply::Answers(Vec::new())) {
                Reply::Answers(answers) => answers.push(record),
                other => *other = Reply::Answers(vec![record]),
            }
        }
        self
    }

    pub(crate) async fn serve(self) -> FakeDns {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let zone = Arc::new(self);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (zone, asked) = (zone.clone(), asked.clone());
            async move {
                let mut buffer = [0; 4096];
                while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
                    if let Some(reply) = zone.answer(&buffer[..len], Transport::Udp, &asked) {
                        udp.send_to(&reply, peer).await.unwrap();
                    }
                }
            }
        });
        tasks.spawn({
            let asked = asked.clone();
            async move {
                let mut streams = JoinSet::new();
                while let Ok((stream, _)) = tcp.accept().await {
                    streams.spawn(serve_stream(zone.clone(), asked.clone(), stream));
                }
            }
        });
        FakeDns { address, asked, _tasks: tasks }
    }

    fn answer(
        &self,
        query: &[u8],
        transport: Transport,
        asked: &Mutex<Vec<Question>>,
    ) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries.first().unwrap();
        let (name, kind) = (question.name().clone(), question.query_type());
        asked.lock().unwrap().push((name.to_string(), kind, transport));
        let exists = self.table.keys().any(|(known, _)| *known == name);
        let none = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let reply = match (self.table.get(&(name.clone(), kind)), &self.behind) {
            (Some(reply), _) => reply.clone(),
            (None, Some(source)) => source(&name, kind),
            (None, None) => Reply::Code(none),
        };
        let mut message = query.clone();
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.metadata.authentic_data = false;
        message.additionals.clear();
        match reply {
            Reply::Answers(answers) => message.answers = answers,
            Reply::Full { code, answers, authorities, authentic } => {
                message.metadata.response_code = code;
                message.metadata.authentic_data = authentic;
                message.answers = answers;
                message.authorities = authorities;
            }
            Reply::Code(code) => {
                message.metadata.response_code = code;
                if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                    let soa = SOA::new(fqdn("ns.test"), fqdn("root.test"), 1, 1, 1, 1, 3600);
                    message.add_authority(Record::from_rdata(fqdn("test"), 3600, RData::SOA(soa)));
                }
            }
            Reply::Garbage => {
                return Some([&query.id.to_be_bytes()[..], &[0x80, 0, 0, 9, 1, 2, 3]].concat());
            }
            Reply::Referral => {
                let ns = RData::NS(NS(fqdn("ns.elsewhere.test")));
                message.add_authority(Record::from_rdata(fqdn("test"), 3600, ns));
            }
            Reply::Silence => return None,
        }
        let bytes = message.to_vec().unwrap();
        let most = query.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()));
        Some(match transport {
            Transport::Udp if bytes.len() > most => message.truncate().to_vec().unwrap(),
            Transport::Tcp | Transport::Udp => bytes,
        })
    }
}

impl FakeDns {
    /// The questions so far, in order.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve_stream(zone: Arc<Zone>, asked: Arc<Mutex<Vec<Question>>>, mut stream: TcpStream) {
    while let Ok(len) = stream.read_u16().await {
        let mut query = vec![0; usize::from(len)];
        stream.read_exact(&mut query).await.unwrap();
        if let Some(reply) = zone.answer(&query, Transport::Tcp, &asked) {
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    }
}

pub(crate) fn fqdn(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

pub(crate) fn srv(name: &str, (priority, weight, port, target): (u16, u16, u16, &str)) -> Record {
    let data = SRV::new(priority, weight, port, fqdn(target));
    Record::from_rdata(fqdn(name), 300, RData::SRV(data))
}

pub(crate) fn cname(name: &str, target: &str) -> Record {
    Record::from_rdata(fqdn(name), 300, RData::CNAME(CNAME(fqdn(target))))
}
