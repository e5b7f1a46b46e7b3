//! What is attempted against the accepting end. The numbers are those of the project's list of
//! attacks.

use super::*;
use crate::{
    auth::Proof,
    stream::wire::{
        Accepting, CONFIG, Event, Piece, Tls, config, domain, header_text, ids, keys, pair, piece,
        request, words,
    },
};

const A: &str = "capulet.example";
const B: &str = "rooms.capulet.example";
const L: &str = "montague.example";
const ROOMS: &str = "rooms.montague.example";

const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn key_request(sender: &str, target: &str) -> String {
    request(sender, target, None, "key")
}

/// EXTERNAL fails, and the operator hears of it.
fn unauthenticated(condition: &str) -> String {
    format!("refused({A}→{L}) sasl:failure({condition})")
}

fn by_external() -> Accepting {
    let mut end = behind_tls(true);
    assert_eq!(end.xml(AUTH), "success restart");
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    end
}

// A-1
#[test]
fn a_proven_domain_cannot_send_for_another() {
    for mut end in [by_external(), authorized(behind_tls(false), A, L)] {
        assert_eq!(end.stanza("u@capulet.example/r", "v@montague.example"), admitted(A, L));
        for from in [
            B,
            "u@rooms.capulet.example",
            "example.org",
            "u@evil.example/capulet.example",
            "capulet.example@evil.example",
            "montague.example",
            "xcapulet.example",
            "capulet.example.evil.example",
        ] {
            assert_eq!(end.stanza(from, "v@montague.example"), "!invalid-from", "{from}");
        }
        assert_eq!(end.stanza(A, L), admitted(A, L));
    }
}

// A-2, RFC 6120 §8.1.1.2
#[test]
fn a_proven_domain_cannot_send_to_others_than_the_pairs_target() {
    let mut end = authorized(behind_tls(false), A, L);
    assert_eq!(end.stanza(A, ROOMS), "!invalid-from", "served here, but not this pair");
    assert_eq!(end.stanza(A, "verona.example"), "!invalid-from");
    assert_eq!(end.stanza(A, "example.org"), "!host-unknown");
    assert_eq!(end.stanza(A, A), "!host-unknown");
    let mut end = authorized(local(), L, A);
    assert_eq!(end.stanza(L, "example.org"), "!invalid-from");
    assert_eq!(end.stanza(L, ROOMS), "!host-unknown", "a stanza for a neighbour goes past us");
}

// A-3
#[test]
fn a_stanza_before_authentication_is_not_authorized() {
    for mut end in [behind_tls(true), behind_tls(false)] {
        assert_eq!(end.stanza(A, L), "!not-authorized");
        end.xml(&key_request(A, L));
        assert_eq!(end.stanza(A, L), "!not-authorized", "pending");
        end.confirm();
        assert_eq!(end.stanza(A, L), admitted(A, L));
        end.xml(&key_request(B, L));
        end.xml(&key_request(A, ROOMS));
        assert_eq!(end.stanza(B, L), "!not-authorized", "pending beside another pair");
        assert_eq!(end.stanza(A, ROOMS), "!not-authorized");
    }
    let mut end = behind_tls(true);
    end.xml(AUTH);
    assert_eq!(end.stanza(A, L), "!not-authorized", "between <success/> and the header");
}

// A-4, A-5, A-6; XEP-0220 §3.1
#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    for (side, sender, target) in [(Side::Peer, A, L), (Side::Legacy, L, A)] {
        for pending in [false, true] {
            let mut end = if side == Side::Peer { behind_tls(false) } else { local() };
            if pending {
                end.xml(&key_request(sender, target));
            }
            let id = match end.challenges.front().map(Challenge::question) {
                Some(Question::Pair { id, .. }) => id.clone(),
                _ => "id1".into(),
            };
            for (from, to) in [(sender, target), (target, sender)] {
                for kind in ["valid", "invalid", "error"] {
                    for xml in [
                        format!("<db:result from='{from}' to='{to}' type='{kind}'/>"),
                        format!("<db:verify from='{from}' to='{to}' id='{id}' type='{kind}'/>"),
                    ] {
                        assert_eq!(end.xml(&xml), "-", "{xml}");
                    }
                }
            }
            assert!(!end.machine.is_authorized());
            assert_eq!(end.machine.is_waiting(), pending);
            assert_eq!(end.stanza(sender, target), "!not-authorized");
        }
    }
}

