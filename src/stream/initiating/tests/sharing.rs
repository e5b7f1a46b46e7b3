//! Further pairs on an open stream (XEP-0220 §2.6), and stanzas that come on it (XEP-0288).

use super::*;

const ROOMS: &str = "rooms.capulet.example";
const OUR_ROOMS: &str = "rooms.montague.example";

/// What we take.
const TAKEN: StreamLimits = StreamLimits { max_bytes: Some(20_000), idle_seconds: Some(900) };

/// Features, with EXTERNAL and bidi or without.
fn offer(external: bool, bidi: bool) -> String {
    let sasl = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>EXTERNAL</mechanism></mechanisms>";
    let feature = "<bidi xmlns='urn:xmpp:features:bidi'/>";
    let (sasl, feature) = (if external { sasl } else { "" }, if bidi { feature } else { "" });
    format!("<stream:features>{sasl}{feature}</stream:features>")
}

fn bidi_setup() -> Setup {
    Setup { bidi: Some(TAKEN), ..setup(Side::Peer, US, PEER, Purpose::Send) }
}

/// An open stream; stanzas may come on it.
fn bidirectional() -> Opening {
    let mut end = behind_tls(bidi_setup());
    end.header(MODERN);
    assert_eq!(end.xml(&offer(true, true)), "bidi(limits) auth");
    end.xml(SUCCESS);
    end.header(MODERN);
    assert_eq!(end.xml(FEATURES), "opened(external)");
    end
}

fn answer(from: &str, to: &str, kind: &str) -> String {
    format!("<db:result from='{from}' to='{to}' type='{kind}'/>")
}

fn error(from: &str, to: &str, condition: &str) -> String {
    format!(
        "<db:result from='{from}' to='{to}' type='error'><error type='cancel'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
    )
}

/// What comes of a stanza: its pair, or the stream error that ends the stream.
fn stanza(end: &mut Opening, from: &str, to: &str) -> String {
    let mut events = end.take(&Piece::Stanza { from: from.into(), to: to.into() });
    match events.pop() {
        Some(Event::Failure(failure)) => {
            let farewell = String::from_utf8(failure.farewell()).unwrap();
            let (_, rest) = farewell.split_once("<stream:error><").unwrap();
            format!("!{}", rest.split([' ', '/']).next().unwrap())
        }
        Some(event) => event.to_string(),
        None => "-".into(),
    }
}

fn admitted(sender: &str, target: &str) -> String {
    format!("admitted({})", pair(sender, target))
}

// BI-1, BI-4
#[test]
fn bidi_is_asked_for_where_it_is_offered_wanted_and_of_use() {
    for case in 0..16 {
        let [offered, wanted, proven, send] = [1, 2, 4, 8].map(|bit| case & bit != 0);
        let purpose = if send { Purpose::Send } else { verify() };
        let mut end = Opening::new(Setup {
            bidi: wanted.then_some(TAKEN),
            ..setup(Side::Peer, US, PEER, purpose)
        });
        end.tls(&Tls::get().opened);
        end.judged(if proven { Ok(Tls::proof(PEER)) } else { Err("self-signed".into()) });
        end.header(MODERN);
        let asks = offered && wanted && proven && send;
        let said = end.xml(&offer(true, offered));
        let rest = match (proven, send) {
            (true, true) => "auth",
            (false, true) => "db:result",
            (_, false) => "db:verify",
        };
        let place = format!("offered {offered} wanted {wanted} proven {proven} send {send}");
        assert_eq!(
            said,
            if asks { format!("bidi(limits) {rest}") } else { rest.into() },
            "{place}"
        );
        assert_eq!(end.machine.is_bidirectional(), asks, "{place}");
    }
}

