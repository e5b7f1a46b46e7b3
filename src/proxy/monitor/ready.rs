//! Whether fedgate can do its work. Neighbours are asked at most once in a while, however often
//! somebody wants to know; and a legacy server that has a stream with us is not asked at all.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    config::model::Legacy,
    net::{connector::connect_legacy, resolver::ResolveError},
    ops::{
        metrics::Origin,
        report::{Certificate, Check},
    },
    proxy::gate::Gate,
    xmpp::Side,
};

/// How long an answer of neighbours counts.
const FRESH: Duration = Duration::from_secs(10);
/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Probes {
    last: tokio::sync::Mutex<Option<(Instant, u64, Neighbours)>>,
    legacy: Mutex<Vec<(String, bool)>>,
}

#[derive(Clone, Debug)]
struct Neighbours {
    legacy: Check,
    resolver: Check,
}

impl Probes {
    /// All checks.
    pub(super) async fn ready(
        &self,
        gate: &Arc<Gate>,
        certificates: Vec<Certificate>,
    ) -> Vec<Check> {
        let Neighbours { legacy, resolver } = self.neighbours(gate).await;
        let draining = gate.draining().is_cancelled();
        let listening: Vec<_> = gate.listening().iter().map(ToString::to_string).collect();
        let bad: Vec<_> = certificates.iter().filter(|c| !c.ok).map(|c| &*c.domain).collect();
        vec![
            check(
                "listeners",
                !listening.is_empty(),
                if listening.is_empty() { "none".to_owned() } else { listening.join(", ") },
            ),
            check(
                "certificates",
                bad.is_empty(),
                match bad.len() {
                    0 => format!("good for all {} local domains", certificates.len()),
                    _ => format!("none in date for {}", bad.join(", ")),
                },
            ),
            legacy,
            resolver,
            check(
                "draining",
                !draining,
                if draining { "takes nothing new from peers" } else { "no" }.to_owned(),
            ),
        ]
    }

    /// Which legacy servers accepted a connection the last time.
    pub(super) fn legacy(&self) -> Vec<(String, bool)> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn neighbours(&self, gate: &Arc<Gate>) -> Neighbours {
        let mut last = self.last.lock().await;
        let generation = gate.config_state().generation;
        if let Some((at, of, known)) = &*last
            && at.elapsed() < FRESH
            && *of == generation
        {
            return known.clone();
        }
        let (legacy, resolver) = tokio::join!(self.ask_legacy(gate), ask_resolver(gate));
        let found = Neighbours { legacy, resolver };
        *last = Some((Instant::now(), generation, found.clone()));
        found
    }

    async fn ask_legacy(&self, gate: &Arc<Gate>) -> Check {
        let config = gate.config();
        let connected: BTreeSet<_> = gate
            .live()
            .pairs()
            .iter()
            .filter(|pair| {
                let kind = pair.kind;
                (kind.side, kind.origin) == (Side::Legacy.as_str(), Origin::Opened.as_str())
            })
            .filter_map(|pair| config.local_domains.get(&pair.meter.pair().target))
            .map(|legacy| legacy.name.clone())
            .collect();
        let mut asked = tokio::task::JoinSet::new();
        for server in config.legacy.values().cloned() {
            let is_connected = connected.contains(&server.name);
            asked.spawn(async move { (server.name.clone(), is_up(&server, is_connected).await) });
        }
        let mut found = asked.join_all().await;
        found.sort();
        let down: Vec<_> = found
            .iter()
            .filter_map(|(name, up)| Some(format!("{name}: {}", up.as_ref().err()?)))
            .collect();
        let detail = match down.len() {
            0 => format!("{} reached", found.len()),
            _ => down.join("; "),
        };
        let is_good = down.is_empty();
        let up = found.into_iter().map(|(name, up)| (name, up.is_ok())).collect();
        *self.legacy.lock().unwrap_or_else(PoisonError::into_inner) = up;
        check("legacy", is_good, detail)
    }
}

/// Whether a legacy server accepts connections; why not in words.
async fn is_up(server: &Legacy, is_connected: bool) -> Result<(), String> {
    if is_connected {
        return Ok(());
    }
    let socket = connect_legacy(&server.address, PATIENCE).await;
    socket.map(drop).map_err(|error| format!("connect to {}: {error}", server.address))
}

async fn ask_resolver(gate: &Arc<Gate>) -> Check {
    let services = gate.services();
    let Some(domain) = services.config.local_domains.keys().next() else {
        return check("resolver", true, "no domain to ask for".to_owned());
    };
    match timeout(PATIENCE, services.resolver.answers(domain)).await {
        Ok(Ok(()) | Err(ResolveError::NotFound { .. } | ResolveError::Bogus { .. })) => {
            check("resolver", true, "answers".to_owned())
        }
        Ok(Err(ResolveError::Temporary { query, cause })) => {
            check("resolver", false, format!("{query}: {cause}"))
        }
        Err(_) => check("resolver", false, "no answer in time".to_owned()),
    }
}

fn check(name: &str, ok: bool, detail: String) -> Check {
    Check { name: name.to_owned(), ok, detail }
}