#[test]
fn so_many_of_them_end_the_stream() {
    let mut end = authorized(behind_tls(false), A, L);
    let answer = piece("<db:result from='montague.example' to='capulet.example' type='valid'/>");
    for _ in 0..IGNORED_MAX {
        assert_eq!(words(&end.take(&answer)), "-");
    }
    assert_eq!(words(&end.take(&answer)), "!policy-violation");
}

// A-7
#[test]
fn nobody_speaks_for_a_domain_of_ours_and_no_one_is_dialled_for_it() {
    let mut end = behind_tls(true);
    let forbidden = "db:result=error(forbidden)";
    for (sender, target, answer) in [
        (L, L, forbidden),
        (ROOMS, L, forbidden),
        ("verona.example", L, forbidden),
        ("MONTAGUE.example.", L, forbidden),
        (A, A, "db:result=error(item-not-found)"),
        (A, "example.org", "db:result=error(item-not-found)"),
        (L, A, "db:result=error(item-not-found)"),
    ] {
        let refused = format!("refused({}) {answer}", pair(sender, target));
        assert_eq!(end.xml(&key_request(sender, target)), refused);
    }
    let mut end = local();
    for (sender, target, answer) in [
        (A, A, "db:result=error(not-authorized)"),
        (A, "example.org", "db:result=error(not-authorized)"),
        (L, L, "db:result=error(item-not-found)"),
        (L, "verona.example", "db:result=error(item-not-found)"),
        (A, L, "db:result=error(item-not-found)"),
    ] {
        let refused = format!("refused({}) {answer}", pair(sender, target));
        assert_eq!(end.xml(&key_request(sender, target)), refused);
    }
    assert!(end.challenges.is_empty());
}

#[test]
fn asking_for_the_impossible_again_and_again_ends_the_stream() {
    let mut end = behind_tls(false);
    let forbidden = piece(&key_request("evil.example", L));
    for _ in 0..IGNORED_MAX {
        assert_eq!(words(&end.take(&forbidden)), refused("evil.example", L, "forbidden"));
    }
    let last = format!("{} !policy-violation", refused("evil.example", L, "forbidden"));
    assert_eq!(words(&end.take(&forbidden)), last);
}

#[test]
fn pairs_that_cannot_be_had_do_not_end_the_stream_of_others() {
    let (mut peer, mut old) = (authorized(behind_tls(false), A, L), authorized(local(), L, A));
    for _ in 0..=IGNORED_MAX {
        for (sender, target, condition) in
            [(A, "gone.example", "item-not-found"), ("evil.example", L, "forbidden")]
        {
            let words = peer.xml(&key_request(sender, target));
            assert_eq!(words, refused(sender, target, condition));
        }
        assert_eq!(old.xml(&key_request(L, L)), refused(L, L, "item-not-found"));
    }
    assert_eq!(peer.stanza(A, L), admitted(A, L));
    assert_eq!(old.stanza(L, A), admitted(L, A));
}

// A-8
#[test]
fn a_verdict_that_comes_after_a_restart_is_dropped() {
    for restarted in [false, true] {
        let mut end = behind_tls(true);
        end.xml(&key_request(B, L));
        end.xml(AUTH);
        if restarted {
            end.header("from='capulet.example' to='montague.example' version='1.0'");
        }
        assert_eq!(end.confirm(), "-");
        assert_eq!(end.machine.is_authorized(), restarted, "by EXTERNAL alone");
        if restarted {
            assert_eq!(end.stanza(B, L), "!invalid-from");
        }
    }
}

#[test]
fn a_request_after_a_restart_is_answered_though_an_old_one_was_pending() {
    let mut end = behind_tls(true);
    end.xml(&key_request(B, L));
    let old = end.challenges.pop_front().unwrap();
    end.xml(AUTH);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(end.xml(&key_request(B, L)), prove(B, L));
    let proof = Proof::dialback(domain(B), None);
    assert_eq!(words(&end.answer_to(old, Ok(proof))), "-");
    assert_eq!(end.confirm(), granted(B, L));
}

