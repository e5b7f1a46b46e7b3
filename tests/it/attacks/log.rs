//! What strangers do to the log (A-98), of a gate in a process of its own: they neither forge its lines,
//! nor fill it, nor raise alarms.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::tls::{GOOD, extension, hello, usual};
use crate::world::{
    Conn, FEATURES_END, Identity, Manner, PROCEED, STARTTLS, San, World, header, header_with,
};

/// A gate in a process of its own, and its log.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    async fn start(world: &World, home: &Path, format: &str) -> Self {
        let config = home.join("conf.d");
        fs::create_dir_all(&config).unwrap();
        let text = format!(
            "version: 1
state_dir: {}/state
listen: {{ public: ['127.0.0.1:0'], local: ['127.0.0.1:0'] }}
legacy: {{ old: {{ address: '{}', domains: [old.test], refusals: bounce }} }}
resolver: {{ servers: ['{}'], timeout: 1s }}
networks: {{ deny_out: [] }}
admin: {{ http: '127.0.0.1:0' }}
certificates: [{{ cert: {files}/old.crt, key: {files}/old.key }}]
tls: {{ roots: [{files}/root.pem] }}
log: {{ level: debug, format: {format} }}
",
            home.display(),
            world.legacy.address,
            world.dns.address,
            files = world.path().parent().unwrap().display(),
        );
        fs::write(config.join("10.yaml"), text).unwrap();
        let log = home.join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_fedgate"))
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn text(&self) -> String {
        String::from_utf8(fs::read(&self.log).unwrap()).unwrap()
    }

    /// Waits until the log says that.
    async fn says(&mut self, words: &str) -> String {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
        let wait = async {
            loop {
                tick.tick().await;
                let text = self.text();
                if text.contains(words) {
                    return text;
                }
                assert!(self.child.try_wait().unwrap().is_none(), "it ended: {text}");
            }
        };
        crate::world::soon(words, wait).await
    }
}

/// Where it listens for something, by its log.
fn listening(text: &str, entry: &str) -> SocketAddr {
    let is_it = |line: &&str| {
        line.contains("listening") && line.contains(entry) && line.contains("127.0.0.1:")
    };
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("{entry}: {text}"));
    let start = line.find("127.0.0.1:").unwrap();
    let end = line[start..].find([' ', '"']).unwrap() + start;
    line[start..end].parse().unwrap()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that somebody has to look into; not that of whoever runs the tests.
fn alarms(text: &str) -> Vec<&str> {
    let is_alarm = |line: &&str| line.contains(" WARN ") && !line.contains("runs as root");
    text.lines().filter(is_alarm).collect()
}

