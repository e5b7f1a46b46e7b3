//! A stanza of our own: a ping (XEP-0199) in the name of a local domain, by which an operator finds
//! out whether the way to a peer and back is good.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    xml::writer,
    xmpp::{Domain, DomainPair},
};

/// What stands before the random part of an id.
const ID: &str = "fedgate-ping-";

/// A ping, with an id that only those know who get to see it.
#[derive(Debug)]
pub(crate) struct Ping {
    pair: DomainPair,
    id: String,
}

impl Ping {
    /// A ping from a domain of `locals` to one that is not. `None` for any other pair: what is not
    /// local never has us speak in its name.
    pub(crate) fn new<T>(
        pair: DomainPair,
        locals: &BTreeMap<Domain, T>,
        random: [u8; 16],
    ) -> Option<Self> {
        if !locals.contains_key(&pair.sender) || locals.contains_key(&pair.target) {
            return None;
        }
        let id = format!("{ID}{:032x}", u128::from_be_bytes(random));
        Some(Self { pair, id })
    }

    /// From whom to whom.
    pub(crate) fn pair(&self) -> &DomainPair {
        &self.pair
    }

    /// The id that the answer has to have.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The stanza; nothing in it comes from outside.
    pub(super) fn bytes(&self) -> Bytes {
        let DomainPair { sender, target } = &self.pair;
        let mut out = Vec::new();
        writer::ping(&mut out, &sender.to_unicode(), &target.to_unicode(), &self.id);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ledger::Routable;

    #[test]
    fn only_a_local_domain_pings_and_only_others() {
        let [local, rooms, peer, other] =
            ["l.example", "rooms.l.example", "a.example", "b.example"]
                .map(|name| Domain::parse(name).unwrap());
        let locals = BTreeMap::from([(local.clone(), ()), (rooms.clone(), ())]);
        let ping = |sender: &Domain, target: &Domain| {
            Ping::new(DomainPair::new(sender.clone(), target.clone()), &locals, [0xab; 16])
        };
        for (sender, target) in
            [(&peer, &local), (&peer, &other), (&local, &rooms), (&local, &local)]
        {
            assert!(ping(sender, target).is_none(), "{sender} {target}");
        }
        let ping = ping(&rooms, &peer).unwrap();
        let stanza = Routable::ping(&ping);
        assert_eq!((stanza.pair(), stanza.stanzas()), (ping.pair(), 1));
        assert_eq!(
            std::str::from_utf8(stanza.bytes()).unwrap(),
            "<iq from='rooms.l.example' to='a.example' \
             id='fedgate-ping-abababababababababababababababab' type='get'>\
             <ping xmlns='urn:xmpp:ping'/></iq>"
        );
    }
}