#[test]
fn pairs_of_before_a_restart_are_gone() {
    let mut end = authorized(authorized(behind_tls(true), B, L), A, L);
    let over = format!("success restart over({}) over({})", pair(A, L), pair(B, L));
    assert_eq!(end.xml(AUTH), over);
    assert!(!end.machine.is_authorized());
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(end.stanza(A, L), admitted(A, L));
    assert_eq!(end.stanza(B, L), "!invalid-from");
}

// A-22
#[test]
fn a_verdict_on_one_stream_is_worth_nothing_on_another() {
    let mut one = behind_tls(false);
    let mut other = behind_tls(false);
    one.xml(&key_request(A, L));
    other.xml(&key_request(A, L));
    let stolen = one.challenges.pop_front().unwrap();
    let events = other.answer_to(stolen, Ok(Proof::dialback(domain(A), None)));
    assert_eq!(words(&events), "-");
    assert_eq!(other.stanza(A, L), "!not-authorized");
    assert_eq!(other.confirm(), granted(A, L), "its own challenge still counts");

    let judging = || {
        let mut end = Accepting::new(Side::Peer);
        end.tls(&Tls::get().with_certificate);
        end.header("from='capulet.example' to='montague.example' version='1.0'");
        end
    };
    let (mut one, mut other) = (judging(), judging());
    let stolen = one.challenges.pop_front().unwrap();
    assert_eq!(words(&other.answer_to(stolen, Ok(Tls::proof(A)))), "-");
}

#[test]
fn a_proof_of_another_domain_authorizes_nothing() {
    let mut end = behind_tls(false);
    end.xml(&key_request(A, L));
    let events = end.answer(Ok(Proof::dialback(domain(B), None)));
    assert_eq!(words(&events), refused(A, L, "internal-server-error"));
    assert!(!end.machine.is_authorized());

    let mut end = Accepting::new(Side::Peer);
    end.tls(&Tls::get().with_certificate);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(words(&end.answer(Ok(Tls::proof(B)))), "features(dialback bidi sm limits)");
    assert_eq!(end.xml(AUTH), unauthenticated("not-authorized"));
}

// A-9, A-10; KEY-4
#[test]
fn a_key_of_one_side_is_not_vouched_for_on_the_other() {
    let keys = keys();
    // what we say to the legacy server when we speak for a peer, and to a peer for the legacy server
    let inside = keys.local("old").key(&domain(L), &domain(A), "id");
    let outside = keys.public().key(&domain(A), &domain(L), "id");
    let mut public = behind_tls(false);
    let mut loopback = local();
    let not_ours = "db:verify=error(item-not-found)";
    assert_eq!(public.xml(&request(L, A, Some("id"), &inside)), not_ours);
    assert_eq!(public.xml(&request(A, L, Some("id"), &inside)), "db:verify=invalid");
    assert_eq!(public.xml(&request(A, L, Some("id"), &outside)), "db:verify=valid");
    assert_eq!(loopback.xml(&request(A, L, Some("id"), &outside)), not_ours);
    assert_eq!(loopback.xml(&request(L, A, Some("id"), &outside)), "db:verify=invalid");
    assert_eq!(loopback.xml(&request(L, A, Some("id"), &inside)), "db:verify=valid");
    let other = keys.local("other").key(&domain(L), &domain(A), "id");
    assert_eq!(loopback.xml(&request(L, A, Some("id"), &other)), "db:verify=invalid");
    // a key of ours that comes back as a request is proven by its domain's server, not by us
    assert_eq!(public.xml(&request(A, L, None, &outside)), prove(A, L));
}

// A-13, A-14
#[test]
fn every_header_of_ours_has_an_id_of_its_own() {
    let mut ids = std::collections::BTreeSet::new();
    let mut end = Accepting::new(Side::Peer);
    let mut add = |end: &mut Accepting, header: &str| {
        let text = crate::stream::wire::header(&header_text(header));
        for event in end.take(&Piece::Header(text)) {
            if let Event::Said(Piece::Header(header)) = event {
                assert!(ids.insert(header.id.clone().unwrap()));
            }
        }
    };
    let header = "id='chosen' from='capulet.example' to='montague.example' version='1.0'";
    add(&mut end, header);
    end.xml(STARTTLS);
    end.tls(&Tls::get().with_certificate);
    add(&mut end, header);
    end.confirm();
    end.xml(AUTH);
    add(&mut end, header);
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains("chosen"), "an initiator cannot choose it (RFC 6120 §4.7.3)");
}

