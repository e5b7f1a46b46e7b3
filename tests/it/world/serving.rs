//! A peer's server that takes whatever comes, of whatever domain, over as many connections as the
//! gate makes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{Conn, Host, attribute, soon};

/// A server that serves.
pub(crate) struct Serving {
    arrivals: mpsc::UnboundedReceiver<String>,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// Features behind TLS: SASL EXTERNAL, dialback with errors or without, bidirectional streams.
pub(crate) fn features(errors: bool, bidi: bool) -> String {
    let external = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>EXTERNAL</mechanism></mechanisms>";
    let errors = if errors { "<errors/>" } else { "" };
    let bidi = if bidi { "<bidi xmlns='urn:xmpp:features:bidi'/>" } else { "" };
    format!("{external}<dialback xmlns='urn:xmpp:features:dialback'>{errors}</dialback>{bidi}")
}

impl Host {
    /// Serves all connections from now on: calls every key valid, and takes every message.
    pub(crate) fn serve(self) -> Serving {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let mut task = JoinSet::new();
        let count = Arc::clone(&connections);
        task.spawn(async move {
            let mut served = JoinSet::new();
            let host = Arc::new(self);
            loop {
                let conn = host.accept_any().await;
                count.fetch_add(1, Ordering::Relaxed);
                let (host, sender) = (Arc::clone(&host), sender.clone());
                served.spawn(async move { host.take(conn, sender).await });
            }
        });
        Serving { arrivals, connections, _task: task }
    }

    async fn take(&self, conn: Conn, arrivals: mpsc::UnboundedSender<String>) {
        let mut conn = self.secure(conn).await;
        conn.say(format!("<stream:features>{}</stream:features>", features(true, false))).await;
        conn.until("</auth>").await;
        conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        self.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        let mut text = String::new();
        while let Some(chunk) = conn.chunk().await {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = element_end(&text) {
                let rest = text.split_off(end);
                let element = std::mem::replace(&mut text, rest);
                if element.starts_with("<db:result ") {
                    let (from, to) = (attribute(&element, "from"), attribute(&element, "to"));
                    conn.say(format!("<db:result from='{to}' to='{from}' type='valid'/>")).await;
                } else if arrivals.send(element).is_err() {
                    return;
                }
            }
        }
    }
}

/// Where the first request or message ends.
fn element_end(text: &str) -> Option<usize> {
    ["</db:result>", "</message>"]
        .iter()
        .filter_map(|end| text.find(end).map(|at| at + end.len()))
        .min()
}

impl Serving {
    /// The next message, of whatever connection.
    pub(crate) async fn arrival(&mut self) -> String {
        soon("a message", self.arrivals.recv()).await.unwrap()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
