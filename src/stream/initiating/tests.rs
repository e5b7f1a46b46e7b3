//! Every state and every kind of input of the opening end, as tables, and what is attempted
//! against it; what comes once a stream is open is in [`sharing`].

use super::*;
use crate::{
    auth::Proof,
    stream::wire::{
        Event, Opening, Piece, Tls, assert_table, domain, header, header_text, keys, pair, piece,
        request, rows, samples, setup, words,
    },
};

mod managing;
mod sharing;

const US: &str = "montague.example";
const PEER: &str = "capulet.example";
const MODERN: &str = "id='s1' from='capulet.example' to='montague.example' version='1.0'";
const OLD: &str = "id='s1' from='montague.example'";
const FEATURES: &str = "<stream:features/>";
const EXTERNAL: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
     <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const FAILURE: &str =
    "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";
const VALID: &str = "<db:result from='capulet.example' to='montague.example' type='valid'/>";

/// A stream to a peer with its TLS up and judged.
fn behind_tls(setup: Setup) -> Opening {
    let proven = setup.external;
    let mut end = Opening::new(setup);
    end.connected();
    end.header(MODERN);
    end.xml(FEATURES);
    assert_eq!(end.xml(PROCEED), "handshake");
    end.tls(&Tls::get().opened);
    let verdict = if proven { Ok(Tls::proof(PEER)) } else { Err("self-signed".to_owned()) };
    assert_eq!(words(&end.judged(verdict)), "header");
    end
}

fn verify() -> Purpose {
    Purpose::Verify { id: "id".into(), key: "key".into(), spelling: None }
}

fn to_peer(purpose: &Purpose, state: &str) -> Opening {
    let setup = setup(Side::Peer, US, PEER, purpose.clone());
    let mut end = Opening::new(setup.clone());
    match state {
        "waiting for the header"
        | "waiting for features"
        | "waiting for the answer to STARTTLS" => {
            end.connected();
            if state != "waiting for the header" {
                end.header(MODERN);
            }
            if state == "waiting for the answer to STARTTLS" {
                end.xml(FEATURES);
            }
        }
        "in the handshake" => {
            end.connected();
            end.header(MODERN);
            end.xml(FEATURES);
            end.xml(PROCEED);
        }
        "judging the certificate" => {
            end.tls(&Tls::get().opened);
        }
        "behind TLS, waiting for the header" => end = behind_tls(setup),
        "behind TLS, waiting for features" => {
            end = behind_tls(setup);
            end.header(MODERN);
        }
        "waiting for the answer to EXTERNAL" | "after SASL, waiting for features" | "open" => {
            end = behind_tls(setup);
            end.header(MODERN);
            assert_eq!(end.xml(EXTERNAL), "auth");
            if state != "waiting for the answer to EXTERNAL" {
                end.xml(SUCCESS);
                end.header(MODERN);
            }
            if state == "open" {
                assert_eq!(end.xml(FEATURES), "opened(external)");
            }
        }
        "waiting for the answer to our request" | "done" => {
            end = behind_tls(setup);
            end.header(MODERN);
            end.xml(FEATURES);
            if state == "done" {
                end.xml("<db:verify from='capulet.example' to='montague.example' id='id' type='valid'/>");
            }
        }
        _ => panic!("{state}"),
    }
    end
}

fn to_legacy(purpose: &Purpose, state: &str) -> Opening {
    let mut end = Opening::new(setup(Side::Legacy, PEER, US, purpose.clone()));
    end.connected();
    match state {
        "waiting for the header" => {}
        "waiting for features" => assert_eq!(end.header(&format!("{OLD} version='1.0'")), "-"),
        "waiting for the answer to our request" | "open" | "done" => {
            end.header(OLD);
            if state == "open" {
                end.xml("<db:result from='montague.example' to='capulet.example' type='valid'/>");
            }
            if state == "done" {
                end.xml("<db:verify from='montague.example' to='capulet.example' id='id' type='error'/>");
            }
        }
        _ => panic!("{state}"),
    }
    end
}

