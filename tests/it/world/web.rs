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
    documents: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

/// What the web server of a domain says.
#[derive(Clone)]
enum Reply {
    Document(String),
    /// The whole answer, byte by byte.
    Raw(Vec<u8>),
    /// Where it sends everybody who does not ask there.
    Redirect(String),
    /// A byte now and then, for ever.
    Drip,
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
                let mut served = JoinSet::new();
                while let Ok((socket, _)) = listener.accept().await {
                    let (acceptor, documents) = (acceptor.clone(), Arc::clone(&documents));
                    let asked = Arc::clone(&asked);
                    // an end in the middle is the gate's right
                    served.spawn(async move {
                        let _ = serve(&acceptor, socket, &documents, &asked).await;
                    });
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
        self.write(domain, &text);
    }

    /// The web server of the domain has this text, at any path that is asked for.
    pub(crate) fn write(&self, domain: &str, text: &str) {
        self.reply(domain, Reply::Document(text.to_owned()));
    }

    /// The web server of the domain answers with these bytes, whatever it is asked for.
    pub(crate) fn answer(&self, domain: &str, bytes: impl Into<Vec<u8>>) {
        self.reply(domain, Reply::Raw(bytes.into()));
    }

    /// The web server of the domain sends everybody there. `{}` stands for the number of questions.
    pub(crate) fn redirect(&self, domain: &str, location: &str) {
        self.reply(domain, Reply::Redirect(location.to_owned()));
    }

    /// The web server of the domain begins an answer that never ends.
    pub(crate) fn drip(&self, domain: &str) {
        self.reply(domain, Reply::Drip);
    }

    fn reply(&self, domain: &str, reply: Reply) {
        self.documents.lock().unwrap().insert(domain.to_owned(), reply);
    }

    /// The domains that were asked about, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    documents: &Mutex<HashMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let known = ["/.well-known/posh/xmpp-server.json", "/list.txt", "/hop"];
    let is_known = known.iter().any(|path| request.starts_with(&format!("GET {path}")));
    assert!(is_known, "{request}");
    let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let domain = host.split(':').next().unwrap().to_owned();
    let document = documents.lock().unwrap().get(&domain).cloned();
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(domain);
        asked.len()
    };
    let answer = match document {
        Some(Reply::Document(body)) => whole("200 OK", "", &body),
        Some(Reply::Raw(answer)) => answer,
        Some(Reply::Redirect(location)) => {
            let location = location.replace("{}", &number.to_string());
            whole("302 Found", &format!("Location: {location}\r\n"), "")
        }
        Some(Reply::Drip) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        None => whole("404 Not Found", "", ""),
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// An answer with its length.
fn whole(status: &str, more: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