#[test]
fn an_offer_of_bidi_in_the_clear_or_after_sasl_is_no_offer() {
    let mut end = Opening::new(bidi_setup());
    end.connected();
    end.header(MODERN);
    assert_eq!(end.xml(&offer(false, true)), "starttls");
    end.xml(PROCEED);
    end.tls(&Tls::get().opened);
    end.judged(Ok(Tls::proof(PEER)));
    end.header(MODERN);
    assert_eq!(end.xml(&offer(true, false)), "auth");
    end.xml(SUCCESS);
    end.header(MODERN);
    assert_eq!(end.xml(&offer(false, true)), "opened(external)");
    assert!(!end.machine.is_bidirectional());
    assert_eq!(stanza(&mut end, PEER, US), "-", "it means nothing");
}

#[test]
fn the_legacy_server_is_not_asked_for_it() {
    let setup = Setup { bidi: Some(TAKEN), ..setup(Side::Legacy, PEER, US, Purpose::Send) };
    let mut end = Opening::new(setup);
    end.connected();
    end.header(&format!("{OLD} version='1.0'"));
    assert_eq!(end.xml(&offer(false, true)), "db:result");
    assert!(!end.machine.is_bidirectional());
}

// A-25, BI-2
#[test]
fn no_stanza_comes_before_we_are_authenticated() {
    let mut end = behind_tls(bidi_setup());
    end.header(MODERN);
    end.xml(&offer(true, true));
    assert_eq!(stanza(&mut end, PEER, US), "!not-authorized");
    end.xml(FAILURE);
    assert_eq!(stanza(&mut end, PEER, US), "!not-authorized");
    let early = end.machine.early_stanza().unwrap_err();
    assert!(String::from_utf8(early.farewell()).unwrap().contains("<not-authorized "));
    assert_eq!(end.xml(VALID), "opened(dialback)");
    assert_eq!(stanza(&mut end, PEER, US), admitted(PEER, US));
}

// A-1, A-25
#[test]
fn only_the_reversed_pair_comes() {
    let mut end = bidirectional();
    for (from, to, outcome) in [
        ("u@capulet.example/r", "v@montague.example", admitted(PEER, US)),
        (US, PEER, "!invalid-from".into()),
        (ROOMS, US, "!invalid-from".into()),
        ("u@xcapulet.example", US, "!invalid-from".into()),
        (PEER, OUR_ROOMS, "!invalid-from".into()),
        (PEER, "verona.example", "!invalid-from".into()),
        (PEER, PEER, "!invalid-from".into()),
        ("", US, "!improper-addressing".into()),
        (PEER, "", "!improper-addressing".into()),
        (PEER, US, admitted(PEER, US)),
    ] {
        assert_eq!(stanza(&mut end, from, to), outcome, "{from} → {to}");
    }
}

#[test]
fn a_further_pair_is_asked_for_with_a_key_of_this_stream() {
    let mut end = bidirectional();
    end.sent();
    assert_eq!(end.request(pair(OUR_ROOMS, ROOMS), None), "db:result");
    let key = keys().public().key(&domain(ROOMS), &domain(OUR_ROOMS), "s1");
    let sent = String::from_utf8(end.sent()).unwrap();
    assert_eq!(sent, request(OUR_ROOMS, ROOMS, None, &key));
}

#[test]
fn a_further_pair_is_answered_once_and_by_its_own_answer() {
    for (kind, outcome) in [
        (answer(ROOMS, US, "valid"), "valid"),
        (answer(ROOMS, US, "invalid"), "rejected"),
        (error(ROOMS, US, "item-not-found"), "host-unknown"),
        (error(ROOMS, US, "remote-server-not-found"), "host-unknown"),
        (error(ROOMS, US, "resource-constraint"), "resource"),
        (error(ROOMS, US, "not-authorized"), "rejected"),
    ] {
        for mut end in [bidirectional(), to_peer(&Purpose::Send, "open")] {
            assert_eq!(end.xml(&kind), "-", "before it was asked");
            end.request(pair(US, ROOMS), None);
            for (from, to) in [(US, ROOMS), (PEER, US), (ROOMS, OUR_ROOMS), (ROOMS, ROOMS)] {
                assert_eq!(end.xml(&answer(from, to, "valid")), "-", "{from} → {to}");
            }
            let verify = format!("<db:verify from='{ROOMS}' to='{US}' id='s1' type='valid'/>");
            assert_eq!(end.xml(&verify), "-");
            let expected = format!("answered({}, {outcome})", pair(US, ROOMS));
            assert_eq!(end.xml(&kind), expected);
            for again in [&kind, &answer(ROOMS, US, "valid")] {
                assert_eq!(end.xml(again), "-", "{again}");
            }
        }
    }
}

