use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::config;

/// So many reloads, each of which changes what certificates prove.
const RELOADS: u16 = 300;

/// What a configuration becomes in which the servers of POSH have that port.
fn services(home: &TempDir, port: u16) -> Services {
    let text = format!(
        "version: 1
state_dir: {}
legacy: {{ old: {{ address: '127.0.0.1:1', domains: [old.test] }} }}
resolver: {{ servers: [127.0.0.1] }}
tls: {{ roots: [] }}
posh: {{ port: {port} }}
",
        home.path().display()
    );
    let directory = home.path().join("conf.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("10.yaml"), text).unwrap();
    let mut services =
        Services::new(Arc::new(config::load(&directory).unwrap().config), None).unwrap();
    services.keep().unwrap();
    services
}

#[tokio::test]
async fn nobody_judges_by_services_of_before_the_number_of_their_trust() {
    let home = TempDir::new().unwrap();
    let keys = DialbackKeys::new(Zeroizing::new([7; 32]));
    let gate = Gate::new(services(&home, 1), keys, Workers::new(Vec::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let (seen, ends) = (Arc::clone(&gate), Arc::clone(&is_over));
    let reader = thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            let trust = seen.trust();
            let services = seen.services();
            assert!(u64::from(services.config.posh.port) > trust, "{trust}");
        }
    });
    for port in 2..=RELOADS {
        gate.replace(services(&home, port));
        assert_eq!(gate.trust() + 1, u64::from(port));
    }
    is_over.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    gate.replace(services(&home, RELOADS));
    assert_eq!(gate.trust() + 1, u64::from(RELOADS), "it is as before");
}
