//! Connections that a load balancer hands on: whose they are stands in their PROXY header.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tracing::info;

use super::Acceptor;
use crate::{
    net::proxy_header::{self, Source},
    proxy::accepted::Entry,
};

/// How long the header may take; a balancer sends it at once.
const PATIENCE: Duration = Duration::from_secs(5);

impl Acceptor {
    /// Whether a connection from `address` has to begin with a PROXY header.
    pub(super) fn is_balanced(&self, address: SocketAddr) -> bool {
        let balancers = &self.gate.config().listen.proxy_protocol;
        let public = matches!(self.entry, Entry::Public | Entry::DirectTls);
        let ip = address.ip().to_canonical();
        public && balancers.iter().any(|network| network.contains(&ip))
    }

    /// Reads the header of a connection and admits it for what that says.
    pub(super) fn unwrap(self: &Arc<Self>, mut socket: TcpStream, balancer: SocketAddr) {
        // Who is not served yet waits in no larger number than the kernel lets wait.
        let Ok(place) = Arc::clone(&self.headers).try_acquire_owned() else { return };
        let acceptor = Arc::clone(self);
        let task = async move {
            let read = timeout(PATIENCE, proxy_header::read(&mut socket));
            let outcome = tokio::select! {
                outcome = read => outcome,
                () = acceptor.stop.cancelled() => return,
            };
            drop(place);
            let detail = match outcome {
                Ok(Ok(Source::Client(client))) => return acceptor.admit(socket, client),
                Ok(Ok(Source::Balancer)) => return acceptor.admit(socket, balancer),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no PROXY header in time".to_owned(),
            };
            info!(addr = %balancer.ip(), detail, "connection of a load balancer refused");
        };
        self.gate.tracker().spawn(task);
    }
}
