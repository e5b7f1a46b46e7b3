//! What domains publish over HTTPS about their certificates, made to harm.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use fedgate::auth::pkix::Fingerprint;
use tokio::{net::TcpListener, task::JoinSet};

use super::offered;
use crate::world::{BOUNCE, Identity, Plan, World};

/// A certificate that only a document can prove.
fn unproven() -> Identity {
    Identity::self_signed("hoster.test")
}

/// SHA-256 of the certificate, as documents have it.
fn digest(identity: &Identity) -> String {
    STANDARD.encode(Fingerprint::of(&identity.chain()[0]).as_bytes())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("d{n}.test")).collect()
}

/// In neither direction this certificate proves the domain, at the level that asks for it.
async fn proves_nothing(world: &mut World, identity: &Identity, domain: &str, what: &str) {
    let mut host = world.host(domain).await;
    host.identity = identity.clone();
    let _stream = world.sends(domain).await;
    host.accept_secured().await.ends_silently().await;
    world.bounced(domain, "remote-server-timeout").await;
    assert!(!world.proves_client(identity, domain).await, "{what}");
}

const TRUSTED: &str = "defaults: { level: trusted }";

/// A place that nobody should come to.
struct Trap {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::<AtomicUsize>::default();
        let mut task = JoinSet::new();
        let count = Arc::clone(&visits);
        task.spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, visits, _task: task }
    }
}

#[tokio::test]
async fn a_62_redirects_lead_to_no_end_and_to_no_other_place() {
    let mut world = World::with(BOUNCE).await;
    let domains = names(8);
    let of_all: Vec<&str> = domains.iter().map(String::as_str).collect();
    let web = world.web(&of_all, TRUSTED).await;
    let trap = Trap::set().await;
    let (port, other) = (web.port, trap.address.port());
    let identity = unproven();
    for (domain, (location, hops)) in domains.iter().zip([
        (format!("https://{}:{port}/.well-known/posh/xmpp-server.json", domains[0]), 1..=1),
        (format!("https://{}:{port}/hop{{}}", domains[1]), 2..=6),
        (format!("http://{}:{other}/hop", domains[2]), 1..=1),
        (format!("https://{}:{other}/hop", domains[3]), 1..=1),
        (format!("https://127.0.0.1:{port}/hop"), 1..=1),
        (format!("https://2130706433:{port}/hop"), 1..=1),
        (format!("https://u:p@{}:{port}/hop", domains[6]), 1..=1),
        ("file:///etc/passwd".to_owned(), 1..=1),
    ]) {
        web.redirect(domain, &location);
        let before = web.asked().len();
        proves_nothing(&mut world, &identity, domain, &location).await;
        let count = web.asked().len() - before;
        assert!(hops.contains(&count), "{location}: {count} questions");
    }
    assert_eq!(trap.visits.load(Ordering::Relaxed), 0);
    world.is_alive().await;
}

