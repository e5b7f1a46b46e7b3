//! The commands against a running fedgate: what they print, and the exit statuses that scripts and
//! monitoring rely on.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::{available_parallelism, sleep},
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_fedgate");

/// A fedgate whose legacy server and name server are not there.
struct Running {
    home: TempDir,
    child: Child,
}

impl Running {
    fn start() -> Self {
        Self::with(&[])
    }

    /// With these options.
    fn with(options: &[&str]) -> Self {
        let home = TempDir::new().unwrap();
        let config = home.path().join("conf.d");
        fs::create_dir(&config).unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "version: 1
state_dir: {}/state
listen: {{ public: ['127.0.0.1:0'], local: ['127.0.0.1:0'] }}
legacy: {{ old: {{ address: '{nobody}', domains: [old.example] }} }}
resolver: {{ servers: ['{nobody}'], timeout: 300ms }}
",
            home.path().display()
        );
        fs::write(config.join("10.yaml"), text).unwrap();
        let child = Command::new(BINARY)
            .args(["run", "--config"])
            .arg(&config)
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self { home, child };
        let end = Instant::now() + Duration::from_secs(20);
        while !running.socket().exists() {
            assert!(Instant::now() < end, "it does not run");
            sleep(Duration::from_millis(20));
        }
        running
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("conf.d")
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("state/admin.sock")
    }

    fn ask(&self, words: &[&str]) -> (Option<i32>, String) {
        told(words, &self.config())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told(words: &[&str], config: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).args(words).env("FEDGATE_CONFIG", config).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn commands_say_what_is_so_and_exit_by_it() {
    let running = Running::start();
    let (code, text) = running.ask(&["status"]);
    assert_eq!(code, Some(2), "{text}");
    for part in ["BAD  legacy", "BAD  resolver", "ok   listeners", "old.example", "self-signed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "piped output is plain: {text}");
    for (words, code, part) in [
        (&["streams"][..], 0, "PAIRS"),
        (&["failures"], 0, "nothing fails"),
        (&["failures", "a.example"], 0, "nothing fails"),
        (&["status", "a.example"], 2, "nothing is known of a.example"),
        (&["show", "7"], 2, "no open stream has that number"),
        (&["ping", "other.example", "a.example"], 2, "other.example"),
        (&["close", "a b"], 64, "a b"),
        (&["close", "7"], 2, "no open stream has that number"),
        (&["close", "a.example"], 2, "0 closed"),
        (&["retry", "a.example"], 0, "0 tried again"),
        (&["forget", "--all"], 0, "0 forgotten"),
        (&["log-level", "debug"], 0, "until the configuration is read again"),
        (&["log-level", "loud"], 2, "unknown log level \"loud\""),
        (&["memory", "list"], 0, "DOMAIN"),
        (&["memory", "forget", "a.example"], 2, "nothing is remembered of a.example"),
        (&["reload"], 0, "configuration reloaded"),
    ] {
        let (found, text) = running.ask(words);
        assert!(found == Some(code) && text.contains(part), "{words:?}: {found:?} {text}");
    }
    // as JSON, with the same statuses
    for (words, code) in [
        (&["status", "--json"][..], 2),
        (&["streams", "--json"], 0),
        (&["close", "7", "--json"], 2),
    ] {
        let (found, text) = running.ask(words);
        assert_eq!(found, Some(code), "{words:?}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
    // a configuration that cannot be used is told with its place
    fs::write(running.config().join("20.yaml"), "version: 1\nlimitz: {}\n").unwrap();
    let (code, text) = running.ask(&["reload"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("the old one stays") && text.contains("20.yaml:2:1"), "{text}");
    let (code, text) = running.ask(&["status"]);
    assert!(code == Some(2) && text.contains("stays: conf.d/20.yaml:2:1"), "{text}");
    fs::remove_file(running.config().join("20.yaml")).unwrap();
    let (code, text) = running.ask(&["drain"]);
    assert!(code == Some(0) && text.contains("draining"), "{text}");
    let (code, text) = running.ask(&["reload"]);
    assert!(code == Some(2) && text.contains("fedgate is draining"), "{text}");
}

#[test]
fn a_list_that_is_mended_is_noticed_though_its_rule_was_not_loaded() {
    let running = Running::start();
    let list = running.config().join("lists/spam.txt");
    let text = "version: 1\nlists: { spam: { file: lists/spam.txt } }\n\
                rules: [{ match: 'list(spam)', allow: none }]\n";
    fs::write(running.config().join("20.yaml"), text).unwrap();
    let (code, text) = running.ask(&["reload"]);
    assert!(code == Some(2) && text.contains("read list \"spam\""), "{code:?} {text}");
    let end = Instant::now() + Duration::from_secs(20);
    let becomes = |part: &str| loop {
        let (_, text) = running.ask(&["status"]);
        if text.contains(part) {
            break;
        }
        assert!(Instant::now() < end, "{part}: {text}");
        sleep(Duration::from_millis(50));
    };
    becomes("stays: conf.d/lists/spam.txt: read list");
    fs::create_dir(list.parent().unwrap()).unwrap();
    fs::write(&list, "evil.example\nno domain\n").unwrap();
    becomes("stays: conf.d/lists/spam.txt:2");
    fs::write(&list, "evil.example\n").unwrap();
    becomes("configuration loaded ");
}

#[test]
fn another_state_directory_waits_for_the_next_start() {
    let running = Running::start();
    let main = running.config().join("10.yaml");
    let text = fs::read_to_string(&main).unwrap();
    let new = running.home.path().join("new");
    let old = running.home.path().join("state");
    fs::write(&main, text.replacen(old.to_str().unwrap(), new.to_str().unwrap(), 1)).unwrap();
    let by_socket = ["reload", "--socket", running.socket().to_str().unwrap()].map(str::to_owned);
    for _ in 0..2 {
        let (code, said) = running.ask(&by_socket.each_ref().map(|word| &**word));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("a changed state_dir takes effect at the next start"), "{said}");
    }
    assert!(running.socket().exists() && !new.exists());
}

#[test]
fn a_second_fedgate_does_not_take_the_socket_of_the_first_and_serves_without() {
    let running = Running::start();
    let mut second = Command::new(BINARY)
        .args(["run", "--config"])
        .arg(running.config())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(second.stderr.take().unwrap()).lines().map(Result::unwrap);
    let warning = log.find(|line| line.contains("no admin socket")).unwrap();
    assert!(warning.contains("WARN") && warning.contains("is in use"), "{warning}");
    assert!(log.any(|line| line.contains("running")), "it runs all the same");
    let _ = second.kill();
    second.wait().unwrap();
    assert_eq!(running.ask(&["streams"]).0, Some(0), "the first one still answers");
}

#[test]
fn rules_are_explained_by_what_they_do_in_their_mode() {
    let running = Running::start();
    let explain = ["policy", "explain", "old.example", "evil.example"];
    let rules = running.config().join("20.yaml");
    for (mode, code, part) in [("enforce", 1, "REFUSED by"), ("report", 0, "would be refused by")] {
        let text =
            format!("version: 1\nmode: {mode}\nrules: [{{ match: evil.example, allow: none }}]\n");
        fs::write(&rules, text).unwrap();
        let (found, said) = running.ask(&explain);
        assert!(found == Some(code) && said.contains(part), "{mode}: {found:?} {said}");
    }
}

#[test]
fn health_is_that_of_the_running_fedgate_not_of_the_files() {
    let running = Running::start();
    let socket = running.socket();
    let by_socket = ["health", "--socket", socket.to_str().unwrap()];
    assert_eq!(running.ask(&["health"]), (Some(0), String::new()));
    // another port stands in the files than it listens on
    let main = running.config().join("10.yaml");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replacen("127.0.0.1:0", "127.0.0.1:1", 1)).unwrap();
    assert_eq!(running.ask(&["health"]), (Some(0), String::new()));
    // what is broken, the running one does not take; the rest says where it is asked
    let broken = running.config().join("20.yaml");
    fs::write(&broken, "limitz: {}").unwrap();
    assert_eq!(running.ask(&["health"]), (Some(0), String::new()));
    fs::remove_file(broken).unwrap();
    fs::write(&main, "version: [").unwrap();
    assert_eq!(running.ask(&by_socket), (Some(0), String::new()));
    let (code, said) = running.ask(&["health"]);
    if !Path::new("/var/lib/fedgate/admin.sock").exists() {
        assert!(code == Some(64) && said.contains("--socket PATH"), "{code:?} {said}");
    }
    fs::write(&main, text).unwrap();
    assert_eq!(running.ask(&["drain"]).0, Some(0));
    assert_eq!(running.ask(&["health"]), (Some(0), String::new()), "it drains as it should");
    // without anybody behind the socket the files say where to ask, and there is nobody
    let config = running.config();
    let mut home = running;
    home.child.kill().unwrap();
    home.child.wait().unwrap();
    let (code, said) = told(&by_socket, &config);
    assert!(code == Some(1) && said.contains("ask 127.0.0.1:0"), "{code:?} {said}");
}

#[test]
fn health_asks_where_peers_are_awaited_and_as_they_are() {
    let running = Running::start();
    let main = running.config().join("10.yaml");
    let text = fs::read_to_string(&main).unwrap();
    for listen in [
        "public: ['127.0.0.1:0'], proxy_protocol: [127.0.0.0/8]",
        "public: [], direct_tls: ['127.0.0.1:0']",
        "public: [], direct_tls: ['[::]:0'], proxy_protocol: [127.0.0.1, '::1']",
    ] {
        fs::write(&main, text.replace("public: ['127.0.0.1:0']", listen)).unwrap();
        let (code, said) = running.ask(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(running.ask(&["health"]), (Some(0), String::new()), "{listen}");
    }
    fs::write(&main, text.replace("public: ['127.0.0.1:0']", "public: []")).unwrap();
    assert_eq!(running.ask(&["reload"]).0, Some(0));
    let (code, said) = running.ask(&["health"]);
    assert!(code == Some(1) && said.contains("nothing listens for peers"), "{code:?} {said}");
}

#[test]
fn health_does_not_wait_for_whoever_is_silent() {
    let home = TempDir::new().unwrap();
    let peers = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "version: 1
state_dir: {}
listen: {{ public: ['{}'] }}
legacy: {{ old: {{ address: '127.0.0.1:1', domains: [old.example] }} }}
",
        home.path().display(),
        peers.local_addr().unwrap(),
    );
    let config = home.path().join("conf.d");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("10.yaml"), text).unwrap();
    let _deaf = UnixListener::bind(home.path().join("admin.sock")).unwrap();
    let mut health = Command::new(BINARY)
        .args(["health", "--config", config.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = health.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            health.kill().unwrap();
        }
        sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
}

/// What /proc tells of a process, for each of its threads.
fn threads(pid: u32, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    status
        .map(|text| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned())
        .collect()
}

#[test]
fn privileges_are_given_up_and_memory_is_nobody_elses() {
    let running = Running::start();
    let pid = running.child.id();
    assert!(threads(pid, "NoNewPrivs:").iter().all(|value| value == "1"));
    // what others of the same user could look into, the kernel gives to root then
    let of = |file: &str| fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid();
    assert_eq!(of("mem"), 0);

    let (code, said) = running.ask(&["run", "--user", "root"]);
    assert!(code == Some(1) && said.contains("that is root"), "{said}");
    let (code, said) = running.ask(&["run", "--user", "no-such-user"]);
    assert!(code == Some(1) && said.contains("there is no such user"), "{said}");
    if nix::unistd::geteuid().is_root() {
        becomes_another_user();
    } else {
        let (code, said) = running.ask(&["run", "--user", "65534:65534"]);
        assert!(code == Some(1) && said.contains("only root"), "{said}");
    }
}

/// As root: all threads are that user, with one capability, by which ports are bound at once and by
/// a reload; and files that it may not read are not read with root's eyes before.
fn becomes_another_user() {
    const USER: u32 = 54_321;
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["conf.d", "state"] {
        fs::create_dir(at(name)).unwrap();
    }
    chown(at("state"), Some(USER), Some(USER)).unwrap();
    // a network of this test, so that the ports are free
    let network =
        format!("127.{}.{}", 64 + std::process::id() % 128, std::process::id() / 128 % 256);
    let write = |more: &str| {
        let text = format!(
            "version: 1
state_dir: {}
listen: {{ public: ['{network}.1:1022'{more}], local: ['127.0.0.1:0'] }}
legacy: {{ old: {{ address: '{network}.9:9', domains: [old.example] }} }}
resolver: {{ servers: ['{network}.9'], timeout: 300ms }}
",
            at("state").display()
        );
        fs::write(at("conf.d/10.yaml"), text).unwrap();
    };
    write("");
    let start = || {
        let mut command = Command::new(BINARY);
        command.args(["run", "--user", &format!("{USER}:{USER}"), "--config"]).arg(at("conf.d"));
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let running = Running { child: start(), home: TempDir::new().unwrap() };
    let socket = at("state/admin.sock");
    let end = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < end, "it does not run");
        sleep(Duration::from_millis(20));
    }
    let pid = running.child.id();
    let all = |key, wanted: &str| {
        let found = threads(pid, key);
        assert!(found.len() > 1 && found.iter().all(|value| value == wanted), "{key} {found:?}");
    };
    let four = [USER; 4].map(|id| id.to_string()).join("\t");
    all("Uid:", &four);
    all("Gid:", &four);
    all("Groups:", &USER.to_string());
    let held = threads(pid, "CapPrm:");
    // ports below 1024, unless the machine that tests does not have that itself
    assert!(held[0] == "0000000000000400" || held[0] == "0000000000000000", "{held:?}");
    for key in ["CapPrm:", "CapEff:"] {
        all(key, &held[0]);
    }
    for key in ["CapInh:", "CapAmb:"] {
        all(key, "0000000000000000");
    }
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(at("state/dialback.secret")).unwrap().uid(), USER);
    write(&format!(", '{network}.2:1021'"));
    let ask = |words: &[&str]| {
        let socket = ["--socket", socket.to_str().unwrap()];
        told(&[words, &socket].concat(), &at("conf.d"))
    };
    let (code, said) = ask(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    drop(running);

    // root could read it, the user cannot
    fs::set_permissions(at("conf.d/10.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    let Output { status, stderr, .. } = start().wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(64) && said.contains("Permission denied"), "{said}");
}

#[test]
fn without_a_running_fedgate_nothing_is_found_out() {
    let home = TempDir::new().unwrap();
    let socket = home.path().join("none.sock");
    let (code, text) = told(&["status", "--socket", socket.to_str().unwrap()], home.path());
    assert!(code == Some(3) && text.contains("does it run"), "{text}");
    let (code, text) = told(&["failures"], &home.path().join("no-such-directory"));
    assert!(code == Some(3) && text.contains("--socket"), "{text}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let (code, text) = told(&["completions", shell], home.path());
        assert!(code == Some(0) && text.contains("log-level"), "{shell}");
    }
    let (code, page) = told(&["man"], home.path());
    assert!(code == Some(0) && page.starts_with(".ie"), "{}", &page[..40]);
    let pages = home.path().join("man");
    let (code, text) = told(&["man", "--dir", pages.to_str().unwrap()], home.path());
    assert_eq!(code, Some(0), "{text}");
    for page in ["fedgate.1", "fedgate-status.1", "fedgate-check-config.1"] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn nobody_carries_streams_with_no_thread_at_all() {
    let home = TempDir::new().unwrap();
    for wrong in ["0", "many"] {
        let (code, said) = told(&["run", "--workers", wrong], home.path());
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(wrong) && said.contains("--workers <COUNT>"), "{said}");
    }
}

#[test]
fn as_many_threads_carry_streams_as_are_asked_for_or_else_one_for_two_processors() {
    let carrying = |running: &Running| {
        let names = threads(running.child.id(), "Name:");
        names.iter().filter(|name| name.starts_with("streams-")).count()
    };
    let half = available_parallelism().unwrap().get().div_ceil(2);
    assert_eq!(carrying(&Running::start()), half);
    assert_eq!(carrying(&Running::with(&["--workers", "3"])), 3);
}

#[test]
fn there_is_room_for_descriptors_before_they_are_needed() {
    let running = Running::start();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(65_536).min(65_536);
    for size in threads(running.child.id(), "FDSize:") {
        assert!(size.parse::<u64>().unwrap() >= limit, "{size} of {limit}");
    }
}
