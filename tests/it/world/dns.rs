//! A name server on a loopback port, that knows where the peers are.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// The server; it ends when this is dropped.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<Name, Vec<Record>>,
    silent: HashSet<Name>,
    /// Of this type only, if there is one.
    failing: HashMap<Name, Option<RecordType>>,
    /// What is not vouched for, although all else is.
    doubtful: HashSet<Name>,
    /// Addresses of hosts that are another one with each answer.
    turning: HashMap<Name, Vec<IpAddr>>,
    asked: Vec<String>,
    /// Whether every answer is vouched for (the AD bit).
    authentic: bool,
}

/// Which SRV name a peer is published under.
#[derive(Clone, Copy)]
pub(crate) enum Service {
    StartTls,
    Direct,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let (socket, listener) = sockets().await;
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let mut task = JoinSet::new();
        task.spawn({
            let zone = Arc::clone(&zone);
            async move {
                let mut buffer = [0; 4096];
                while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
                    let answer = zone.lock().unwrap().answer(&buffer[..len], UDP_MAX);
                    if let Some(answer) = answer {
                        socket.send_to(&answer, client).await.unwrap();
                    }
                }
            }
        });
        task.spawn({
            let zone = Arc::clone(&zone);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    // one who leaves early hurts nobody
                    let _ = answer_tcp(socket, &zone).await;
                }
            }
        });
        Self { address, zone, _task: task }
    }

    /// Publishes servers of `domain`, to be tried in this order.
    pub(crate) fn publish(&self, domain: &str, service: Service, servers: &[SocketAddr]) {
        let mut zone = self.zone.lock().unwrap();
        let name = service_name(domain, service);
        let mut targets = Vec::new();
        for (priority, server) in (1..).zip(servers) {
            let host = fqdn(&format!("host{priority}.{domain}"));
            let data = RData::SRV(SRV::new(priority, 0, server.port(), host.clone()));
            targets.push(Record::from_rdata(name.clone(), 300, data));
            let address = Record::from_rdata(host.clone(), 300, RData::from(server.ip()));
            zone.records.insert(host, vec![address]);
        }
        zone.records.insert(name, targets);
    }

    /// Publishes an address of a host.
    pub(crate) fn address(&self, host: &str, address: IpAddr) {
        let host = fqdn(host);
        let record = Record::from_rdata(host.clone(), 300, RData::from(address));
        self.zone.lock().unwrap().records.insert(host, vec![record]);
    }

    /// Publishes one record, its data in the form of zone files.
    pub(crate) fn record(&self, name: &str, kind: RecordType, data: &str) {
        let data = RData::try_from_str(kind, data).unwrap();
        let mut zone = self.zone.lock().unwrap();
        let records = zone.records.entry(fqdn(name)).or_default();
        records.push(Record::from_rdata(fqdn(name), 300, data));
    }

    /// From now on all answers are as from a server that has validated them.
    pub(crate) fn vouch(&self) {
        self.zone.lock().unwrap().authentic = true;
    }

    /// Questions about the servers of `domain` get no answer.
    pub(crate) fn silence(&self, domain: &str) {
        let mut zone = self.zone.lock().unwrap();
        for service in [Service::StartTls, Service::Direct] {
            zone.silent.insert(service_name(domain, service));
        }
    }

    /// Publishes a host that is at another of these addresses whenever it is asked for.
    pub(crate) fn turn(&self, host: &str, addresses: &[IpAddr]) {
        let mut zone = self.zone.lock().unwrap();
        zone.turning.insert(fqdn(host), addresses.to_vec());
    }

    /// Questions about this very name get no answer.
    pub(crate) fn mute(&self, name: &str) {
        self.zone.lock().unwrap().silent.insert(fqdn(name));
    }

    /// Questions about this very name fail.
    pub(crate) fn fail(&self, name: &str) {
        self.zone.lock().unwrap().failing.insert(fqdn(name), None);
    }

    /// Questions about the IPv4 addresses of this very name fail.
    pub(crate) fn fail_ipv4(&self, name: &str) {
        self.zone.lock().unwrap().failing.insert(fqdn(name), Some(RecordType::A));
    }

    /// Answers about this very name are not vouched for.
    pub(crate) fn doubt(&self, name: &str) {
        self.zone.lock().unwrap().doubtful.insert(fqdn(name));
    }

    /// All names that were asked about, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.zone.lock().unwrap().asked.clone()
    }

    /// Whether anything was asked about a name that contains `part`.
    pub(crate) fn was_asked(&self, part: &str) -> bool {
        self.zone.lock().unwrap().asked.iter().any(|name| name.contains(part))
    }
}

impl Zone {
    /// The answer, if there is to be one; without its records where it is longer than `max`.
    fn answer(&mut self, query: &[u8], max: usize) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(query).unwrap();
        let question = message.queries.first().unwrap();
        let (name, kind) = (question.name().to_lowercase(), question.query_type());
        self.asked.push(name.to_string());
        if self.silent.contains(&name) {
            return None;
        }
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.metadata.authentic_data = self.authentic && !self.doubtful.contains(&name);
        message.additionals.clear();
        if self.failing.get(&name).is_some_and(|failing| failing.is_none_or(|it| it == kind)) {
            message.metadata.response_code = ResponseCode::ServFail;
            return Some(message.to_vec().unwrap());
        }
        if let Some(addresses) = self.turning.get_mut(&name) {
            if kind == RecordType::A {
                let address = addresses.remove(0);
                addresses.push(address);
                message.answers = vec![Record::from_rdata(name, 0, RData::from(address))];
            }
            return Some(message.to_vec().unwrap());
        }
        match self.records.get(&name) {
            Some(records) => {
                let records = records.iter().filter(|record| record.record_type() == kind);
                message.answers = records.cloned().collect();
            }
            None => message.metadata.response_code = ResponseCode::NXDomain,
        }
        let whole = message.to_vec().unwrap();
        if whole.len() <= max {
            return Some(whole);
        }
        message.answers.clear();
        message.metadata.truncation = true;
        Some(message.to_vec().unwrap())
    }
}

/// Both at one port that the kernel chose.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
            return (socket, listener);
        }
    }
}

/// Answers what comes over a connection.
async fn answer_tcp(mut socket: TcpStream, zone: &Mutex<Zone>) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(socket.read_u16().await?)];
        socket.read_exact(&mut query).await?;
        let answer = zone.lock().unwrap().answer(&query, usize::from(u16::MAX));
        let Some(answer) = answer else { continue };
        socket.write_u16(u16::try_from(answer.len()).unwrap()).await?;
        socket.write_all(&answer).await?;
    }
}

/// What fits into one datagram for certain.
const UDP_MAX: usize = 1232;

fn service_name(domain: &str, service: Service) -> Name {
    fqdn(&match service {
        Service::StartTls => format!("_xmpp-server._tcp.{domain}"),
        Service::Direct => format!("_xmpps-server._tcp.{domain}"),
    })
}

fn fqdn(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}