#[test]
fn several_pairs_wait_for_their_answers_at_once() {
    let mut end = to_peer(&Purpose::Send, "open");
    let pairs = [pair(US, ROOMS), pair(OUR_ROOMS, PEER), pair(OUR_ROOMS, ROOMS)];
    for pair in &pairs {
        end.request(pair.clone(), None);
    }
    for pair in pairs.iter().rev() {
        let valid = answer(pair.target.as_str(), pair.sender.as_str(), "valid");
        assert_eq!(end.xml(&valid), format!("answered({pair}, valid)"));
    }
}

#[test]
fn a_forgotten_request_is_not_answered_any_more() {
    let mut end = bidirectional();
    end.request(pair(US, ROOMS), Some(Tls::proof(ROOMS)));
    end.machine.forget(&pair(US, ROOMS));
    assert_eq!(end.xml(&answer(ROOMS, US, "valid")), "-");
    assert_eq!(stanza(&mut end, ROOMS, US), "!invalid-from");
}

// BI-2, BI-4
#[test]
fn stanzas_come_for_pairs_that_were_answered_valid_and_proven() {
    let cases = [
        (Some(ROOMS), Some("valid"), true),
        (Some(ROOMS), Some("invalid"), false),
        (Some(ROOMS), Some("error"), false),
        (Some(ROOMS), None, false),
        (None, Some("valid"), false),
        (Some(PEER), Some("valid"), false),
    ];
    for (proof, kind, comes) in cases {
        let mut end = bidirectional();
        end.request(pair(US, ROOMS), proof.map(Tls::proof));
        if let Some(kind) = kind {
            end.xml(&answer(ROOMS, US, kind));
        }
        let expected = if comes { admitted(ROOMS, US) } else { "!invalid-from".into() };
        assert_eq!(stanza(&mut end, ROOMS, US), expected, "{proof:?} {kind:?}");
        assert_eq!(stanza(&mut end, ROOMS, OUR_ROOMS), "!invalid-from");
        assert_eq!(stanza(&mut end, PEER, US), admitted(PEER, US), "the first pair");
    }
}

#[test]
fn without_bidi_a_proven_pair_brings_no_stanzas() {
    let mut end = to_peer(&Purpose::Send, "open");
    end.request(pair(US, ROOMS), Some(Tls::proof(ROOMS)));
    end.xml(&answer(ROOMS, US, "valid"));
    assert_eq!(stanza(&mut end, ROOMS, US), "-");
    assert_eq!(stanza(&mut end, PEER, US), "-");
}

#[test]
fn withdrawn_pairs_come_no_more() {
    let mut end = bidirectional();
    end.request(pair(US, ROOMS), Some(Tls::proof(ROOMS)));
    end.xml(&answer(ROOMS, US, "valid"));
    let gone = end.machine.retain_inbound(|grant| grant.pair().sender.as_str() != ROOMS);
    assert_eq!(gone, [pair(ROOMS, US)]);
    assert_eq!(stanza(&mut end, ROOMS, US), "!invalid-from");
    assert_eq!(stanza(&mut end, PEER, US), admitted(PEER, US));
}

// BI-3, XEP-0288 §2.2
#[test]
fn a_request_of_the_other_end_gets_an_error_and_nothing_else() {
    let mut end = bidirectional();
    for (sender, target) in [(PEER, US), (ROOMS, US), (PEER, OUR_ROOMS), ("evil.example", US)] {
        end.sent();
        let said = end.xml(&request(sender, target, None, "key"));
        assert_eq!(said, "db:result=error(not-allowed)", "{sender} → {target}");
        let sent = String::from_utf8(end.sent()).unwrap();
        assert!(sent.contains(&format!("from='{target}' to='{sender}'")), "{sent}");
    }
    assert_eq!(stanza(&mut end, ROOMS, US), "!invalid-from");
    assert_eq!(stanza(&mut end, PEER, OUR_ROOMS), "!invalid-from");
    let mut end = to_peer(&Purpose::Send, "open");
    assert_eq!(end.xml(&request(PEER, US, None, "key")), "-", "a stream of one direction");
}