/// What happens on every kind of input, state by state.
fn table(states: &[&str], at: impl Fn(&str) -> Opening, us: &str, other: &str) -> String {
    let mut answers = Vec::new();
    for kind in ["valid", "invalid", "error"] {
        answers.push((
            "db:result",
            kind,
            format!("<db:result from='{other}' to='{us}' type='{kind}'/>"),
        ));
        answers.push((
            "db:verify",
            kind,
            format!("<db:verify from='{other}' to='{us}' id='id' type='{kind}'/>"),
        ));
    }
    let headers = [
        ("header", format!("id='s2' from='{other}' to='{us}' version='1.0'")),
        ("header without version", format!("id='s2' from='{other}'")),
        ("header without id", format!("from='{other}' to='{us}' version='1.0'")),
        ("header with empty id", format!("id='' from='{other}' to='{us}' version='1.0'")),
    ];
    let mut table = String::new();
    for state in states {
        let mut inputs: Vec<(String, Piece)> = headers
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Piece::Header(header(&header_text(text)))))
            .collect();
        inputs.extend(samples(other, us));
        inputs
            .extend(answers.iter().map(|(name, kind, xml)| (format!("{name}={kind}"), piece(xml))));
        inputs.push(("stanza".into(), Piece::Stanza { from: other.into(), to: us.into() }));
        inputs.push(("footer".into(), Piece::Footer));
        let outcomes: Vec<_> = inputs
            .into_iter()
            .map(|(name, piece)| (name, words(&at(state).take(&piece))))
            .collect();
        table += &format!("{state}\n{}", rows(&outcomes));
    }
    table
}

#[test]
fn a_stream_to_a_peer_does_this_in_every_state() {
    let states = [
        "waiting for the header",
        "waiting for features",
        "waiting for the answer to STARTTLS",
        "in the handshake",
        "judging the certificate",
        "behind TLS, waiting for the header",
        "behind TLS, waiting for features",
        "waiting for the answer to EXTERNAL",
        "waiting for the answer to our request",
        "after SASL, waiting for features",
        "open",
    ];
    let table = table(&states, |state| to_peer(&Purpose::Send, state), US, PEER);
    assert_table(&table, PEER_TABLE);
}

#[test]
fn a_question_to_a_peer_does_this_in_every_state() {
    let states =
        ["behind TLS, waiting for features", "waiting for the answer to our request", "done"];
    let table = table(&states, |state| to_peer(&verify(), state), US, PEER);
    assert_table(&table, PEER_QUESTION);
}

#[test]
fn a_stream_to_the_legacy_server_does_this_in_every_state() {
    let states = [
        "waiting for the header",
        "waiting for features",
        "waiting for the answer to our request",
        "open",
    ];
    let table = table(&states, |state| to_legacy(&Purpose::Send, state), PEER, US);
    assert_table(&table, LEGACY_TABLE);
}

#[test]
fn a_question_to_the_legacy_server_does_this_in_every_state() {
    let states = ["waiting for features", "waiting for the answer to our request", "done"];
    let table = table(&states, |state| to_legacy(&verify(), state), PEER, US);
    assert_table(&table, LEGACY_QUESTION);
}

// RFC 7590 §3.1
#[test]
fn starttls_is_asked_for_also_where_its_offer_was_removed() {
    for features in [
        FEATURES,
        EXTERNAL,
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
    ] {
        let mut end = to_peer(&Purpose::Send, "waiting for features");
        assert_eq!(end.xml(features), "starttls");
        assert!(end.machine.tls().is_none());
    }
}

//
#[test]
fn what_is_injected_in_the_clear_is_forgotten() {
    for state in ["waiting for features", "waiting for the answer to STARTTLS", "in the handshake"]
    {
        let mut end = to_peer(&Purpose::Send, state);
        assert_eq!(end.xml(VALID), "-", "{state}");
        assert_eq!(words(&end.take(&Piece::Stanza { from: PEER.into(), to: US.into() })), "-");
        assert_eq!(to_peer(&Purpose::Send, state).xml(SUCCESS), "!stream", "{state}");
        let mut end = to_peer(&verify(), state);
        let answer =
            "<db:verify from='capulet.example' to='montague.example' id='id' type='valid'/>";
        assert_eq!(end.xml(answer), "-", "{state}");
    }
}

// ST-10, ST-11
#[test]
fn a_key_is_made_for_the_id_of_the_last_header() {
    let mut end = Opening::new(setup(Side::Peer, US, PEER, Purpose::Send));
    end.connected();
    end.header("id='clear' version='1.0'");
    end.xml(FEATURES);
    end.xml(PROCEED);
    end.tls(&Tls::get().opened);
    end.judged(Ok(Tls::proof(PEER)));
    end.sent();
    end.header("id='tls' version='1.0'");
    assert_eq!(end.xml(FEATURES), "db:result");
    let key = keys().public().key(&domain(PEER), &domain(US), "tls");
    assert_eq!(String::from_utf8(end.sent()).unwrap(), request(US, PEER, None, &key));
}

