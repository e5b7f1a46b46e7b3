//! An HTTPS server on a loopback port, for what domains publish about their certificates.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use fedgate::auth::posh;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Identity, World};

/// The server; it ends when this is dropped. What it does not have it answers with 404.
pub(crate) struct Web {
    pub(crate) port: u16,
    documents: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl World {
    /// A web server of these domains, whose certificate is good; the gate asks it from now on, with
    /// these further top-level keys.
    pub(crate) async fn web(&mut self, domains: &[&str], more: &str) -> Web {
        // at every loopback address, guarded ones too
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for domain in domains {
            self.dns.address(domain, Ipv4Addr::LOCALHOST.into());
        }
        let acceptor = TlsAcceptor::from(self.authority.issue(domains).server());
        let documents = Arc::<Mutex<HashMap<_, _>>>::default();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let mut task = JoinSet::new();
        task.spawn({
            let (documents, asked) = (Arc::clone(&documents), Arc::clone(&asked));
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = serve(&acceptor, socket, &documents, &asked).await;
                }
            }
        });
        self.reload(&format!("posh: {{ port: {port} }}\n{more}")).unwrap();
        Web { port, documents, asked, _task: task }
    }

    /// A web server of these domains that is asked from now on, and of which nobody says a word.
    pub(crate) async fn mute_web(&mut self, domains: &[&str]) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for domain in domains {
            self.dns.address(domain, Ipv4Addr::LOCALHOST.into());
        }
        self.reload(&format!("posh: {{ port: {port} }}")).unwrap();
        listener
    }
}

impl Web {
    /// The domain says that these are its certificates.
    pub(crate) fn publish(&self, domain: &str, identities: &[&Identity]) {
        let certificates: Vec<_> = identities.iter().flat_map(|one| one.chain()).collect();
        let text = posh::write(&certificates, Duration::from_secs(600));
        self.documents.lock().unwrap().insert(domain.to_owned(), text);
    }

    /// The web server of the domain has this text, at any path that is asked for.
    pub(crate) fn write(&self, domain: &str, text: &str) {
        self.documents.lock().unwrap().insert(domain.to_owned(), text.to_owned());
    }

    /// The domains that were asked about, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    documents: &Mutex<HashMap<String, String>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let known = ["/.well-known/posh/xmpp-server.json", "/list.txt"];
    let is_known =
        known.iter().any(|path| request.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
    assert!(is_known, "{request}");
    let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let domain = host.split(':').next().unwrap().to_owned();
    let document = documents.lock().unwrap().get(&domain).cloned();
    asked.lock().unwrap().push(domain);
    let (status, body) = match document {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", String::new()),
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
