//! Attacks on a running gate that no other test drives, each with the answer that it has to get.
//! `docs/attacks.md` lists all attacks and the tests for each; a test holds the list to the tests.

mod certificates;
mod dane;
mod dns;
mod identity;
mod list;
mod log;
mod names;
mod published;
mod tls;

use crate::world::{Conn, FEATURES_END, Host, Identity, MECHANISMS, World, header};

impl World {
    /// Whether this certificate proves `domain` where the peer connects.
    async fn proves_client(&self, identity: &Identity, domain: &str) -> bool {
        let mut conn = self.secured(Some(identity)).await;
        conn.say(header(domain, "old.test")).await;
        conn.until(FEATURES_END).await.contains("<mechanism>EXTERNAL</mechanism>")
    }

    /// Whether this certificate proves `domain`, for which nothing was sent yet, where the gate
    /// connects: only then does it authenticate itself.
    async fn proves_server(&mut self, identity: &Identity, domain: &str) -> bool {
        let mut host = self.host(domain).await;
        host.identity = identity.clone();
        let _stream = self.sends(domain).await;
        let proven = offered(&host).await.0;
        self.bounced(domain, "remote-server-timeout").await;
        proven
    }
}

/// The gate connects to this server and is offered SASL EXTERNAL: whether it takes it, or asks for
/// its pair by dialback.
async fn offered(host: &Host) -> (bool, Conn) {
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(MECHANISMS).await;
    let said = conn.until(">").await;
    let external = said.starts_with("<auth ");
    assert!(external || said.starts_with("<db:result "), "{said}");
    (external, conn)
}
