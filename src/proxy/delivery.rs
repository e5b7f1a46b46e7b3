//! From a stream to a route, and back to the sender where no route takes a stanza.

use std::sync::Arc;

use tracing::debug;

use super::{
    gate::Gate,
    lanes::Ended,
    pieces,
    reached::Limit,
    route::{NotTaken, Route},
};
use crate::{
    auth::ledger::Routable,
    features::Class,
    stream::{Failure, FailureKind},
    xml::{ElementName, Tag, bounce},
    xmpp::{Side, StanzaCondition},
};

impl Gate {
    /// Sends stanzas over `route`, waiting a moment for room; what cannot be delivered goes back
    /// to its sender.
    pub(super) async fn deliver(
        self: &Arc<Self>,
        route: Result<Arc<Route>, Arc<Failure>>,
        side: Side,
        mut stanzas: Routable,
        lang: Option<&Arc<str>>,
    ) {
        let mut route = route;
        loop {
            let sent = match route {
                Ok(route) => route.send(stanzas).await,
                Err(failure) => return self.bounce(side, &stanzas, &failure),
            };
            match sent {
                Ok(()) => return,
                Err(NotTaken::Full(back, limit)) => {
                    self.limit_reached(limit, back.pair());
                    let failure = Failure::new(FailureKind::Resource, full(limit));
                    return self.bounce(side, &back, &failure);
                }
                // The route ended meanwhile; the next one takes them or gives the reason.
                Err(NotTaken::Ended(back)) => stanzas = back,
            }
            tokio::task::yield_now().await;
            route = self.routes().get(self, side, stanzas.pair(), lang);
        }
    }

    /// Stanzas are larger than may go to `side`: their senders get an error (XEP-0478 §4).
    pub(super) fn too_large(self: &Arc<Self>, side: Side, stanzas: &[Routable]) {
        for stanzas in stanzas {
            self.limit_reached(Limit::Stanza, stanzas.pair());
            let failure = Failure::new(FailureKind::TooLarge, "larger than the other end takes");
            self.bounce(side, stanzas, &failure);
        }
    }

    /// Stanzas did not get to `side`: their senders get an error, on the way back.
    pub(super) fn bounce(self: &Arc<Self>, side: Side, stanzas: &Routable, failure: &Failure) {
        let of_others = match side {
            Side::Peer => self.pings().catch_undelivered(stanzas.clone(), failure),
            Side::Legacy => Some(stanzas.clone()),
        };
        let Some(stanzas) = &of_others else { return };
        if stanzas.is_own() {
            // An error is not answered, and nobody but us has sent a ping.
            self.errors_lost(stanzas.pair(), stanzas.stanzas());
            return;
        }
        let (replies, silent) = pieces::bounces(stanzas, failure);
        let answered = stanzas.stanzas() - silent;
        self.metrics().bounced(side, failure.condition(), failure.reason(), answered, silent);
        debug!(
            pair = %stanzas.pair(),
            stanzas = stanzas.stanzas(),
            condition = failure.condition().as_str(),
            reason = failure.reason(),
            "stanzas bounced"
        );
        if let Some(replies) = replies {
            self.give_back(side, replies);
        }
    }

    /// A stanza may not go to `side`, for what is wrong with itself: its sender gets an error, if there
    /// is an answer to it that is not too large, too.
    pub(super) fn bounce_one(
        self: &Arc<Self>,
        side: Side,
        stanza: &Routable,
        tag: &Tag,
        failure: &Failure,
    ) {
        if failure.kind() == FailureKind::TooLarge {
            self.limit_reached(Limit::Stanza, format_args!("{}, {failure}", stanza.pair()));
        }
        let (condition, text) = (failure.condition(), Some(failure.text()));
        let most = self.config().limits.stanza;
        let reply = bounce::error_reply(stanza.bytes(), tag, condition, text);
        let reply = reply.filter(|reply| reply.len() <= most);
        let answered = u32::from(reply.is_some());
        self.metrics().bounced(side, condition, failure.reason(), answered, 1 - answered);
        debug!(
            pair = %stanza.pair(),
            bytes = stanza.bytes().len(),
            condition = condition.as_str(),
            why = failure.detail(),
            answered = reply.is_some(),
            "stanza bounced for what is wrong with it"
        );
        if let Some(reply) = reply {
            self.give_back(side, stanza.reply(reply.into(), 1));
        }
    }

    /// A stream to `side` has ended: what it delivered counts, and senders learn of what nobody knows
    /// whether it arrived.
    pub(super) fn settle(self: &Arc<Self>, side: Side, ended: Ended) {
        self.metrics().delivered(side, ended.delivered);
        self.uncertain(side, &ended.uncertain);
    }

    /// Stanzas were sent to `side`, and nobody knows whether they arrived: sent again they might
    /// arrive twice.
    pub(super) fn uncertain(self: &Arc<Self>, side: Side, stanzas: &[Routable]) {
        for stanzas in stanzas {
            let detail = "not acknowledged when the stream ended";
            let failure = Failure::new(FailureKind::Stream, detail);
            self.bounce(side, stanzas, &failure);
        }
    }

    /// A stanza may not go to `side` for what it carries: its sender gets an error, on the way back.
    pub(super) fn refuse(self: &Arc<Self>, side: Side, stanza: &Routable, tag: &Tag, class: Class) {
        self.metrics().refused(side, class);
        // clients take it that the other end does not know such requests, and do without
        let condition = match tag.name {
            ElementName::Iq => StanzaCondition::ServiceUnavailable,
            _ => StanzaCondition::PolicyViolation,
        };
        if let Some(reply) = bounce::refusal(stanza.bytes(), tag, condition, class.refusal()) {
            self.give_back(side, stanza.reply(reply.into(), 1));
        }
    }

    /// Sends errors to those whose stanzas did not get to `side`.
    fn give_back(self: &Arc<Self>, side: Side, replies: Routable) {
        let mut replies = replies;
        // A route that ends just now has a successor, which begins with them.
        for _ in 0..2 {
            match self.routes().get(self, side.other(), replies.pair(), None) {
                Ok(route) => match route.try_return(replies) {
                    Ok(()) => return,
                    Err(NotTaken::Ended(back)) => {
                        replies = back;
                        self.routes().succeed(&route);
                    }
                    Err(NotTaken::Full(back, _)) => {
                        replies = back;
                        break;
                    }
                },
                Err(_) => break,
            }
        }
        self.errors_lost(replies.pair(), replies.stanzas());
    }
}

fn full(limit: Limit) -> &'static str {
    if limit == Limit::QueueTotal {
        "the queues for all pairs together are full"
    } else {
        "the queue for this pair is full"
    }
}
