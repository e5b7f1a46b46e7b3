//! A gate between simulated neighbours: an old server `old.test`, an honest peer `good.test`, and
//! whoever a test is itself.

mod authority;
mod certificates;
pub(crate) mod conn;
mod cutter;
mod dns;
mod peer;
mod sending;
mod serving;
mod station;
mod stream;
mod web;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use fedgate::{
    config,
    proxy::{App, Workers},
};
use tempfile::TempDir;

pub(crate) use self::{
    authority::{Authority, Identity},
    certificates::San,
    conn::{Conn, FOOTER, assert_error, attribute, has_xml, soon},
    cutter::{Cut, Cutter},
    dns::{Dns, Service},
    peer::{
        BIDI, EXTERNAL, FEATURES_END, Host, MECHANISMS, PROCEED, STARTTLS, header, header_with,
    },
    sending::{BOUNCE, message_to},
    serving::features,
    station::{Manner, PeerTls, Station, Style},
    stream::Stream,
};

/// What a test's gate is made with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Top-level keys of the configuration, behind those of `tls`.
    pub(crate) config: &'static str,
    /// Keys of the legacy server.
    pub(crate) legacy: &'static str,
    pub(crate) style: Style,
    /// Whether the honest peer offers SASL EXTERNAL.
    pub(crate) external: bool,
    /// Where connections to peers never go; the default guards the loopback addresses too.
    pub(crate) deny_out: &'static str,
}

impl Plan {
    /// What most tests want.
    pub(crate) const DEFAULT: Self =
        Self { config: "", legacy: "", style: Style::Modern, external: true, deny_out: "[]" };
}

/// A gate and its neighbours.
pub(crate) struct World {
    pub(crate) app: App,
    /// The old server, `old.test`.
    pub(crate) legacy: Station,
    /// The honest peer, `good.test`.
    pub(crate) good: Station,
    pub(crate) dns: Dns,
    pub(crate) authority: Authority,
    directory: TempDir,
    honest: u32,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Plan::DEFAULT).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        Self::on(Workers::new(Vec::new()), plan).await
    }

    /// A gate whose streams these carry; after a restart the test's own runtime does.
    pub(crate) async fn on(workers: Workers, plan: Plan) -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new();
        let at = |name: &str| directory.path().join(name);
        authority.write(&at("root.pem"));
        authority.issue(&["old.test", "rooms.old.test"]).write(&at("old.crt"), &at("old.key"));
        let dns = Dns::start().await;
        let legacy = Station::start("old.test", plan.style, None).await;
        let identity = authority.issue(&["good.test"]);
        let tls = PeerTls {
            server: identity.server(),
            client: authority.client(Some(&identity), &[]),
            external: plan.external,
        };
        let good = Station::start("good.test", Style::Modern, Some(tls)).await;
        dns.publish("good.test", Service::StartTls, &[good.address]);
        let path = write(directory.path(), &plan, legacy.address, dns.address);
        let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let app = App::start(loaded.config, workers).unwrap();
        legacy.steer(app.addresses().local[0]);
        good.steer(app.addresses().public[0]);
        Self { app, legacy, good, dns, authority, directory, honest: 0 }
    }

    /// Goes over to the first configuration and these further top-level keys.
    pub(crate) fn reload(&mut self, more: &str) -> Result<(), config::Problems> {
        let directory = self.directory.path().join("conf.d");
        fs::write(directory.join("20.yaml"), format!("version: 1\n{more}")).unwrap();
        self.app.reload(config::load(&directory)?.config).unwrap();
        Ok(())
    }

    /// Ends the gate in order, and starts another with what is on disk.
    pub(crate) async fn restarted(self) -> Self {
        let Self { app, legacy, good, dns, authority, directory, honest } = self;
        soon("the end", app.shutdown()).await;
        let path = directory.path().join("conf.d");
        let app =
            App::start(config::load(&path).unwrap().config, Workers::new(Vec::new())).unwrap();
        legacy.steer(app.addresses().local[0]);
        good.steer(app.addresses().public[0]);
        Self { app, legacy, good, dns, authority, directory, honest }
    }

    /// Adds these top-level keys to the configuration on disk; the gate runs on as it is.
    pub(crate) fn configure(&self, more: &str) {
        fs::write(self.path().join("20.yaml"), format!("version: 1\n{more}")).unwrap();
    }

    /// The configuration as it is on disk.
    pub(crate) fn config(&self) -> config::model::Config {
        config::load(&self.path()).unwrap().config
    }

    /// Where the configuration is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("conf.d")
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.app.addresses().public[0]
    }

    pub(crate) fn direct(&self) -> SocketAddr {
        self.app.addresses().direct_tls[0]
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.app.addresses().local[0]
    }

    /// An honest message arrives, both ways, and nothing that nobody expected arrived before.
    pub(crate) async fn is_alive(&mut self) {
        self.honest += 1;
        let number = self.honest;
        let inbound = format!(
            "<message from='ann@good.test/x' to='bob@old.test'><body>honest {number}</body></message>"
        );
        let mut stream = self.good.open("old.test").await;
        stream.say(&inbound).await;
        assert_eq!(self.legacy.arrival().await, inbound);
        let outbound = format!(
            "<message from='bob@old.test' to='ann@good.test/x'><body>honest {number}</body></message>"
        );
        let mut stream = self.legacy.open("good.test").await;
        stream.say(&outbound).await;
        assert_eq!(self.good.arrival().await, outbound);
        assert_eq!(self.legacy.arrived(), Vec::<String>::new());
        assert_eq!(self.good.arrived(), Vec::<String>::new());
    }
}

/// The configuration of a gate.
fn write(directory: &Path, plan: &Plan, legacy: SocketAddr, dns: SocketAddr) -> PathBuf {
    let home = directory.display();
    let text = format!(
        "version: 1
state_dir: {home}/state
listen: {{ public: ['127.0.0.1:0'], direct_tls: ['127.0.0.1:0'], local: ['127.0.0.1:0'] }}
legacy:
  old:
    address: '{legacy}'
    domains: [old.test, rooms.old.test]
{}
certificates: [{{ cert: {home}/old.crt, key: {home}/old.key }}]
resolver: {{ servers: ['{dns}'], timeout: 1s }}
networks: {{ deny_out: {} }}
tls:
  roots: [{home}/root.pem]
{}
",
        plan.legacy, plan.deny_out, plan.config
    );
    let path = directory.join("conf.d");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("10.yaml"), text).unwrap();
    path
}