// A-15, A-95
#[test]
fn dialback_is_for_domains_only() {
    for (from, to) in [
        ("", L),
        (A, ""),
        ("u@capulet.example", L),
        ("capulet.example/r", L),
        ("capulet.example montague.example", L),
        ("capulet", L),
        ("192.0.2.1", L),
        (A, "montague.example x"),
        ("straße.example", L),
        ("xn--example-.com", L),
    ] {
        for id in [None, Some("id")] {
            let outcome = behind_tls(false).xml(&request(from, to, id, "key"));
            assert_eq!(outcome, "!improper-addressing", "{from:?} {to:?}");
        }
    }
    for xml in [
        "<db:result to='montague.example'>key</db:result>",
        "<db:verify from='capulet.example' id='x'>key</db:verify>",
    ] {
        assert_eq!(behind_tls(false).xml(xml), "!improper-addressing", "{xml}");
    }
    let long = "x".repeat(1025);
    for (id, key) in [(None, ""), (None, " \n"), (None, &long), (Some("x"), ""), (Some(""), "k")] {
        assert_eq!(behind_tls(false).xml(&request(A, L, id, key)), "!bad-format");
    }
    assert_eq!(behind_tls(false).xml(&request(A, L, Some(&long), "key")), "!bad-format");
    let unknown = "<db:result from='capulet.example' to='montague.example' type='maybe'/>";
    assert_eq!(behind_tls(false).xml(unknown), "!bad-format");
}

#[test]
fn white_space_around_a_key_is_not_the_key() {
    let mut end = behind_tls(false);
    end.xml(&request(A, L, None, "\n   abc\n "));
    let Question::Pair { key, .. } = end.challenges[0].question() else { panic!() };
    assert_eq!(key, "abc");
}

// A-16
#[test]
fn external_is_for_the_domain_of_the_header_though_the_certificate_has_others() {
    let mut end = behind_tls(true);
    assert!(Tls::judge(&Tls::get().with_certificate, &domain(B)).is_ok(), "it has");
    let auth = |authzid: &str| {
        let authzid = STANDARD.encode(authzid);
        AUTH.replace(">=<", &format!(">{authzid}<"))
    };
    assert_eq!(end.xml(&auth(B)), unauthenticated("invalid-authzid"));
    assert!(!end.machine.is_authorized());
    assert_eq!(end.xml(&auth(A)), "success restart");
}

// RFC 6120 §6.4.5
#[test]
fn sasl_may_be_tried_again_but_not_for_ever() {
    let mut end = behind_tls(false);
    for _ in 0..SASL_FAILURES_MAX {
        assert_eq!(end.xml(AUTH), unauthenticated("not-authorized"));
    }
    assert_eq!(end.xml(&key_request(A, L)), prove(A, L), "dialback is left");
    assert_eq!(end.xml(AUTH), format!("refused({A}→{L}) !policy-violation"));
    // who is authorized by dialback is not refused
    let mut end = authorized(behind_tls(false), A, L);
    assert_eq!(end.xml(AUTH), "sasl:failure(not-authorized)");
    assert_eq!(end.stanza(A, L), admitted(A, L));
}

// A-17
#[test]
fn from_cannot_change_after_sasl() {
    for (attributes, outcome) in [
        ("from='rooms.capulet.example' to='montague.example'", "header !invalid-from"),
        ("to='montague.example'", "header !invalid-from"),
        ("from='montague.example' to='montague.example'", "header !not-authorized"),
        ("from='capulet.example' to='example.org'", "header !host-unknown"),
        ("from='capulet.example'", "header !host-unknown"),
        (
            "from='CAPULET.example' to='rooms.montague.example'",
            "header features(dialback sm limits) \
             granted(capulet.example→rooms.montague.example external)",
        ),
    ] {
        let mut end = behind_tls(true);
        end.xml(AUTH);
        assert_eq!(end.header(&format!("{attributes} version='1.0'")), outcome, "{attributes}");
    }
}

