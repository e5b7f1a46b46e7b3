//! Streams on several threads with a runtime each.

use fedgate::proxy::Workers;
use tokio::runtime::{Builder, Runtime};

use crate::world::{Plan, World, soon};

/// Runtimes with a thread each, which end with the test.
struct Threads(Vec<Runtime>);

impl Threads {
    fn start(count: usize) -> Self {
        let start = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self((0..count).map(|_| start().unwrap()).collect())
    }

    fn workers(&self) -> Workers {
        Workers::new(self.0.iter().map(|runtime| runtime.handle().clone()).collect())
    }

    fn tasks(&self) -> Vec<usize> {
        self.0.iter().map(|runtime| runtime.metrics().num_alive_tasks()).collect()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Runtime::shutdown_background);
    }
}

#[tokio::test]
async fn each_has_its_share_of_the_streams_and_stanzas_cross_between_them() {
    let threads = Threads::start(3);
    let mut world = World::on(threads.workers(), Plan::DEFAULT).await;
    // a route that no stream has asked for
    let pinging = {
        let monitor = world.app.monitor().clone();
        let (local, remote) = ("old.test".parse().unwrap(), "good.test".parse().unwrap());
        tokio::spawn(async move { monitor.ping(&local, &remote).await.unwrap() })
    };
    assert!(world.good.arrival().await.contains("urn:xmpp:ping"));
    let mut peers = Vec::new();
    for n in 0..12 {
        let domain = format!("p{n}.test");
        let mut conn = world.authenticated(&domain).await;
        let stanza = format!("<message from='m@{domain}' to='bob@old.test'/>");
        conn.say(&stanza).await;
        assert_eq!(world.legacy.arrival().await, stanza);
        peers.push(conn);
    }
    let tasks = threads.tasks();
    assert!(tasks.iter().all(|tasks| *tasks >= peers.len() / threads.0.len()), "{tasks:?}");
    // one stream to the peer, asked for on other threads
    for _ in 0..6 {
        world.is_alive().await;
    }
    pinging.abort();
    drop(peers);
    let World { app, .. } = world;
    soon("the end", app.shutdown()).await;
}
