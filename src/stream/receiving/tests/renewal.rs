//! Proofs that expire while the stream lives.

use super::*;
use crate::{
    auth::Proof,
    stream::{
        Question, Refusal,
        wire::{Accepting, CONFIG, Tls, config, domain, pair, request, words},
    },
    xmpp::StanzaCondition,
};

const A: &str = "capulet.example";
const B: &str = "rooms.capulet.example";
const L: &str = "montague.example";

/// When the certificate expires on which all proofs rest here.
fn expiry() -> u64 {
    Tls::proof(A).expires().unwrap().as_secs()
}

/// A pair that an authoritative server confirmed whose certificate proved it.
fn by_proven_server(mut end: Accepting, sender: &str) -> Accepting {
    assert_eq!(end.xml(&request(sender, L, None, "key")), format!("prove({})", pair(sender, L)));
    let proof = Proof::dialback(domain(sender), Some(&Tls::proof(sender)));
    let granted = words(&end.answer(Ok(proof)));
    assert!(granted.starts_with("granted("), "{granted}");
    end
}

fn refused() -> Refusal {
    Refusal::error(StanzaCondition::NotAuthorized, "no longer")
}

#[test]
fn a_proof_is_asked_for_again_when_it_has_expired_and_only_once() {
    let mut end = by_proven_server(behind_tls(false), A);
    assert_eq!(end.machine.expires().unwrap().as_secs(), expiry());
    assert_eq!(end.renew(expiry() - 1), "-");
    assert_eq!(end.renew(expiry()), format!("renew({})", pair(A, L)));
    assert_eq!(end.renew(expiry() + 1), "-", "it is under way");
    assert_eq!(end.machine.expires(), None);
    let Question::Renewal { dialback: Some((key, id)), .. } = end.challenges[0].question() else {
        panic!("by the key")
    };
    assert_eq!((key.as_str(), id), ("key", &"id1".to_owned()));
    assert_eq!(end.stanza(A, L), format!("admitted({})", pair(A, L)), "until it is known");
    let proof = Proof::dialback(domain(A), Some(&Tls::proof(A)));
    assert_eq!(words(&end.answer(Ok(proof))), format!("renewed({})", pair(A, L)));
    assert_eq!(end.stanza(A, L), format!("admitted({})", pair(A, L)));
}

#[test]
fn a_pair_whose_proof_is_not_renewed_is_withdrawn_and_the_others_stay() {
    let mut end = by_proven_server(by_proven_server(behind_tls(false), A), B);
    let both = format!("renew({}) renew({})", pair(A, L), pair(B, L));
    let found = end.renew(expiry());
    assert!(found == both || found == format!("renew({}) renew({})", pair(B, L), pair(A, L)));
    let position = end.challenges.iter().position(|challenge| {
        matches!(challenge.question(), Question::Renewal { pair, .. } if pair.sender == domain(B))
    });
    let challenge = end.challenges.remove(position.unwrap()).unwrap();
    let withdrawn = words(&end.answer_to(challenge, Err(refused())));
    assert_eq!(withdrawn, format!("withdrawn({})", pair(B, L)));
    assert_eq!(end.stanza(A, L), format!("admitted({})", pair(A, L)));
    assert_eq!(end.stanza(B, L), "!invalid-from");
}

#[test]
fn what_is_found_out_about_a_withdrawn_pair_does_not_concern_a_later_grant() {
    for denied in [false, true] {
        let mut end = by_proven_server(by_proven_server(behind_tls(false), A), B);
        end.renew(expiry());
        let withdrawn = if denied {
            let rule = "{ match: '*.capulet.example', allow: none }";
            let text = CONFIG.replace("rules:\n", &format!("rules:\n  - {rule}\n"));
            let gone = end.machine.reconfigure(config(&text)).unwrap();
            end.machine.reconfigure(config(CONFIG)).unwrap();
            gone
        } else {
            end.machine.withdraw(|grant| grant.pair().sender != domain(B)).unwrap()
        };
        assert_eq!(withdrawn, [pair(B, L)]);
        let position = end.challenges.iter().position(|challenge| {
            matches!(challenge.question(), Question::Renewal { pair, .. } if pair.sender == domain(B))
        });
        let late = end.challenges.remove(position.unwrap()).unwrap();
        end.challenges.clear();
        let mut end = by_proven_server(end, B);
        assert_eq!(words(&end.answer_to(late, Err(refused()))), "-");
        assert_eq!(end.stanza(B, L), format!("admitted({})", pair(B, L)));
        assert!(end.machine.expires().is_some(), "of the new grant");
    }
}

#[test]
fn a_stream_with_no_proof_left_is_reset() {
    let mut end = by_proven_server(behind_tls(false), A);
    end.renew(expiry());
    let words = words(&end.answer(Err(refused())));
    assert_eq!(words, format!("withdrawn({}) !reset", pair(A, L)));
}

#[test]
fn a_renewed_proof_of_another_domain_renews_nothing() {
    let mut end = by_proven_server(behind_tls(false), A);
    end.renew(expiry());
    let words = words(&end.answer(Ok(Tls::proof(B))));
    assert_eq!(words, format!("withdrawn({}) !reset", pair(A, L)));
}

#[test]
fn what_expires_never_is_never_asked_for_again() {
    let mut end = authorized(behind_tls(false), A, L);
    assert_eq!(end.machine.expires(), None);
    assert_eq!(end.renew(u64::MAX / 2), "-");
}

const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";

#[test]
fn what_rests_on_a_certificate_is_asked_for_again_when_others_are_trusted() {
    let mut end = by_proven_server(authorized(behind_tls(false), A, L), B);
    assert_eq!(end.distrust(), format!("renew({})", pair(B, L)));
    assert_eq!(end.distrust(), "-", "it is under way");
    assert_eq!(words(&end.answer(Err(refused()))), format!("withdrawn({})", pair(B, L)));
    assert_eq!(end.stanza(A, L), format!("admitted({})", pair(A, L)));
}

#[test]
fn an_authentication_that_is_not_complete_does_not_outlive_whom_it_was_trusted_for() {
    let mut end = behind_tls(true);
    assert_eq!(end.distrust(), "-");
    assert!(end.xml(AUTH).contains("failure"), "no proof is left");
    let mut end = behind_tls(true);
    assert_eq!(end.xml(AUTH), "success restart");
    assert_eq!(end.distrust(), "!reset");
}
