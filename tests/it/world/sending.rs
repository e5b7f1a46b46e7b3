//! Messages from the legacy server to peers that tests spoil, and what comes back.

use super::{Plan, Stream, World};

/// The legacy server hands its stanzas over at once, and gets them back one by one.
pub(crate) const BOUNCE: Plan = Plan {
    legacy: "    refusals: bounce",
    config: "limits: { connect: 3s, tcp_connect: 1s }",
    ..Plan::DEFAULT
};

/// The message that [`World::sends`] sends.
pub(crate) fn message_to(domain: &str) -> String {
    format!("<message from='bob@old.test' to='m@{domain}' id='7'><body>hello</body></message>")
}

impl World {
    /// The legacy server sends a message to a domain.
    pub(crate) async fn sends(&self, domain: &str) -> Stream {
        let mut stream = self.legacy.open(domain).await;
        stream.say(&message_to(domain)).await;
        stream
    }

    /// The message came back to the legacy server, on a stream that it had accepted, with this
    /// condition and without what was in it.
    pub(crate) async fn bounced(&mut self, domain: &str, condition: &str) {
        let bounce = self.legacy.arrival().await;
        let start =
            format!("<message from='m@{domain}' to='bob@old.test' id='7' type='error'><error ");
        assert!(bounce.starts_with(&start), "{bounce}");
        let condition = format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
        assert!(bounce.contains(&condition), "{condition}: {bounce}");
        assert!(!bounce.contains("hello"), "{bounce}");
    }
}