// XEP-0220 §3.1
#[test]
fn answers_that_were_not_asked_for_are_ignored() {
    let answers = |from: &str, to: &str, id: &str, kind: &str| {
        [
            format!("<db:result from='{from}' to='{to}' type='{kind}'/>"),
            format!("<db:verify from='{from}' to='{to}' id='{id}' type='{kind}'/>"),
        ]
    };
    for kind in ["valid", "invalid", "error"] {
        for (from, to) in [
            (US, PEER),
            ("rooms.capulet.example", US),
            (PEER, "rooms.montague.example"),
            (PEER, PEER),
            (US, US),
        ] {
            for purpose in [Purpose::Send, verify()] {
                for xml in answers(from, to, "id", kind) {
                    let mut end = to_peer(&purpose, "waiting for the answer to our request");
                    assert_eq!(end.xml(&xml), "-", "{xml}");
                    let mut end = to_legacy(&purpose, "waiting for the answer to our request");
                    let (from, to) = (to, from);
                    let xml = answers(from, to, "id", kind);
                    if (from, to) != (US, PEER) {
                        assert_eq!(end.xml(&xml[0]), "-", "{xml:?}");
                    }
                }
            }
        }
        // the right pair, but the other question, or another stream's
        let [result, verify_answer] = answers(PEER, US, "id", kind);
        let waiting = "waiting for the answer to our request";
        assert_eq!(to_peer(&Purpose::Send, waiting).xml(&verify_answer), "-");
        assert_eq!(to_peer(&verify(), waiting).xml(&result), "-");
        for id in ["", "ID", "id ", "s1", "other"] {
            let [_, other] = answers(PEER, US, id, kind);
            assert_eq!(to_peer(&verify(), waiting).xml(&other), "-", "{id:?}");
        }
        // before it was asked, and after it was answered
        for state in
            ["behind TLS, waiting for features", "waiting for the answer to EXTERNAL", "open"]
        {
            assert_eq!(to_peer(&Purpose::Send, state).xml(&result), "-", "{state}");
        }
        assert_eq!(to_peer(&verify(), "done").xml(&verify_answer), "-");
    }
}

#[test]
fn a_further_question_has_an_answer_of_its_own() {
    let other = "other.example";
    let again = |purpose| setup(Side::Legacy, other, US, purpose);
    let question = again(Purpose::Verify { id: "id2".into(), key: "key2".into(), spelling: None });
    let answer = |to: &str, id: &str| {
        format!("<db:verify from='montague.example' to='{to}' id='{id}' type='valid'/>")
    };
    // not while the last one is open, nor on a stream for stanzas, nor for those
    let waiting = "waiting for the answer to our request";
    assert_eq!(to_legacy(&verify(), waiting).ask_again(&question), None);
    assert_eq!(to_legacy(&Purpose::Send, "open").ask_again(&question), None);
    let mut end = to_legacy(&verify(), "done");
    assert_eq!(end.ask_again(&again(Purpose::Send)), None);
    assert_eq!(end.ask_again(&question).as_deref(), Some("db:verify"));
    assert_eq!(end.ask_again(&question), None);
    for (to, id) in [(PEER, "id"), (PEER, "id2"), (other, "id")] {
        assert_eq!(end.xml(&answer(to, id)), "-", "{to} {id}");
    }
    assert_eq!(end.xml(&answer(other, "id2")), "verified(valid)");
}

#[test]
fn an_answer_in_another_spelling_is_one() {
    let mut end = to_peer(&Purpose::Send, "waiting for the answer to our request");
    // COMPAT(Prosody): the key and the id come back.
    let xml = "<db:result from='CAPULET.example.' to='Montague.Example' id='s1' type='valid'>key</db:result>";
    assert_eq!(end.xml(xml), "opened(dialback)");
}