#[test]
fn requests_of_the_other_end_end_the_stream_at_some_time() {
    let mut end = bidirectional();
    let asked = request(ROOMS, US, None, "key");
    for _ in 0..IGNORED_MAX {
        assert_eq!(end.xml(&asked), "db:result=error(not-allowed)");
    }
    assert_eq!(end.xml(&asked), "db:result=error(not-allowed) !stream");
}

// COMPAT(Prosody): it checks our keys of other streams on one that carries stanzas both ways.
#[test]
fn the_other_end_may_ask_about_keys_of_the_pairs_of_a_bidirectional_stream() {
    let key = keys().public().key(&domain(PEER), &domain(US), "other stream");
    let asked = |sender: &str, target: &str, id: &str| request(sender, target, Some(id), &key);
    let mut end = bidirectional();
    assert_eq!(end.xml(&asked(PEER, US, "other stream")), "db:verify=valid");
    assert_eq!(end.xml(&asked(PEER, US, "s1")), "db:verify=invalid");
    let not_ours = "db:verify=error(item-not-found)";
    assert_eq!(end.xml(&asked(US, PEER, "other stream")), not_ours);
    assert_eq!(end.xml(&asked(ROOMS, US, "other stream")), not_ours);
    assert_eq!(end.xml(&asked(PEER, OUR_ROOMS, "other stream")), not_ours);
    let mut end = behind_tls(bidi_setup());
    end.header(MODERN);
    end.xml(&offer(true, true));
    assert_eq!(end.xml(&asked(PEER, US, "other stream")), not_ours, "before it is open");
    let mut end = to_peer(&Purpose::Send, "open");
    assert_eq!(end.xml(&asked(PEER, US, "other stream")), "-", "a stream of one direction");
}

// A-6
#[test]
fn answers_to_questions_that_were_not_asked_change_nothing() {
    let mut end = bidirectional();
    for (from, to) in [(PEER, US), (ROOMS, US), (PEER, OUR_ROOMS), (US, PEER)] {
        for kind in ["valid", "invalid", "error"] {
            for id in ["s1", "id", ""] {
                let xml = format!("<db:verify from='{from}' to='{to}' id='{id}' type='{kind}'/>");
                assert_eq!(end.xml(&xml), "-", "{xml}");
            }
            assert_eq!(end.xml(&answer(from, to, kind)), "-", "{from} → {to} {kind}");
        }
    }
    assert_eq!(stanza(&mut end, ROOMS, US), "!invalid-from");
    assert_eq!(stanza(&mut end, PEER, OUR_ROOMS), "!invalid-from");
    assert_eq!(stanza(&mut end, PEER, US), admitted(PEER, US));
}

/// Features with what the other end takes.
fn taking(features: &str, bytes: u32) -> String {
    let limits =
        format!("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{bytes}</max-bytes></limits>");
    features.replace("</stream:features>", &format!("{limits}</stream:features>"))
}

#[test]
fn what_the_other_end_takes_is_what_its_last_features_say() {
    // XEP-0478 §3.1, §4
    let mut end = behind_tls(bidi_setup());
    end.header(MODERN);
    end.xml(&taking(&offer(true, false), 10_000));
    assert_eq!(end.machine.largest_stanza(), Some(10_000));
    end.xml(SUCCESS);
    end.header(MODERN);
    let mut again = end;
    again.xml(&taking("<stream:features></stream:features>", 262_144));
    assert_eq!(again.machine.largest_stanza(), Some(262_144));
    let mut end = behind_tls(bidi_setup());
    end.header(MODERN);
    end.xml(&taking(&offer(true, false), 10_000));
    end.xml(SUCCESS);
    end.header(MODERN);
    end.xml(FEATURES);
    assert_eq!(end.machine.largest_stanza(), None);
}
