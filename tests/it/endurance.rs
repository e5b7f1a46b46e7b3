//! Two gates, each with an old server behind it, and a relay between them whose connections break at
//! random, by a reset or by silence. Each stanza arrives once or goes back to its sender, in the
//! order of its pair; without stream management some are lost, and it is known how many.
//!
//! The short form is a test like others. The long one: `cargo test --release --test it endurance --
//! --ignored --nocapture`.

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fedgate::{
    config,
    proxy::{App, Workers},
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::world::{Authority, Cut, Cutter, Dns, Service, Station, Style, attribute};

/// How much there is of all.
#[derive(Clone, Copy)]
struct Scale {
    /// Stanzas, over all pairs.
    stanzas: usize,
    /// Connections that break.
    cuts: usize,
    /// Whether stanzas are acknowledged, and streams resumed.
    managed: bool,
    /// Whether one stream carries both directions.
    bidi: bool,
}

/// A gate with the old server of a domain.
struct Side {
    app: App,
    legacy: Station,
    domain: &'static str,
    _home: TempDir,
}

/// What came of the stanzas of one pair.
#[derive(Default)]
struct Pair {
    arrived: Vec<bool>,
    bounced: Vec<bool>,
    last: Option<usize>,
}

const DOMAINS: [&str; 2] = ["a.test", "b.test"];
const CHUNK: usize = 50;

impl Side {
    async fn start(domain: &'static str, authority: &Authority, dns: &Dns, scale: Scale) -> Self {
        let home = TempDir::new().unwrap();
        let at = |name: &str| home.path().join(name);
        authority.write(&at("root.pem"));
        authority.issue(&[domain, &rooms(domain)]).write(&at("own.crt"), &at("own.key"));
        let legacy = Station::start(domain, Style::Modern, None).await;
        let (rooms, here, address) = (rooms(domain), home.path().display(), legacy.address);
        let on = |on| if on { "auto" } else { "off" };
        let (sm, bidi, dns) = (on(scale.managed), on(scale.bidi), dns.address);
        let text = format!(
            "version: 1
state_dir: {here}/state
listen: {{ public: ['127.0.0.1:0'], local: ['127.0.0.1:0'] }}
legacy: {{ old: {{ address: '{address}', domains: [{domain}, {rooms}], refusals: bounce }} }}
certificates: [{{ cert: {here}/own.crt, key: {here}/own.key }}]
resolver: {{ servers: ['{dns}'], timeout: 5s }}
networks: {{ deny_out: [] }}
tls: {{ roots: [{here}/root.pem] }}
defaults: {{ compat: {{ stream_management: {sm}, bidi: {bidi} }} }}
limits:
  {{ write_stall: 2s, ack: 2s, resumption: 2m, connect: 30s, tcp_connect: 5s, rate: off, stanza_rate: off, dialback_rate: off,
     connections_per_address: 100000, connections: 100000, connections_per_domain: 100000 }}
"
        );
        fs::create_dir_all(at("conf.d")).unwrap();
        fs::write(at("conf.d/10.yaml"), text).unwrap();
        let loaded = config::load(&at("conf.d")).unwrap_or_else(|problems| panic!("{problems}"));
        let app = App::start(loaded.config, Workers::new(Vec::new())).unwrap();
        legacy.steer(app.addresses().local[0]);
        Self { app, legacy, domain, _home: home }
    }
}

fn rooms(domain: &str) -> String {
    format!("rooms.{domain}")
}

/// Sends the stanzas of one pair; as much of them as cuts are made, so that all of them meet some.
async fn send(
    mut stream: crate::world::Stream,
    (from, to): (String, &'static str),
    count: usize,
    scale: Scale,
    cuts: Arc<AtomicUsize>,
) -> crate::world::Stream {
    let (mut sent, mut waited) = (0, 0);
    while sent < count {
        // a part ahead of the cuts, so that there is always something on the way
        let allowed = (cuts.load(Ordering::Relaxed) + 2) * count / scale.cuts;
        // and one more if none come, for what was lost opens no connection to cut
        if sent >= allowed && waited < 200 {
            sleep(Duration::from_millis(1)).await;
            waited += 1;
            continue;
        }
        let mut text = String::new();
        let end = count.min(sent + if waited < 200 { CHUNK } else { 1 });
        waited = 0;
        for n in sent..end {
            let body = "some words that are no news to anybody, but have a length";
            write!(
                text,
                "<message from='u@{from}' to='v@{to}' id='{n}'><body>{body}</body></message>"
            )
            .unwrap();
        }
        stream.say(&text).await;
        sent = end;
    }
    stream
}

/// Takes note of what comes to a legacy server; whether it is news of that stanza.
fn note(pairs: &mut HashMap<String, Pair>, stanza: &str, count: usize) -> bool {
    let (from, to) = (attribute(stanza, "from"), attribute(stanza, "to"));
    let number: usize = attribute(stanza, "id").parse().unwrap();
    let bounced = stanza.contains(" type='error'");
    let key = if bounced { format!("{to}→{from}") } else { format!("{from}→{to}") };
    let pair = pairs.entry(key).or_default();
    let known = |list: &[bool]| list.get(number).copied().unwrap_or_default();
    let is_news = !known(&pair.arrived) && !known(&pair.bounced);
    let (list, what) =
        if bounced { (&mut pair.bounced, "back") } else { (&mut pair.arrived, "there") };
    list.resize(count, false);
    assert!(!std::mem::replace(&mut list[number], true), "twice {what}: {stanza}");
    if !bounced {
        assert!(pair.last < Some(number), "out of order, after {:?}: {stanza}", pair.last);
        pair.last = Some(number);
    }
    is_news
}

async fn run(scale: Scale) {
    let (authority, dns) = (Authority::new(), Dns::start().await);
    let began = Instant::now();
    let mut sides = Vec::new();
    let mut cutters = Vec::new();
    for domain in DOMAINS {
        let side = Side::start(domain, &authority, &dns, scale).await;
        let cutter = Cutter::start(side.app.addresses().public[0]).await;
        for name in [domain.to_owned(), rooms(domain)] {
            dns.publish(&name, Service::StartTls, &[cutter.address]);
        }
        sides.push(side);
        cutters.push(cutter);
    }
    let cuts = Arc::<AtomicUsize>::default();
    let count = scale.stanzas / 4;
    let mut senders = JoinSet::new();
    for (here, there) in [(0, 1), (1, 0)] {
        let target = DOMAINS[there];
        for from in [DOMAINS[here].to_owned(), rooms(DOMAINS[here])] {
            let stream = sides[here].legacy.open_as(&from, target).await;
            senders.spawn(send(stream, (from, target), count, scale, Arc::clone(&cuts)));
        }
    }
    let mut cutting = JoinSet::new();
    // Without stanzas nobody opens a connection that could be cut.
    let over = Arc::<AtomicBool>::default();
    cutting.spawn({
        let (cuts, over) = (Arc::clone(&cuts), Arc::clone(&over));
        async move {
            let mut random = 0x2545_f491_4f6c_dd1du64;
            while cuts.load(Ordering::Relaxed) < scale.cuts && !over.load(Ordering::Relaxed) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let dice = (random >> 33) as usize;
                sleep(Duration::from_millis(20 + (dice % 100) as u64)).await;
                let how = if (dice / 100).is_multiple_of(8) { Cut::Hole } else { Cut::Reset };
                // some while they are made; always, and nothing would get through
                let age = if (dice / 1000).is_multiple_of(16) { 0 } else { 150 };
                if cutters[dice / 16_000 % 2].cut(how, Duration::from_millis(age)) {
                    cuts.fetch_add(1, Ordering::Relaxed);
                }
            }
            cutters
        }
    });
    let (noted, mut notes) = mpsc::channel::<String>(1000);
    let mut listening = JoinSet::new();
    let mut apps = Vec::new();
    for mut side in sides {
        let noted = noted.clone();
        apps.push((side.domain, side.app, side._home));
        listening.spawn(async move {
            while let Some(stanza) = side.legacy.delivered().await {
                if noted.send(stanza).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut pairs = HashMap::new();
    let mut quiet = 0;
    let mut streams = Vec::new();
    let total = count * 4;
    let mut finished = 0;
    // to the last, and until nothing more comes
    while quiet < if finished < total { 60 } else { 2 } {
        match tokio::time::timeout(Duration::from_secs(1), notes.recv()).await {
            Ok(Some(stanza)) => {
                finished += usize::from(note(&mut pairs, &stanza, count));
                quiet = 0;
            }
            Ok(None) => break,
            Err(_) => {
                quiet += usize::from(senders.is_empty());
                if !scale.managed && senders.is_empty() && quiet > 10 {
                    break;
                }
            }
        }
        while let Some(stream) = senders.try_join_next() {
            streams.push(stream.unwrap());
        }
    }
    over.store(true, Ordering::Relaxed);
    let _cutters = cutting.join_next().await;
    let (mut arrived, mut bounced, mut both) = (0, 0, 0);
    for pair in pairs.values_mut() {
        pair.arrived.resize(count, false);
        pair.bounced.resize(count, false);
        arrived += pair.arrived.iter().filter(|is| **is).count();
        bounced += pair.bounced.iter().filter(|is| **is).count();
        both += pair.arrived.iter().zip(&pair.bounced).filter(|(a, b)| **a && **b).count();
    }
    let mut sums = Vec::new();
    for (domain, app, _) in &apps {
        let mut last = None;
        for _ in 0..400 {
            let status = app.monitor().status().await;
            let s = status.stanzas;
            last = Some((s, status.queued));
            let out = s.delivered + s.bounced + s.dropped + s.refused;
            if status.queued == 0 && s.inbound + s.outbound == out {
                break;
            }
            sleep(Duration::from_millis(25)).await;
        }
        let (s, queued) = last.unwrap();
        eprintln!("{domain}: {s:?}");
        let out = s.delivered + s.bounced + s.dropped + s.refused;
        assert_eq!((s.inbound + s.outbound, queued), (out, 0), "{domain}: {s:?}");
        assert_eq!(s.errors_lost, 0, "{domain}: {s:?}");
        sums.push(s);
    }
    let missing = total - arrived - bounced + both;
    eprintln!(
        "{total} stanzas, {} cuts: {arrived} arrived, {bounced} returned ({both} of them had arrived), \
         {missing} lost; {:.0} s",
        cuts.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64()
    );
    let cuts = cuts.load(Ordering::Relaxed);
    if scale.managed {
        assert_eq!((missing, both, cuts), (0, 0, scale.cuts));
    } else {
        assert!(cuts > scale.cuts / 2, "{cuts} cuts");
        // what the gates wrote to each other and did not get is what is missing, to a stanza; what TLS
        // was given when it broke came back, and may have arrived too
        let taken: u64 = sums.iter().map(|s| s.inbound).sum();
        let written: u64 = sums.iter().map(|s| s.inbound + s.outbound).sum::<u64>()
            - sums.iter().map(|s| s.bounced + s.dropped).sum::<u64>()
            - taken;
        assert_eq!(written + both as u64 - taken, missing as u64, "{sums:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_acknowledgements_nothing_is_lost_or_doubled_however_connections_break() {
    run(Scale { stanzas: 20_000, cuts: 20, managed: true, bidi: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_one_stream_carries_both_directions() {
    run(Scale { stanzas: 20_000, cuts: 20, managed: true, bidi: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acknowledgements_it_is_known_how_many_are_lost() {
    run(Scale { stanzas: 20_000, cuts: 20, managed: false, bidi: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_with_acknowledgements() {
    run(Scale { stanzas: 1_000_000, cuts: 500, managed: true, bidi: false }).await;
    run(Scale { stanzas: 1_000_000, cuts: 500, managed: true, bidi: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_without() {
    run(Scale { stanzas: 1_000_000, cuts: 500, managed: false, bidi: false }).await;
}