// EX-7
#[test]
fn external_is_tried_only_on_a_proven_peer_with_a_certificate_to_send_stanzas() {
    let setup = |external, purpose| Setup { external, ..setup(Side::Peer, US, PEER, purpose) };
    let mut end = behind_tls(setup(true, Purpose::Send));
    end.header(MODERN);
    end.sent();
    assert_eq!(end.xml(EXTERNAL), "auth");
    let sent = String::from_utf8(end.sent()).unwrap();
    assert!(sent.contains(&STANDARD.encode(US)), "{sent}");
    let mut end = behind_tls(setup(true, verify()));
    end.header(MODERN);
    assert_eq!(end.xml(EXTERNAL), "db:verify");
    let mut end = behind_tls(setup(false, Purpose::Send));
    end.header(MODERN);
    assert_eq!(end.xml(EXTERNAL), "db:result", "not proven, and no certificate");
    let mut end = to_peer(&Purpose::Send, "judging the certificate");
    end.judged(Err("self-signed".into()));
    end.header(MODERN);
    assert_eq!(end.xml(EXTERNAL), "db:result", "not proven");
    for mechanisms in ["", "<mechanism>PLAIN</mechanism>", "<mechanism>EXTERNAL-X</mechanism>"] {
        let mut end = to_peer(&Purpose::Send, "behind TLS, waiting for features");
        assert_eq!(
            end.xml(&EXTERNAL.replace("<mechanism>EXTERNAL</mechanism>", mechanisms)),
            "db:result"
        );
    }
}

// EX-9
#[test]
fn a_refused_certificate_leaves_dialback_on_the_same_stream() {
    let mut end = to_peer(&Purpose::Send, "waiting for the answer to EXTERNAL");
    assert_eq!(end.xml(FAILURE), "db:result");
    assert_eq!(end.xml(SUCCESS), "-", "too late");
    assert_eq!(end.xml(VALID), "opened(dialback)");
}

// RFC 6120 §6.4.3
#[test]
fn a_challenge_is_answered_with_our_domain() {
    let mut end = to_peer(&Purpose::Send, "waiting for the answer to EXTERNAL");
    end.sent();
    assert_eq!(end.xml("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"), "response");
    let sent = String::from_utf8(end.sent()).unwrap();
    assert!(sent.contains(&format!(">{}<", STANDARD.encode(US))), "{sent}");
    assert_eq!(end.xml(SUCCESS), "restart header");
}

// A-34, DT-4
#[test]
fn what_has_to_be_trusted_is_not_spoken_with_unproven() {
    for purpose in [Purpose::Send, verify()] {
        let setup = Setup { level: Level::Trusted, ..setup(Side::Peer, US, PEER, purpose) };
        for verdict in [Err("self-signed".to_owned()), Ok(Tls::proof("rooms.capulet.example"))] {
            let mut end = Opening::new(setup.clone());
            end.tls(&Tls::get().opened);
            assert_eq!(words(&end.judged(verdict)), "!not-proven");
            assert!(end.sent().is_empty(), "not a word");
        }
        let mut end = Opening::new(setup);
        end.tls(&Tls::get().opened);
        assert_eq!(words(&end.judged(Ok(Tls::proof(PEER)))), "header");
    }
}

#[test]
fn a_proof_of_another_domain_is_none_at_any_level() {
    let mut end = to_peer(&Purpose::Send, "judging the certificate");
    let other = Proof::dialback(domain("rooms.capulet.example"), None);
    assert_eq!(words(&end.judged(Ok(other))), "!not-proven");
    assert!(end.machine.proof().is_none());
}

// A-9, KEY-4; protocol §12.2 J6
#[test]
fn the_legacy_server_may_ask_on_our_own_stream_but_only_about_it() {
    let key = keys().local("old").key(&domain(US), &domain(PEER), "s1");
    let waiting = "waiting for the answer to our request";
    let ask = |sender: &str, target: &str, id: &str, key: &str| {
        to_legacy(&Purpose::Send, waiting).xml(&request(sender, target, Some(id), key))
    };
    assert_eq!(ask(US, PEER, "s1", &key), "db:verify=valid");
    assert_eq!(ask(US, PEER, "s2", &key), "db:verify=invalid");
    let public = keys().public().key(&domain(US), &domain(PEER), "s1");
    assert_eq!(ask(US, PEER, "s1", &public), "db:verify=invalid");
    let not_ours = "db:verify=error(item-not-found)";
    assert_eq!(ask(PEER, US, "s1", &public), not_ours);
    assert_eq!(ask("rooms.montague.example", PEER, "s1", &key), not_ours);
    // a peer may not
    let public = keys().public().key(&domain(PEER), &domain(US), "s1");
    let mut end = to_peer(&Purpose::Send, waiting);
    assert_eq!(end.xml(&request(PEER, US, Some("s1"), &public)), "-");
    assert_eq!(end.xml(&request(PEER, US, None, "key")), "-");
}

