//! Streams of peers that can be resumed (XEP-0198 §5): who holds the state of each, and who may ask
//! for it. The state itself stays with the stream's own task, also while it has no connection.
//!
//! An SM-ID is as good as 128 random bits, and bound to what SASL EXTERNAL has proven: the peer's
//! domain, and the domain that it speaks to (attack A-23). No pair is carried over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{stream::TooHigh, xmpp::Domain};

/// Streams without a connection that are kept, in all and of one domain.
const PARKED_MAX: usize = 10_000;
const PARKED_OF_DOMAIN: usize = 64;
/// How long a stream may take to hand over its state: stanzas that it has taken may have to wait for
/// room first.
const TAKEOVER_WAIT: Duration = Duration::from_secs(10);

/// All streams of peers that can be resumed.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    held: DashMap<String, Held>,
    parked: AtomicUsize,
    parked_of: DashMap<Domain, usize>,
}

#[derive(Debug)]
struct Held {
    identity: Identity,
    holder: mpsc::Sender<Takeover>,
}

/// Who may resume a stream: the peer's domain, and the domain that it speaks to.
pub(super) type Identity = (Domain, Domain);

/// Another stream of the same peer takes the place of this one.
#[derive(Debug)]
pub(super) struct Takeover {
    /// How many stanzas the peer has handled of this one.
    pub(super) h: u32,
    /// Where it waits for how many came.
    pub(super) reply: oneshot::Sender<Result<u32, TooHigh>>,
}

/// A stream can be resumed while this lives.
#[derive(Debug)]
pub(super) struct Session {
    sessions: Arc<Sessions>,
    id: String,
    identity: Identity,
    takeovers: mpsc::Receiver<Takeover>,
}

/// A place for a stream without a connection.
#[derive(Debug)]
pub(super) struct Parking {
    sessions: Arc<Sessions>,
    domain: Domain,
}

impl Sessions {
    /// A stream can be resumed by that identity, under this new SM-ID.
    pub(super) fn open(self: &Arc<Self>, id: String, identity: Identity) -> Session {
        let (holder, takeovers) = mpsc::channel(1);
        self.held.insert(id.clone(), Held { identity: identity.clone(), holder });
        Session { sessions: Arc::clone(self), id, identity, takeovers }
    }

    /// Takes the state of a stream over, of which the peer has handled `h` stanzas: how many came on
    /// it. `None` if there is none of that SM-ID and identity, or it does not answer in time; then
    /// nothing can be resumed under that SM-ID any more.
    pub(super) async fn take_over(
        &self,
        id: &str,
        identity: &Identity,
        h: u32,
    ) -> Option<Result<u32, TooHigh>> {
        let (_, held) = self.held.remove_if(id, |_, held| held.identity == *identity)?;
        let (reply, received) = oneshot::channel();
        held.holder.try_send(Takeover { h, reply }).ok()?;
        timeout(TAKEOVER_WAIT, received).await.ok()?.ok()
    }
}

impl Session {
    /// The SM-ID.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Waits until another stream takes the place of this one. Cancel-safe.
    pub(super) async fn taken_over(&mut self) -> Takeover {
        match self.takeovers.recv().await {
            Some(takeover) => takeover,
            None => std::future::pending().await,
        }
    }

    /// A place for the stream while it has no connection, if there is one.
    pub(super) fn park(&self) -> Option<Parking> {
        let sessions = &self.sessions;
        let domain = &self.identity.0;
        let within = |most| move |n: usize| (n < most).then_some(n + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        sessions.parked.fetch_update(set, get, within(PARKED_MAX)).ok()?;
        let of_domain =
            *sessions.parked_of.entry(domain.clone()).and_modify(|n| *n += 1).or_insert(1);
        let parking = Parking { sessions: Arc::clone(sessions), domain: domain.clone() };
        (of_domain <= PARKED_OF_DOMAIN).then_some(parking)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever took it over may hold the same SM-ID by now.
        let is_ours = |held: &Held| held.holder.is_closed();
        self.takeovers.close();
        self.sessions.held.remove_if(&self.id, |_, held| is_ours(held));
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.sessions.parked.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut entry) = self.sessions.parked_of.entry(self.domain.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(peer: &str) -> Identity {
        (Domain::parse(peer).unwrap(), Domain::parse("old.test").unwrap())
    }

    #[tokio::test]
    async fn only_the_same_identity_takes_a_stream_over_and_once() {
        //
        let sessions = Arc::<Sessions>::default();
        let mut session = sessions.open("id".into(), identity("good.test"));
        assert!(sessions.take_over("id", &identity("evil.test"), 0).await.is_none());
        let to_other = (Domain::parse("good.test").unwrap(), Domain::parse("rooms.test").unwrap());
        assert!(sessions.take_over("id", &to_other, 0).await.is_none());
        assert!(sessions.take_over("other", &identity("good.test"), 0).await.is_none());
        let good = identity("good.test");
        let taking = sessions.take_over("id", &good, 5);
        let giving = async {
            let Takeover { h, reply } = session.taken_over().await;
            assert_eq!(h, 5);
            reply.send(Ok(7)).unwrap();
        };
        let (taken, ()) = tokio::join!(taking, giving);
        assert_eq!(taken, Some(Ok(7)));
        assert!(sessions.take_over("id", &identity("good.test"), 5).await.is_none());
        // the next stream goes by the same SM-ID, and the end of the former does not take it away
        let _next = sessions.open("id".into(), identity("good.test"));
        drop(session);
        assert_eq!(sessions.held.len(), 1);
        drop(_next);
        assert_eq!(sessions.held.len(), 0);
    }

    #[test]
    fn places_for_streams_without_a_connection_are_bounded_for_each_domain() {
        let sessions = Arc::<Sessions>::default();
        let session = sessions.open("a".into(), identity("a.test"));
        let mut parked: Vec<_> = (0..PARKED_OF_DOMAIN).map(|_| session.park().unwrap()).collect();
        assert!(session.park().is_none());
        let other = sessions.open("b".into(), identity("b.test"));
        let elsewhere = other.park().unwrap();
        parked.pop();
        parked.push(session.park().unwrap());
        drop((parked, elsewhere));
        assert_eq!(sessions.parked.load(Ordering::Relaxed), 0);
        assert!(sessions.parked_of.is_empty());
    }
}