/// Characters that end a line, move the cursor or turn the text around.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[tokio::test]
async fn a_98_nobody_writes_lines_of_their_own_into_the_log() {
    // XML has no ESC, but a CSI of one character, line ends and what turns text around
    const FORGED: &str = "&#10;2026-01-01T00:00:00Z ERROR forged\u{9b}31m\u{85}\u{2028}\u{202e}\u{2066}&#13;&#9;MARK";
    let world = World::start().await;
    for format in ["text", "json"] {
        let home = tempfile::TempDir::new().unwrap();
        let mut process = Process::start(&world, home.path(), format).await;
        let text = process.says("running").await;
        let [public, local] = ["public", "local"].map(|entry| listening(&text, entry));
        // names and words in the clear, on both sides
        for said in [
            header(FORGED, "old.test"),
            header("evil.test", FORGED),
            header_with(&format!("from='evil.test' to='old.test' version='{FORGED}'")),
            header("evil.test", "old.test")
                + &format!(
                    "<stream:error><x xmlns='{FORGED}'/><text>{FORGED}</text></stream:error>"
                ),
            header("evil.test", "old.test") + &format!("<x xmlns='{FORGED}' a='{FORGED}'/>"),
            header("evil.test", "old.test")
                + &format!("<db:result from='{FORGED}' to='old.test'>{FORGED}</db:result>"),
            header("evil.test", "old.test")
                + &format!("<db:verify from='evil.test' to='old.test' id='{FORGED}'>k</db:verify>"),
            header("evil.test", "old.test") + &format!("<message from='{FORGED}' to='{FORGED}'/>"),
            format!("<stream:stream xmlns='{FORGED}'>"),
            format!("<{FORGED}"),
        ] {
            for at in [public, local] {
                let mut conn = Conn::open(at, "127.0.0.1").await;
                conn.say(&said).await;
                conn.say("</stream:stream>").await;
                conn.rest().await;
            }
        }
        // a certificate that is made of such words, there even with ESC, of a client and of a server
        let ugly =
            FORGED.replace("&#10;", "\n\u{1b}[2J").replace("&#13;", "\r").replace("&#9;", "\t");
        let identity = Identity::self_signed_with(
            &[San::Dns(ugly.clone()), San::Xmpp(ugly.clone())],
            |params| params.distinguished_name.push(rcgen::DnType::CommonName, ugly.as_str()),
        );
        let mut conn = Conn::open(public, "127.0.0.1").await;
        conn.say(header("evil.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say(STARTTLS).await;
        conn.until(PROCEED).await;
        let tls = world.authority.client(Some(&identity), &[]);
        conn.connect_tls(tls, "old.test").await.unwrap();
        conn.say(header("evil.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        // a server that shows it too, and says why it ends
        let mut host = world.host("ugly.test").await;
        host.identity = identity;
        conn.say("<db:result from='ugly.test' to='old.test'>k</db:result>").await;
        let mut asked = host.accept_secured().await;
        host.greet(&mut asked).await;
        asked
            .say(format!(
                "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{FORGED}</text></stream:error>"
            ))
            .await;
        conn.until("</db:result>").await;
        let text = process.says("MARK").await;
        for line in text.lines() {
            let begins =
                if format == "json" { line.starts_with('{') } else { line.starts_with("20") };
            assert!(begins, "{format}: {line:?}");
        }
        assert!(!text.contains("\n2026-01-01"), "{text}");
        let harmful: Vec<&str> = text.lines().filter(|line| line.contains(is_harmful)).collect();
        assert!(harmful.is_empty(), "{format}: {harmful:#?}");
    }
}

#[tokio::test]
async fn a_98_the_name_that_a_tls_client_asks_for_raises_no_alarm_and_is_not_repeated() {
    let world = World::start().await;
    let home = tempfile::TempDir::new().unwrap();
    let mut process = Process::start(&world, home.path(), "text").await;
    let text = process.says("running").await;
    // an address, as scanners send it, and what is no name at all
    for name in ["192.0.2.77", "MARK\n\u{1b}[2J"] {
        let length = u16::try_from(name.len()).unwrap();
        // RFC 6066 §3: a list of one entry, a host name
        let list = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()];
        let extensions = [usual(), extension(0, &list.concat())].concat();
        let mut conn = Conn::open(listening(&text, "public"), "127.0.0.1").await;
        conn.say(header("evil.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say(STARTTLS).await;
        conn.until(PROCEED).await;
        conn.say(hello([3, 3], GOOD, &[0], &extensions)).await;
        conn.finish().await;
        let answer = conn.rest_bytes().await;
        assert!(matches!(answer.first(), Some(0x15 | 0x16)), "an alert or a hello: {answer:?}");
    }
    let text = process.text();
    let alarms = alarms(&text);
    assert!(alarms.is_empty() && !text.contains("MARK"), "{text}");
}

#[tokio::test]
async fn requests_that_are_refused_are_told_now_and_again() {
    let world = World::start().await;
    let home = tempfile::TempDir::new().unwrap();
    let mut process = Process::start(&world, home.path(), "text").await;
    let text = process.says("running").await;
    let mut socket = TcpStream::connect(listening(&text, "admin")).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: other.example\r\n";
    let requests = format!("{request}\r\n").repeat(99) + request + "Connection: close\r\n\r\n";
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 421").count(), 100);
    let text = process.says("admin request refused").await;
    let told = text.lines().filter(|line| line.contains("admin request refused")).count();
    assert!(told < 20, "{told} lines");
}

#[tokio::test]
async fn what_the_legacy_server_refuses_raises_no_alarm() {
    let world = World::start().await;
    world.legacy.behave(Manner::Error);
    let home = tempfile::TempDir::new().unwrap();
    let mut process = Process::start(&world, home.path(), "text").await;
    let text = process.says("running").await;
    let mut conn = Conn::open(listening(&text, "public"), "127.0.0.1").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(STARTTLS).await;
    conn.until(PROCEED).await;
    let identity = world.authority.issue(&["evil.test"]);
    let tls = world.authority.client(Some(&identity), &[]);
    conn.connect_tls(tls, "old.test").await.unwrap();
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("type='error'").await;
    let text = process.says("legacy server did not take the pair").await;
    let alarms = alarms(&text);
    assert!(alarms.is_empty(), "{alarms:#?}");
}