// A-18, A-19
#[test]
fn names_of_before_tls_are_forgotten() {
    let mut end = Accepting::new(Side::Peer);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(end.machine.claimed(), Some(&domain(A)));
    assert_eq!(end.xml(STARTTLS), "proceed handshake(montague.example)");
    end.tls(&Tls::get().with_certificate);
    assert_eq!(end.machine.claimed(), None);
    let judged = end.header("from='example.org' to='rooms.montague.example' version='1.0'");
    assert_eq!(judged, "header judge(example.org)", "the certificate has both");
    end.confirm();
    end.xml(AUTH);
    let before = end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(before, "header !invalid-from");
}

#[test]
fn without_a_from_behind_tls_there_is_no_external() {
    let mut end = Accepting::new(Side::Peer);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    end.xml(STARTTLS);
    end.tls(&Tls::get().with_certificate);
    let features = end.header("to='montague.example' version='1.0'");
    assert_eq!(features, "header features(dialback bidi sm limits)");
    assert_eq!(end.xml(AUTH), "sasl:failure(not-authorized)");
}

// A-31, A-32, A-33
#[test]
fn nothing_in_the_clear_helps_behind_tls() {
    let mut end = Accepting::new(Side::Peer);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(end.xml(&key_request(A, L)), "db:result=error(policy-violation)");
    assert_eq!(end.xml(AUTH), unauthenticated("encryption-required"));
    assert_eq!(end.stanza(A, L), "!not-authorized");
    assert!(!end.machine.is_waiting());
    let key = keys().public().key(&domain(A), &domain(L), "id");
    let answer = end.xml(&request(A, L, Some("id"), &key));
    assert_eq!(answer, "db:verify=error(policy-violation)");
    end.xml(STARTTLS);
    assert_eq!(end.xml(&key_request(A, L)), "!not-authorized", "behind <starttls/>");
    assert_eq!(end.stanza(A, L), "!not-authorized");
    end.tls(&Tls::get().anonymous);
    let features = end.header("from='capulet.example' to='montague.example' version='1.0'");
    assert_eq!(features, "header features(dialback bidi sm limits)");
    assert_eq!(end.stanza(A, L), "!not-authorized");
}

#[test]
fn dialback_in_the_clear_is_refused_and_then_ends_the_stream() {
    let mut end = Accepting::new(Side::Peer);
    end.header("from='capulet.example' to='montague.example' version='1.0'");
    for _ in 0..CLEAR_DIALBACK_MAX {
        assert_eq!(end.xml(&key_request(A, L)), "db:result=error(policy-violation)");
    }
    assert_eq!(end.xml(&key_request(A, L)), "!policy-violation");
}

// TLS-10
#[test]
fn there_is_no_tls_inside_tls() {
    for mut end in [behind_tls(false), by_external(), local()] {
        assert_eq!(end.xml(STARTTLS), "tls:failure close");
    }
}

// A-80
#[test]
fn a_flood_of_requests_finds_a_bound() {
    let mut end = behind_tls(false);
    let full = |limit| format!("full({limit}) db:result=error(resource-constraint)");
    let name = |n: usize| format!("d{n}.capulet.example");
    for n in 0..3 {
        assert_eq!(end.xml(&key_request(&name(n), L)), prove(&name(n), L));
    }
    assert_eq!(end.xml(&key_request(&name(3), L)), full("PendingVerifications"));
    assert_eq!(end.xml(&key_request(&name(0), L)), "-", "the same again costs nothing");
    while !end.challenges.is_empty() {
        end.confirm();
    }
    for n in 3..5 {
        assert_eq!(end.xml(&key_request(&name(n), L)), prove(&name(n), L));
    }
    let words = end.xml(&key_request(&name(5), L));
    assert_eq!(words, full("PairsPerStream"), "with those under way");
    assert_eq!(end.xml(&key_request(&name(0), L)), "db:result=valid", "it has that one");
    assert_eq!(end.challenges.len(), 2);
}