#[tokio::test]
async fn a_63_and_a_64_documents_that_are_too_much_or_not_as_they_should_be_prove_nothing() {
    // behind each of them stands the right certificate
    let mut world = World::with(BOUNCE).await;
    let identity = unproven();
    let good = format!("[{{\"sha-256\":\"{}\"}}]", digest(&identity));
    let list = |expires: &str| format!("{{\"fingerprints\":{good},\"expires\":{expires}}}");
    let http = |head: &str, body: &[u8]| {
        [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat()
    };
    let gzip = "Content-Encoding: gzip\r\nContent-Length: 10";
    let huge = "Content-Length: 1000000000";
    let spaces = vec![b' '; 200 << 10];
    let texts = [
        list("\"60\""),
        list("-1"),
        list("0"),
        list("1e99"),
        list("60.5"),
        list("null"),
        format!("{{\"fingerprints\":{good}}}"),
        format!("{{\"fingerprints\":{good},\"expires\":60,\"expires\":60}}"),
        format!("{{\"fingerprints\":[],\"fingerprints\":{good},\"expires\":60}}"),
        format!(
            "{{\"fingerprints\":{good},\"expires\":60,\"x\":{}1{}}}",
            "[".repeat(60),
            "]".repeat(60)
        ),
        format!("{{\"fingerprints\":{good},\"expires\":60,\"url\":\"https://d0.test/\"}}"),
        format!("{}x", list("60")),
        format!("\u{feff}{}", list("60")),
        format!("[{}]", list("60")),
        "[".repeat(60_000),
        format!("{{\"fingerprints\":[{}],\"expires\":60}}", ["{\"sha-256\":\"\"}"; 5000].join(",")),
    ];
    let answers = [
        http(gzip, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        http(huge, b" "),
        http("X: y", &spaces),
        b"\x16\x03\x01".to_vec(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000)).into_bytes(),
    ];
    let domains = names(texts.len() + answers.len() + 4);
    let of_all: Vec<&str> = domains.iter().map(String::as_str).collect();
    let web = world.web(&of_all, TRUSTED).await;
    let mut domains = domains.into_iter();
    for text in &texts {
        let domain = domains.next().unwrap();
        web.write(&domain, text);
        let shown: String = text.chars().take(100).collect();
        proves_nothing(&mut world, &identity, &domain, &shown).await;
    }
    for answer in answers {
        let domain = domains.next().unwrap();
        let shown = String::from_utf8_lossy(&answer[..3.min(answer.len())]).into_owned();
        web.answer(&domain, answer);
        proves_nothing(&mut world, &identity, &domain, &shown).await;
    }
    // one document that refers to another, which refers to a third
    let [first, second, third, last] = std::array::from_fn(|_| domains.next().unwrap());
    for (from, to) in [(&first, &second), (&second, &third)] {
        let url = format!("https://{to}:{}/hop", web.port);
        web.write(from, &format!("{{\"url\":\"{url}\",\"expires\":60}}"));
    }
    web.write(&third, &list("60"));
    proves_nothing(&mut world, &identity, &first, "a second reference").await;
    // and the good one does prove it
    web.write(&last, &list("60"));
    let mut host = world.host(&last).await;
    host.identity = identity.clone();
    let _stream = world.sends(&last).await;
    assert!(offered(&host).await.0);
    world.bounced(&last, "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_64_an_answer_that_drips_is_not_waited_for() {
    let config = "limits: { connect: 15s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let web = world.web(&["evil.test"], TRUSTED).await;
    web.drip("evil.test");
    proves_nothing(&mut world, &unproven(), "evil.test", "a drip").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_66_fingerprints_of_anything_but_the_certificate_are_of_nothing() {
    let mut world = World::with(BOUNCE).await;
    // the issuer, or who claims to be, is sent too
    let other = Identity::self_signed("other.test");
    let identity = unproven().followed_by(&[&other]);
    let leaf = identity.chain().remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let key = Fingerprint::of(&parsed.tbs_certificate.subject_pki.raw.to_vec().into());
    let hex = identity.sha256();
    let one = |name: &str, value: &str| format!("{{\"{name}\":\"{value}\"}}");
    let right = digest(&identity);
    let descriptors = [
        one("sha-256", &digest(&other)),
        one("sha-256", &STANDARD.encode(key.as_bytes())),
        one("sha-256", &hex),
        one("sha-256", &STANDARD.encode(&hex)),
        one("sha-256", &right[..right.len() - 4]),
        one("sha-256", &format!("{right}AAAA")),
        one("sha-256", &format!("{}!", &right[..right.len() - 1])),
        one("sha-512", &right),
        one("md5", &STANDARD.encode([0; 16])),
        one("sha-1", &STANDARD.encode([0; 20])),
        one("SHA256", &right),
        // of two digests the better one has to be right
        format!("{{\"sha-256\":\"{right}\",\"sha-512\":\"{}\"}}", STANDARD.encode([0; 64])),
    ];
    let domains = names(descriptors.len() + 1);
    let of_all: Vec<&str> = domains.iter().map(String::as_str).collect();
    let web = world.web(&of_all, TRUSTED).await;
    for (domain, descriptor) in domains.iter().zip(&descriptors) {
        web.write(domain, &format!("{{\"fingerprints\":[{descriptor}],\"expires\":600}}"));
        proves_nothing(&mut world, &identity, domain, descriptor).await;
    }
    // base64url where it is not base64 too
    let domain = domains.last().unwrap();
    let odd =
        std::iter::repeat_with(unproven).find(|one| digest(one).contains(['+', '/'])).unwrap();
    let text = URL_SAFE.encode(Fingerprint::of(&odd.chain()[0]).as_bytes());
    web.write(domain, &format!("{{\"fingerprints\":[{}],\"expires\":600}}", one("sha-256", &text)));
    proves_nothing(&mut world, &odd, domain, "base64url").await;
    world.is_alive().await;
}
