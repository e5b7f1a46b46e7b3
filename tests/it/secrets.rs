//! No secret stands in the log, at its most talkative, nor in what the admin interface tells: a
//! fedgate of its own, as the binary runs it, between the neighbours.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::world::{Plan, World, soon};

const TOKEN: &str = "a-token-that-nobody-else-knows-4711";

struct Fedgate(Child);

impl Drop for Fedgate {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where it listens, by what it logs.
async fn listening(log: &Path, entry: &str) -> SocketAddr {
    let found = async {
        loop {
            let text = fs::read_to_string(log).unwrap();
            let mut lines = text.lines().filter(|line| line.contains("listening"));
            let line = lines.find(|line| {
                line.contains(&format!("entry=\"{entry}\"")) && line.contains("addr=")
            });
            if let Some(line) = line {
                let address = line.split("addr=").nth(1).unwrap();
                return address.split_whitespace().next().unwrap().parse().unwrap();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon(entry, found).await
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The ways in which bytes may come to stand in a text.
fn shapes(bytes: &[u8]) -> [String; 5] {
    let hex = |digit: fn(&u8) -> String| bytes.iter().map(digit).collect::<String>();
    let debugged = format!("{bytes:?}");
    [
        hex(|byte| format!("{byte:02x}")),
        hex(|byte| format!("{byte:02X}")),
        debugged[1..debugged.len() - 1].to_owned(),
        STANDARD.encode(bytes),
        bytes.escape_ascii().to_string(),
    ]
}

#[tokio::test]
async fn nothing_secret_is_logged_or_told() {
    // by EXTERNAL, and by dialback
    for external in [true, false] {
        let mut world = World::with(Plan { external, ..Plan::DEFAULT }).await;
        let home = world.path().parent().unwrap().to_owned();
        let token = home.join("token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        world.configure(&format!(
            "log: {{ level: 'trace,rustls::client=trace,rustls::server=trace' }}
admin: {{ http: '127.0.0.1:0', token_file: {} }}",
            token.display()
        ));
        let log = home.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
        command.args(["run", "--config"]).arg(world.path());
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut fedgate = Fedgate(command.spawn().unwrap());
        world.legacy.steer(listening(&log, "local").await);
        world.good.steer(listening(&log, "public").await);
        world.is_alive().await;
        let admin = listening(&log, "admin").await;
        let mut told = String::new();
        for path in ["/api/config", "/api/status", "/api/streams", "/metrics"] {
            told += &get(admin, path).await;
        }
        let pid = fedgate.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let end = async {
            while fedgate.0.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon("the end", end).await;

        let text = fs::read_to_string(&log).unwrap();
        // all that may talk does: the runtime, TLS, fedgate
        for part in ["TRACE", "decided upon suite", "stream negotiated", "ended"] {
            assert!(text.contains(part), "{part} is not in the log");
        }
        let text = text + &told;
        let state = world.config().state_dir;
        let secret = fs::read_to_string(state.join("dialback.secret")).unwrap();
        let secret = secret.trim();
        let bytes: Vec<_> =
            (0..32).map(|n| u8::from_str_radix(&secret[2 * n..2 * n + 2], 16).unwrap()).collect();
        let pem = fs::read(home.join("old.key")).unwrap();
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(&pem).unwrap() else {
            panic!("another form of key")
        };
        // RFC 5958 and RFC 5915: behind the heads of both, 32 bytes
        let der = key.secret_pkcs8_der();
        let head = der.windows(4).position(|four| four == [2, 1, 1, 4]).unwrap();
        let scalar = &der[head + 5..head + 5 + usize::from(der[head + 4])];
        assert_eq!(scalar.len(), 32);
        let pem = String::from_utf8(pem).unwrap();
        let mut secrets = vec![TOKEN.to_owned(), secret.to_owned()];
        secrets.extend(pem.lines().filter(|line| !line.starts_with("---")).map(str::to_owned));
        secrets.extend([bytes, scalar.to_vec()].iter().flat_map(|bytes| shapes(bytes)));
        let keys = world.legacy.keys_seen().into_iter().chain(world.good.keys_seen());
        let keys: Vec<_> = keys.collect();
        assert!(keys.len() >= if external { 2 } else { 3 }, "{keys:?}");
        secrets.extend(keys);
        for secret in secrets {
            if let Some(at) = text.find(&secret) {
                let line = text[..at].lines().last().unwrap_or_default();
                panic!("{secret} stands behind {line}");
            }
        }
    }
}