#[test]
fn more_requests_of_the_legacy_server_wait_and_nothing_else_does() {
    let mut end = authorized(local(), L, A);
    let target = |n: usize| format!("d{n}.capulet.example");
    for n in 0..3 {
        assert_eq!(end.xml(&key_request(L, &target(n))), prove(L, &target(n)));
    }
    assert_eq!(end.xml(&key_request(L, &target(3))), "-");
    assert_eq!(end.xml(&key_request(L, &target(3))), "-", "asked once");
    assert_eq!(end.stanza(L, A), admitted(L, A));
    let full = "full(PendingVerifications) db:result=error(resource-constraint)";
    assert_eq!(
        end.xml(&key_request(L, &target(4))),
        full,
        "pairs_per_stream, with those that wait"
    );
    for answered in [true, false] {
        let words = if answered {
            end.confirm()
        } else {
            words(&end.answer_error(StanzaCondition::Forbidden))
        };
        assert_eq!(words.contains(&prove(L, &target(3))), answered, "{words}");
    }
    assert_eq!(end.challenges.len(), 2);
}

// A-83
#[test]
fn compression_is_refused_and_then_ends_the_stream() {
    let mut end = by_external();
    let compress = piece("<compress xmlns='http://jabber.org/protocol/compress'/>");
    for _ in 0..IGNORED_MAX {
        assert_eq!(words(&end.take(&compress)), "failure(unsupported-method)");
    }
    assert!(words(&end.take(&compress)).ends_with("!policy-violation"));
}

// A-90 to A-92, A-94, A-99
#[test]
fn a_denied_domain_gets_in_by_no_spelling_and_behind_no_other_domain() {
    let denied = [
        "evil.example",
        "EVIL.example",
        "evil.example.",
        "evil。example",
        "ｅｖｉｌ.example",
        "ev\u{ad}il.example",
        "a.b.evil.example",
    ];
    for mut end in [behind_tls(true), by_external(), authorized(behind_tls(false), A, L)] {
        for name in denied {
            assert_eq!(end.xml(&key_request(name, L)), refused(name, L, "forbidden"));
        }
        assert_eq!(
            end.xml(&key_request("evil.example.example", L)).split('(').next(),
            Some("prove")
        );
        assert_eq!(end.xml(&key_request("badevil.example", L)), prove("badevil.example", L));
    }
    for name in denied {
        let header = format!("from='{name}' to='montague.example' version='1.0'");
        assert_eq!(Accepting::new(Side::Peer).header(&header), "header !policy-violation");
    }
}

#[test]
fn what_has_to_be_trusted_is_not_authorized_by_a_bare_dialback() {
    let mut end = behind_tls(false);
    end.xml(&key_request("strict.example", L));
    assert_eq!(end.confirm(), refused("strict.example", L, "not-authorized"));
    assert_eq!(end.stanza("strict.example", L), "!not-authorized");
    end.xml(&key_request("strict.example", L));
    let server = Tls::proof("strict.example");
    let strong = Proof::dialback(domain("strict.example"), Some(&server));
    assert_eq!(words(&end.answer(Ok(strong))), granted("strict.example", L));
    // another domain's certificate is none
    let mut end = behind_tls(false);
    end.xml(&key_request("strict.example", L));
    let weak = Proof::dialback(domain("strict.example"), Some(&Tls::proof(A)));
    assert_eq!(words(&end.answer(Ok(weak))), refused("strict.example", L, "not-authorized"));
}

// A-97
#[test]
fn a_new_configuration_withdraws_pairs() {
    let stricter =
        |rule: &str| config(&CONFIG.replace("rules:\n", &format!("rules:\n  - {rule}\n")));
    let deny = "{ match: capulet.example, allow: none }";
    let trust = "{ match: '*.capulet.example', level: trusted }";
    // one of two
    let mut end = authorized(authorized(behind_tls(false), A, L), B, L);
    let gone = end.machine.reconfigure(stricter(deny));
    assert_eq!(gone.unwrap_err().condition(), StreamCondition::PolicyViolation, "of the header");
    assert_eq!(end.stanza(A, L), "!invalid-from");
    assert_eq!(end.stanza(B, L), admitted(B, L));
    let mut end = authorized(authorized(behind_tls(false), A, L), B, L);
    assert_eq!(end.machine.reconfigure(stricter(trust)).unwrap(), [pair(B, L)]);
    assert_eq!(end.stanza(A, L), admitted(A, L));
    assert_eq!(end.stanza(B, L), "!invalid-from");
    // the only one, with its rule
    let mut end = authorized(behind_tls(false), B, L);
    let fault = end.machine.reconfigure(stricter(trust)).unwrap_err();
    assert_eq!(fault.condition(), StreamCondition::PolicyViolation);
    let fault = by_external().machine.reconfigure(stricter(deny)).unwrap_err();
    assert!(fault.rule().unwrap().contains("fedgate.yaml:"), "{fault:?}");
    // by certificate the level is reached
    let same = "{ match: capulet.example, level: trusted }";
    assert_eq!(by_external().machine.reconfigure(stricter(same)).unwrap(), []);
}

