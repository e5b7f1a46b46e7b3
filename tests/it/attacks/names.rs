//! Names that look like others, or like none.

use crate::world::{BOUNCE, Conn, FEATURES_END, Plan, World, header, header_with};

/// The first word of the gate on a stream of a domain that spells itself so.
async fn greeted(world: &World, from: &str) -> String {
    let mut conn = world.connect().await;
    conn.say(header(from, "old.test")).await;
    let mut text = conn.until("</stream:").await;
    text += &conn.until(">").await;
    text
}

async fn refused(world: &World, from: &str, condition: &str) {
    let text = greeted(world, from).await;
    assert!(text.contains(&format!("<stream:error><{condition} ")), "{from:?}: {text}");
}

/// What the gate says to a dialback request, whatever that is.
async fn answered(conn: &mut Conn, from: &str, to: &str) -> String {
    conn.say(format!("<db:result from='{from}' to='{to}'>k</db:result>")).await;
    conn.until("/></").await
}

#[tokio::test]
async fn a_90_a_denied_domain_is_denied_however_it_is_spelt() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }\n\
        rules: [{ match: [evil.test, '*.evil.test'], allow: none }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let spellings = [
        "EVIL.test",
        "evil.TEST.",
        "evil\u{3002}test",
        "evil\u{ff0e}test",
        "evil\u{ff61}test",
        "\u{ff45}\u{ff56}\u{ff49}\u{ff4c}.test",
        "ev\u{ad}il.test",
        "e\u{fe0f}vil.test",
        "\u{24d4}vil.test",
        "a.Evil.test",
    ];
    for from in spellings {
        refused(&world, from, "policy-violation").await;
        let (mut conn, _) = world.unproven("fine.test").await;
        let answer = answered(&mut conn, from, "old.test").await;
        assert!(answer.contains("<forbidden "), "{from:?}: {answer}");
        // nor is anything sent there
        let answer = world.legacy.ask(from).await;
        assert!(answer.contains("error forbidden"), "{from:?}: {answer}");
    }
    // what is no domain is not another one either
    for from in
        ["evil%2etest", "evil&#x20;.test", "evil..test", ".evil.test", "evil.test..", "evil_.test"]
    {
        refused(&world, from, "improper-addressing").await;
    }
    assert!(!world.dns.was_asked("evil"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_91_names_that_old_servers_take_for_others_are_refused() {
    // IDNA 2003 turns them into other names than IDNA 2008 does
    let mut world = World::with(BOUNCE).await;
    for from in [
        "stra\u{df}e.test",
        "xn--strae-oqa.test",
        "\u{3b2}\u{3cc}\u{3bb}\u{3bf}\u{3c2}.test",
        "a\u{200d}b.test",
        "a\u{200c}b.test",
        "\u{915}\u{94d}\u{200d}\u{937}.test",
    ] {
        refused(&world, from, "improper-addressing").await;
        let (mut conn, _) = world.unproven("fine.test").await;
        conn.say(format!("<db:result from='{from}' to='old.test'>k</db:result>")).await;
        conn.ends_with("improper-addressing").await;
        let mut conn = world.authenticated("fine.test").await;
        conn.say(format!("<message from='m@{from}' to='bob@old.test'/>")).await;
        conn.ends_with("improper-addressing").await;
    }
    // and what they are taken for is somebody else
    drop(world.clear("strasse.test").await);
    assert!(!world.dns.was_asked("stra"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_92_both_forms_of_an_international_name_are_one_and_false_ones_none() {
    let mut world = World::start().await;
    let identity = world.authority.issue(&["xn--bcher-kva.test"]);
    let forms = [
        "b\u{fc}cher.test",
        "xn--bcher-kva.test",
        "XN--Bcher-KVA.TEST",
        "B\u{dc}CHER.test.",
        "bu\u{308}cher.test",
    ];
    for from in forms {
        let mut conn = world.secured(Some(&identity)).await;
        conn.say(header(from, "old.test")).await;
        assert!(conn.until(FEATURES_END).await.contains("EXTERNAL"), "{from:?}");
        conn.say(format!("<db:result from='{from}' to='old.test'>k</db:result>")).await;
        conn.until("type='valid'/>").await;
        for form in forms {
            let stanza = format!("<message from='m@{form}' to='bob@old.test'/>");
            conn.say(&stanza).await;
            assert_eq!(world.legacy.arrival().await, stanza);
        }
        conn.say("<message from='m@bucher.test' to='bob@old.test'/>").await;
        conn.ends_with("invalid-from").await;
    }
    for from in [
        "xn--example-.test",
        "xn--a.test",
        "xn--.test",
        "xn--evil-.test",
        "XN--EXAMPLE-.test",
        // of an ASCII name, of one in upper case, and with what is no letter
        "xn--abc-.test",
        "xn--bcher-Kva\u{fc}.test",
        "xn--wgv71a119e\u{ff}.test",
        "xn--99999999.test",
        "ab--cd.test",
        "-ab.test",
    ] {
        refused(&world, from, "improper-addressing").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_93_a_look_alike_of_an_allowed_domain_is_not_allowed() {
    let config = "defaults: { allow: none }
rules: [{ match: [good.test, anybody.test, paypal.test], allow: both }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let alike = world.authority.issue(&["xn--pypal-4ve.test"]);
    for from in ["p\u{430}ypal.test", "xn--pypal-4ve.test", "paypa1.test", "paypal.tesт"] {
        refused(&world, from, "policy-violation").await;
    }
    let mut conn = world.secured(Some(&alike)).await;
    conn.say(header("p\u{430}ypal.test", "old.test")).await;
    conn.ends_with_header_and("policy-violation").await;
    // nor does its own certificate speak for the other
    assert!(!world.proves_client(&alike, "paypal.test").await);
    drop(world.authenticated("paypal.test").await);
    world.is_alive().await;
}

#[tokio::test]
async fn a_94_rules_hold_for_whole_labels() {
    let config = "rules: [{ match: ['*.bad.test', worse.test], allow: none }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    for from in ["a.bad.test", "a.b.bad.test", "worse.test", "A.BAD.TEST"] {
        refused(&world, from, "policy-violation").await;
    }
    for from in ["bad.test", "verybad.test", "bad.test.example", "a.worse.test", "notworse.test"] {
        assert!(greeted(&world, from).await.contains("<stream:features>"), "{from}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_95_addresses_are_cut_where_the_rfc_cuts_them() {
    let mut world = World::start().await;
    let long = |len| "x".repeat(len);
    // RFC 7622 §3.2: first the resource, then the localpart; each 1023 bytes at most
    for from in [
        "evil.test/@good.test".to_owned(),
        "evil.test/ann@good.test".into(),
        "m@evil.test/@good.test/x".into(),
        format!("{}@evil.test/{}", long(1023), long(1023)),
    ] {
        let mut conn = world.authenticated("evil.test").await;
        let stanza = format!("<message from='{from}' to='bob@old.test'/>");
        conn.say(&stanza).await;
        assert_eq!(world.legacy.arrival().await, stanza);
    }
    for (from, condition) in [
        ("good.test/@evil.test".to_owned(), "invalid-from"),
        ("ann@good.test/evil.test".into(), "invalid-from"),
        ("m@evil.test@good.test".into(), "improper-addressing"),
        ("m@@evil.test".into(), "improper-addressing"),
        ("@evil.test".into(), "improper-addressing"),
        ("m@".into(), "improper-addressing"),
        ("/evil.test".into(), "improper-addressing"),
        ("evil.test/".into(), "improper-addressing"),
        ("m@evil.test/".into(), "improper-addressing"),
        (" evil.test".into(), "improper-addressing"),
        (format!("{}@evil.test", long(1024)), "improper-addressing"),
        (format!("m@evil.test/{}", long(1024)), "improper-addressing"),
        (format!("m@evil.test/{}", long(3072)), "improper-addressing"),
    ] {
        let mut conn = world.authenticated("evil.test").await;
        conn.say(format!("<message from='{from}' to='bob@old.test'/>")).await;
        let text = conn.rest().await;
        assert!(text.contains(&format!("<stream:error><{condition} ")), "{from:.60}: {text}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_96_what_is_no_domain_of_the_dns_is_refused_and_never_looked_up() {
    let mut world = World::start().await;
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{label}.test");
    for name in [
        "1.2.3.4",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "1.2.3.4.",
        "[::1]",
        "::1",
        "localhost",
        "com",
        "_x.test",
        "_xmpp-server._tcp.test",
        "a_b.test",
        "*.test",
        &long,
        &format!("{label}a.test"),
    ] {
        refused(&world, name, "improper-addressing").await;
        let (mut conn, _) = world.unproven("fine.test").await;
        conn.say(format!("<db:result from='{name}' to='old.test'>k</db:result>")).await;
        conn.ends_with("improper-addressing").await;
        for (from, to) in [("fine.test", name), (name, "old.test")] {
            let mut conn = world.authenticated("fine.test").await;
            conn.say(format!("<message from='m@{from}' to='bob@{to}'/>")).await;
            conn.ends_with("improper-addressing").await;
        }
        // nor is the legacy server heard about it, whose users share its streams
        let mut conn = Conn::open(world.local(), "127.0.0.1").await;
        conn.say(header_with("to='good.test'")).await;
        conn.until("'>").await;
        conn.say(format!("<db:result from='old.test' to='{name}'>k</db:result>")).await;
        conn.until("<item-not-found ").await;
    }
    let asked = world.dns.asked();
    assert!(asked.is_empty(), "{asked:?}");
    world.is_alive().await;
}