#[test]
fn failures_carry_what_senders_are_told() {
    let waiting = "waiting for the answer to our request";
    let told = |xml: &str| match to_peer(&Purpose::Send, waiting).take(&piece(xml)).pop() {
        Some(Event::Failure(failure)) => {
            format!("{} {}", failure.reason(), failure.condition())
        }
        other => panic!("{other:?}"),
    };
    let error = |condition: &str| {
        let condition = match condition {
            "" => String::new(),
            name => format!("<error><{name} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"),
        };
        told(&VALID.replace("valid'/>", &format!("error'>{condition}</db:result>")))
    };
    // XEP-0220 §2.1.1
    assert_eq!(told(&VALID.replace("valid", "invalid")), "rejected internal-server-error");
    assert_eq!(error("item-not-found"), "host-unknown remote-server-not-found");
    assert_eq!(error("remote-server-not-found"), "host-unknown remote-server-not-found");
    assert_eq!(error("forbidden"), "rejected remote-server-timeout");
    assert_eq!(error("not-allowed"), "rejected remote-server-timeout");
    assert_eq!(error("remote-connection-failed"), "rejected remote-server-timeout");
    assert_eq!(error(""), "rejected remote-server-timeout");
    // COMPAT(Prosody): the error is in the namespace of dialback.
    let prosody = "<db:result from='capulet.example' to='montague.example' type='error'><db:error>\
        <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></db:error></db:result>";
    assert_eq!(told(prosody), "host-unknown remote-server-not-found");
    for (condition, outcome) in [
        ("host-unknown", "host-unknown remote-server-not-found"),
        ("host-gone", "host-unknown remote-server-not-found"),
        ("not-authorized", "rejected remote-server-timeout"),
        ("policy-violation", "rejected remote-server-timeout"),
        ("invalid-id", "stream remote-server-timeout"),
        ("see-other-host", "stream remote-server-timeout"),
        ("xml-not-well-formed", "stream remote-server-timeout"),
    ] {
        let xml = format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        );
        assert_eq!(told(&xml), outcome);
    }
    assert_eq!(
        told("<stream:error>Invalid Packets Recieved!</stream:error>"),
        "stream remote-server-timeout"
    );
}

//
#[test]
fn text_of_the_other_end_is_fit_for_a_log() {
    let xml = "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>a&#10;b\u{9b}31m</text></stream:error>";
    let mut end = to_peer(&Purpose::Send, "open");
    let Some(Event::Failure(failure)) = end.take(&piece(xml)).pop() else { panic!() };
    assert_eq!(failure.detail(), "stream error policy-violation (a\u{fffd}b\u{fffd}31m)");
    let long = format!("<stream:error>{}</stream:error>", "x".repeat(5000));
    let mut end = to_peer(&Purpose::Send, "open");
    let Some(Event::Failure(failure)) = end.take(&piece(&long)).pop() else { panic!() };
    assert!(failure.detail().len() < 300);
}

#[test]
fn noise_ends_the_stream_at_some_time() {
    let mut end = to_peer(&Purpose::Send, "open");
    let stanza = Piece::Stanza { from: PEER.into(), to: US.into() };
    for _ in 0..IGNORED_MAX {
        assert_eq!(words(&end.take(&stanza)), "-");
    }
    assert_eq!(words(&end.take(&stanza)), "!stream");
}

#[test]
fn from_and_to_are_the_same_in_every_header() {
    let mut end = Opening::new(setup(Side::Peer, US, PEER, Purpose::Send));
    let mut headers = Vec::new();
    let mut add = |events: Vec<Event>| {
        for event in events {
            if let Event::Said(Piece::Header(header)) = event {
                headers.push((header.from.clone(), header.to.clone(), header.id.clone()));
            }
        }
    };
    add(end.connected());
    end.header(MODERN);
    end.xml(FEATURES);
    end.xml(PROCEED);
    add(end.tls(&Tls::get().opened));
    add(end.judged(Ok(Tls::proof(PEER))));
    end.header(MODERN);
    end.xml(EXTERNAL);
    add(end.take(&piece(SUCCESS)));
    let expected = (Some(US.to_owned()), Some(PEER.to_owned()), None);
    assert_eq!(headers, vec![expected; 3]);
    assert_eq!(pair(US, PEER).reversed(), pair(PEER, US));
}