// A-97
#[test]
fn a_legacy_server_is_believed_as_the_configuration_says_now() {
    let with = |legacy: &str| {
        let other = "other: { address: '127.0.0.1:25269', domains: [verona.example]";
        config(&CONFIG.replace(other, &format!("{other}, {legacy}")))
    };
    const V: &str = "verona.example";
    let source = || Proof::source_address(domain(V));
    let dialback = || Proof::dialback(domain(V), None);
    let open = |legacy: &str, address: &str| {
        let machine = Receiving::new(Side::Legacy, with(legacy), keys(), ids);
        let mut end = Accepting::of(machine.from_address(address.parse().unwrap()));
        end.header(&format!("from='{V}' to='{A}' version='1.0'"));
        end.xml(&key_request(V, A));
        end
    };
    let before = "trust: source, sources: [192.0.2.0/24, 198.51.100.7]";
    for (trust, address, proof, stays) in [
        ("source", "192.0.2.1", source(), true),
        ("source", "::ffff:192.0.2.1", source(), true),
        ("source", "198.51.100.7", source(), false),
        ("dialback", "192.0.2.1", source(), false),
        ("dialback", "192.0.2.1", dialback(), true),
        ("dialback", "198.51.100.7", dialback(), false),
    ] {
        let case = format!("{trust} {address}");
        let now = with(&format!("trust: {trust}, sources: [192.0.2.1]"));
        let mut end = open(before, address);
        assert_eq!(words(&end.answer(Ok(proof.clone()))), granted(V, A));
        let outcome = end.machine.reconfigure(Arc::clone(&now));
        let expected = if stays { Ok(vec![]) } else { Err(StreamCondition::PolicyViolation) };
        assert_eq!(outcome.map_err(|fault| fault.condition()), expected, "{case}");
        assert_eq!(end.machine.is_authorized(), stays, "{case}");
        // also one that is being proven
        let mut end = open(before, address);
        end.machine.reconfigure(now).unwrap();
        let expected = if stays { granted(V, A) } else { refused(V, A, "not-authorized") };
        assert_eq!(words(&end.answer(Ok(proof))), expected, "{case}");
    }
    // pairs of other servers on the same stream stay
    let mut end = open("trust: source", "127.0.0.1");
    end.answer(Ok(source()));
    end.xml(&key_request(L, A));
    end.confirm();
    assert_eq!(end.machine.reconfigure(with("trust: dialback")).unwrap(), [pair(V, A)]);
    assert_eq!(end.stanza(L, A), admitted(L, A));
}

#[test]
fn how_long_a_stream_may_be_silent_is_what_policy_says_of_its_domain_now() {
    let hours = |count: u64| std::time::Duration::from_secs(count * 3600);
    let with = |domain: &str| {
        let rule = format!("rules:\n  - {{ match: {domain}, limits: {{ idle: 2h }} }}\n");
        config(&CONFIG.replace("rules:\n", &rule))
    };
    let (ours, other) = (with(A), with(B));
    let mut end = Accepting::new(Side::Peer);
    end.machine.reconfigure(Arc::clone(&ours)).unwrap();
    assert_eq!(end.machine.idle_limit(), ours.limits.idle, "nobody is named");
    end.header(&format!("from='{A}' to='{L}' version='1.0'"));
    assert_eq!(end.machine.idle_limit(), hours(2));
    end.machine.reconfigure(Arc::clone(&other)).unwrap();
    assert_eq!(end.machine.idle_limit(), other.limits.idle);
    end.machine.reconfigure(ours).unwrap();
    assert_eq!(end.machine.idle_limit(), hours(2));
}

