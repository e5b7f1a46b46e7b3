//! An HTTPS server for tests on a loopback port, a name server that leads to it, and a [`Fetcher`]
//! that trusts its CA.
//!
//! What is not in the table is answered with 404.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    connector::Rules,
    fake_dns::{FakeDns, Zone},
    fetch::Fetcher,
    own::OwnAddresses,
    resolver::Resolver,
};
use crate::{
    auth::pkix::testing::{Ca, Issued},
    config::{model, policy::Denied},
};

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays.
    Silence,
}

/// The server; it ends when this is dropped.
pub(crate) struct FakeHttps {
    pub(crate) port: u16,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Inner {
    table: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
    came: Notify,
}

/// The server, and what is needed to reach it.
pub(crate) struct Web {
    pub(crate) ca: Ca,
    pub(crate) https: FakeHttps,
    pub(crate) fetcher: Arc<Fetcher>,
    _dns: FakeDns,
}

impl Reply {
    /// A body with status 200.
    pub(crate) fn body(body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::Bytes([head.as_bytes(), body].concat())
    }

    /// A status and header fields, with an empty body.
    pub(crate) fn head(status: u16, fields: &str) -> Self {
        let head = format!("HTTP/1.1 {status} Text\r\nContent-Length: 0\r\n{fields}\r\n");
        Self::Bytes(head.into_bytes())
    }

    /// A redirect.
    pub(crate) fn redirect(location: &str) -> Self {
        Self::head(302, &format!("Location: {location}\r\n"))
    }
}

impl FakeHttps {
    pub(crate) async fn start(identity: &Issued) -> Self {
        let key = identity.key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![identity.certificate.clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::<Inner>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let inner = inner.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    let (inner, acceptor) = (inner.clone(), acceptor.clone());
                    connections.spawn(async move { inner.serve(acceptor, socket).await });
                }
            }
        });
        Self { port, inner, _tasks: tasks }
    }

    /// From now on requests for that host and path get this.
    pub(crate) fn answer(&self, place: &str, reply: Reply) {
        self.inner.table.lock().unwrap().insert(place.to_owned(), reply);
    }

    /// The requests so far, in order, by host and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// Waits for a request.
    pub(crate) async fn came(&self) {
        self.inner.came.notified().await;
    }
}

impl Inner {
    async fn serve(&self, acceptor: TlsAcceptor, socket: TcpStream) -> Option<()> {
        let mut stream = acceptor.accept(socket).await.ok()?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.ok()?);
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.strip_prefix("GET ").unwrap().split(' ').next().unwrap();
        let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let place = format!("{}{path}", host.split(':').next().unwrap());
        self.asked.lock().unwrap().push(place.clone());
        self.came.notify_one();
        let reply = self.table.lock().unwrap().get(&place).cloned();
        match reply.unwrap_or_else(|| Reply::head(404, "")) {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Reply::Silence => std::future::pending().await,
        }
        stream.shutdown().await.ok()
    }
}

impl Web {
    /// Hosts of these names, with a certificate for them.
    pub(crate) async fn of(hosts: &[&str]) -> Self {
        Self::with(hosts, hosts, |_| None).await
    }

    /// Hosts with a certificate for other names, and a rule for their addresses.
    pub(crate) async fn with(
        hosts: &[&str],
        certified: &[&str],
        filter: fn(IpAddr) -> Option<Denied>,
    ) -> Self {
        let ca = Ca::new(&format!("CA of {certified:?}"));
        let https = FakeHttps::start(&ca.server(certified)).await;
        let zone =
            hosts.iter().fold(Zone::default(), |zone, host| zone.addresses(host, &["127.0.0.1"]));
        let dns = zone.serve().await;
        let config = model::Resolver {
            servers: vec![dns.address],
            timeout: Duration::from_secs(20),
            dnssec: model::Dnssec::Off,
        };
        let resolver = Resolver::new(&config, &OwnAddresses::default()).unwrap();
        let rules = Rules {
            filter: Box::new(filter),
            own: OwnAddresses::default(),
            tcp_timeout: Duration::from_secs(20),
        };
        let fetcher = Fetcher::new(resolver, &ca.roots(), model::TlsVersion::V1_2, rules).unwrap();
        Self { ca, https, fetcher: Arc::new(fetcher), _dns: dns }
    }

    /// A URL of the server, for a host and path.
    pub(crate) fn url(&self, place: &str) -> String {
        let (host, path) = place.split_once('/').unwrap();
        format!("https://{host}:{}/{path}", self.https.port)
    }
}