const PEER_TABLE: &str = "
waiting for the header
    header, db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid,
    db:verify=invalid, db:result=error, db:verify=error, stanza
        → -
    header without version
        → !tls
    header without id, header with empty id, starttls, proceed, tls:failure, auth, abort,
    challenge, response, success, sasl:failure, stream:features, compress, bidi, enable, enabled,
    sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    stream:error
        → !host-unknown
waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:features
        → starttls
    stream:error
        → !host-unknown
waiting for the answer to STARTTLS
    header, header without version, header without id, header with empty id, starttls, auth,
    abort, challenge, response, success, sasl:failure, stream:features, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    proceed
        → handshake
    tls:failure
        → !tls
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
in the handshake
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, stream:features,
    compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
judging the certificate
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, stream:features,
    compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
behind TLS, waiting for the header
    header, db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid,
    db:verify=invalid, db:result=error, db:verify=error, stanza
        → -
    header without version
        → !tls
    header without id, header with empty id, starttls, proceed, tls:failure, auth, abort,
    challenge, response, success, sasl:failure, stream:features, compress, bidi, enable, enabled,
    sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    stream:error
        → !host-unknown
behind TLS, waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:features
        → auth
    stream:error
        → !host-unknown
waiting for the answer to EXTERNAL
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, response, db:result, db:verify, stream:features,
    compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a, other, foo,
    db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid, db:result=error,
    db:verify=error, stanza
        → -
    challenge
        → response
    success
        → restart header
    sasl:failure
        → db:result
    stream:error
        → !host-unknown
waiting for the answer to our request
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:verify=valid, db:verify=invalid, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
    db:result=valid
        → opened(dialback)
    db:result=invalid, db:result=error
        → !rejected
after SASL, waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:features
        → opened(external)
    stream:error
        → !host-unknown
open
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, db:result=invalid,
    db:verify=invalid, db:result=error, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
";
const PEER_QUESTION: &str = "
behind TLS, waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:verify, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    stream:features
        → db:verify
    stream:error
        → !host-unknown
waiting for the answer to our request
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:result=invalid, db:result=error, stanza
        → -
    stream:error
        → !host-unknown
    db:verify=valid
        → verified(valid)
    db:verify=invalid
        → verified(invalid)
    db:verify=error
        → verified(error)
done
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, db:result=invalid,
    db:verify=invalid, db:result=error, db:verify=error, stanza
        → -
    stream:error
        → !host-unknown
";
const LEGACY_TABLE: &str = "
waiting for the header
    header, db:result, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    header without version
        → db:result
    header without id, header with empty id, starttls, proceed, tls:failure, auth, abort,
    challenge, response, success, sasl:failure, stream:features, compress, bidi, enable, enabled,
    sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:verify
        → db:verify=invalid
    stream:error
        → !host-unknown
waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:features
        → db:result
    stream:error
        → !host-unknown
waiting for the answer to our request
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, stream:features, compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a,
    other, foo, db:verify=valid, db:verify=invalid, db:verify=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:error
        → !host-unknown
    db:result=valid
        → opened(dialback)
    db:result=invalid, db:result=error
        → !rejected
open
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, stream:features, compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a,
    other, foo, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:error
        → !host-unknown
";
const LEGACY_QUESTION: &str = "
waiting for features
    header, header without version, header without id, header with empty id, starttls, proceed,
    tls:failure, auth, abort, challenge, response, success, sasl:failure, compress, bidi, enable,
    enabled, sm:failed, resume, resumed, r, a, other, foo, footer
        → !stream
    db:result, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:features
        → db:verify
    stream:error
        → !host-unknown
waiting for the answer to our request
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, stream:features, compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a,
    other, foo, db:result=valid, db:result=invalid, db:result=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:error
        → !host-unknown
    db:verify=valid
        → verified(valid)
    db:verify=invalid
        → verified(invalid)
    db:verify=error
        → verified(error)
done
    header, header without version, header without id, header with empty id, footer
        → !stream
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, stream:features, compress, bidi, enable, enabled, sm:failed, resume, resumed, r, a,
    other, foo, db:result=valid, db:verify=valid, db:result=invalid, db:verify=invalid,
    db:result=error, db:verify=error, stanza
        → -
    db:verify
        → db:verify=invalid
    stream:error
        → !host-unknown
";