#[test]
fn domains_that_change_hands_take_their_pairs_with_them() {
    let ours = config(&CONFIG.replace("verona.example", "verona.example, capulet.example"));
    let less = config(&CONFIG.replace("montague.example, rooms.", "rooms."));
    for config in [&ours, &less] {
        for (sender, target, new) in
            [(A, L, (|| behind_tls(false)) as fn() -> Accepting), (L, A, local)]
        {
            let mut end = authorized(new(), sender, target);
            assert!(end.machine.reconfigure(Arc::clone(config)).is_err());
            assert!(!end.machine.is_authorized());
            // also those that are being proven
            let mut end = new();
            end.xml(&key_request(sender, target));
            let _ = end.machine.reconfigure(Arc::clone(config));
            let answer = end.confirm();
            assert!(answer.contains(" db:result=error"), "{answer}");
            assert!(!end.machine.is_authorized());
        }
    }
}

#[test]
fn a_domain_that_is_denied_while_it_is_being_proven_is_refused() {
    let mut end = behind_tls(false);
    end.xml(&key_request("example.org", L));
    let deny = "rules:\n  - { match: example.org, allow: none }\n";
    end.machine.reconfigure(config(&CONFIG.replace("rules:\n", deny))).unwrap();
    assert_eq!(end.confirm(), refused("example.org", L, "forbidden"));
    assert_eq!(end.stanza("example.org", L), "!not-authorized");
}

// XEP-0220 §2.2.1
#[test]
fn a_wrong_key_ends_the_stream_unless_others_live_on_it() {
    let mut end = behind_tls(false);
    end.xml(&key_request(A, L));
    assert_eq!(
        words(&end.answer_invalid()),
        format!("refused({}) db:result=invalid close", pair(A, L))
    );
    let mut end = authorized(behind_tls(false), A, L);
    end.xml(&key_request(B, L));
    assert_eq!(words(&end.answer_invalid()), refused(B, L, "forbidden"));
    assert_eq!(end.stanza(A, L), admitted(A, L));
}

// A-95
#[test]
fn addresses_are_split_before_anything_else() {
    let mut end = authorized(behind_tls(false), A, L);
    for (from, to, outcome) in [
        ("", L, "!improper-addressing"),
        (A, "", "!improper-addressing"),
        ("@capulet.example", L, "!improper-addressing"),
        ("capulet.example@evil.example/x@capulet.example", L, "!invalid-from"),
        ("evil.example/@capulet.example", L, "!invalid-from"),
        ("a@b@capulet.example", L, "!improper-addressing"),
        ("u@capulet.example/", L, "!improper-addressing"),
        (A, "u@montague.example/a@b/c", "admitted(capulet.example→montague.example)"),
        (A, "montague.example/u@example.org", "admitted(capulet.example→montague.example)"),
        (A, "example.org/u@montague.example", "!host-unknown"),
        ("capulet.example montague.example", L, "!improper-addressing"),
    ] {
        assert_eq!(end.stanza(from, to), outcome, "{from} {to}");
    }
}

// RFC 6120 §4.9.1.2
#[test]
fn last_words_have_a_header_before_them_where_none_was_sent() {
    let fault = Fault::remote(StreamCondition::NotWellFormed, "x");
    let said = "header stream:error(not-well-formed) footer";
    assert_eq!(words(&Accepting::new(Side::Peer).farewell(&fault)), said);
    assert_eq!(words(&behind_tls(false).farewell(&fault)), "stream:error(not-well-formed) footer");
    let mut end = Accepting::new(Side::Peer);
    end.header("to='nobody.example' version='1.0'");
    assert_eq!(words(&end.farewell(&fault)), "stream:error(not-well-formed) footer");
    let mut end = behind_tls(true);
    end.xml(AUTH);
    assert_eq!(words(&end.farewell(&fault)), said, "a new stream has begun");
    let mut end = Accepting::new(Side::Peer);
    end.tls(&Tls::get().anonymous);
    assert_eq!(words(&end.farewell(&fault)), said, "and so behind TLS");
}

fn admitted(sender: &str, target: &str) -> String {
    format!("admitted({})", pair(sender, target))
}

fn granted(sender: &str, target: &str) -> String {
    format!("granted({} dialback) db:result=valid", pair(sender, target))
}

fn prove(sender: &str, target: &str) -> String {
    format!("prove({})", pair(sender, target))
}

fn refused(sender: &str, target: &str, condition: &str) -> String {
    format!("refused({}) db:result=error({condition})", pair(sender, target))
}
