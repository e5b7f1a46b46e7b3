//! What an accepted stream answers to requests and to questions about keys: nothing is called valid
//! that is not.

use std::sync::Arc;

use fedgate::{
    xml::{Element, ElementName, writer},
    xmpp::{Domain, DomainPair, Side},
};

use super::{Ear, End, Input, Piece, keys, pair};

impl End {
    /// The other end asks about a key that we made.
    pub(super) fn key(&mut self, argument: usize) {
        let asked = pair(argument);
        let DomainPair { sender, target } = &asked;
        let config = Arc::clone(&self.config);
        let local = |domain| config.local_domains.get(domain);
        let secret = match (self.side, local(sender)) {
            (Side::Legacy, Some(legacy)) => keys().local(&legacy.name),
            _ => keys().public().clone(),
        };
        let mut text = Vec::new();
        let key = secret.key(sender, target, "some-id");
        writer::dialback_verify(&mut text, sender.as_str(), target.as_str(), "some-id", &key);
        // as if it had come: on a stream whose header declares the prefix
        let header = writer::StreamHeader::default();
        let mut input = Input::new(&self.config);
        let mut stream = Vec::new();
        header.write(&mut stream);
        input.push(&stream);
        input.push(&text);
        let (Ok(Some((Piece::Header(_), _))), Ok(Some((Piece::Element(name, element), _)))) =
            (input.next(), input.next())
        else {
            panic!("{}", String::from_utf8_lossy(&text))
        };
        let mut out = Vec::new();
        let outcome = self.machine.element(name, &element, &mut out);
        let said = self.act(out);
        if outcome.is_err() {
            self.closed = true;
            return;
        }
        let ours = local(sender).is_some() != (self.side == Side::Peer)
            && local(target).is_some() == (self.side == Side::Peer);
        let heard = self.said(&said);
        let valid = heard.iter().any(|(_, element)| element.attr("type") == Some("valid"));
        assert!(!valid || ours, "a key for {asked}");
        if ours && (self.tls || self.side == Side::Legacy) {
            assert!(valid, "no key for {asked}");
        }
    }

    pub(super) fn said(&self, said: &[Vec<u8>]) -> Vec<(ElementName, Element)> {
        let mut ear = Ear::new();
        let mut header = Vec::new();
        writer::StreamHeader::default().write(&mut header);
        ear.hear(&header);
        said.iter().filter(|text| !text.starts_with(b"<?xml")).flat_map(|t| ear.hear(t)).collect()
    }

    /// No key is called valid that is not, and no request is granted without a proof.
    pub(super) fn answers(&self, piece: &Piece, said: &[Vec<u8>]) {
        let Piece::Element(name, asked) = piece else { return };
        for (answer, element) in self.said(said) {
            if element.attr("type") != Some("valid") {
                continue;
            }
            let of = |name| Domain::parse(asked.attr(name).unwrap()).unwrap();
            let (sender, target) = (of("from"), of("to"));
            assert_eq!(answer, *name);
            match answer {
                ElementName::DbResult => {
                    assert!(self.authorized.contains(&DomainPair::new(sender, target)));
                }
                ElementName::DbVerify => {
                    let secret = match (self.side, self.config.local_domains.get(&sender)) {
                        (Side::Legacy, Some(legacy)) => keys().local(&legacy.name),
                        _ => keys().public().clone(),
                    };
                    let id = asked.attr("id").unwrap();
                    assert!(secret.check(&sender, &target, id, asked.text()));
                }
                other => panic!("{other:?} is valid"),
            }
        }
    }
}
