//! Legacy servers that fail (protocol §12.2, §12.6): the peer learns it in time, and all is well
//! again when they are.

use crate::world::{Conn, Manner, Plan, Station, Style, World, assert_error};

const QUICK: Plan =
    Plan { config: "limits: { connect: 2s, tcp_connect: 1s, write_stall: 2s }", ..Plan::DEFAULT };

/// Asks for a pair that the certificate proves, and takes the answer.
async fn ask(conn: &mut Conn, domain: &str) -> String {
    conn.say(format!("<db:result from='{domain}' to='old.test'>k</db:result>")).await;
    let start = conn.until("<db:result from='old.test' ").await;
    let end = conn.until(">").await;
    if end.ends_with("/>") {
        start + &end
    } else {
        start + &end + &conn.until("</db:result>").await
    }
}

#[tokio::test]
async fn a_pair_that_the_legacy_server_does_not_take_is_an_error_and_later_valid() {
    let mut world = World::with(QUICK).await;
    for (n, (manner, words)) in [
        (Manner::Closes, ""),
        (Manner::ClosesOnRequest, ""),
        (Manner::Garbage, "bad-format"),
        (Manner::GarbageOnRequest, "not-well-formed"),
        (Manner::NoId, ""),
        (Manner::Invalid, ""),
        (Manner::Error, ""),
        (Manner::Mute, "connection-timeout"),
        (Manner::MuteOnRequest, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let domain = format!("p{n}.test");
        let mut conn = world.proven(&domain).await;
        world.legacy.behave(manner);
        let answer = ask(&mut conn, &domain).await;
        assert!(answer.contains("<internal-server-error "), "{manner:?}: {answer}");
        if !words.is_empty() {
            // §1.3: the legacy server is told what it did
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
            while !world.legacy.words().contains(&format!("<{words} ")) {
                tick.tick().await;
            }
            let said = world.legacy.words();
            assert_error(&said[said.rfind("<stream:error>").unwrap()..], words);
        }
        world.legacy.behave(Manner::Honest);
        if n > 0 {
            world.reload("").unwrap(); // makes the gate try at once
        }
        // else by itself, on the same stream
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        while !ask(&mut conn, &domain).await.contains("type='valid'") {
            tick.tick().await;
        }
        let stanza = format!("<message from='m@{domain}' to='bob@old.test'/>");
        conn.say(&stanza).await;
        assert_eq!(world.legacy.arrival().await, stanza);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_legacy_server_that_moves_gets_what_comes_at_its_new_place() {
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    let stanza = |n| format!("<message from='m@evil.test' to='bob@old.test' id='{n}'/>");
    conn.say(stanza(1)).await;
    assert_eq!(world.legacy.arrival().await, stanza(1));
    let mut elsewhere = Station::start("old.test", Style::Modern, None).await;
    elsewhere.steer(world.local());
    let file = world.path().join("10.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (old, new) = (world.legacy.address.to_string(), elsewhere.address.to_string());
    std::fs::write(&file, text.replace(&old, &new)).unwrap();
    world.reload("").unwrap();
    // what is said before the gate has looked at its streams still goes to the old place
    for n in 2..1000 {
        conn.say(stanza(n)).await;
        tokio::select! {
            arrived = elsewhere.arrival() => return assert_eq!(arrived, stanza(n)),
            arrived = world.legacy.arrival() => assert_eq!(arrived, stanza(n)),
        }
    }
    panic!("all of it goes to the old place");
}

#[tokio::test]
async fn stanzas_that_the_legacy_server_does_not_take_go_back_to_the_peer() {
    // EXTERNAL cannot be held back, so what comes after it bounces
    let mut world = World::with(QUICK).await;
    world.legacy.behave(Manner::Closes);
    let mut conn = world.authenticated("good.test").await;
    conn.say("<message from='ann@good.test/x' to='bob@old.test' id='9'><body>hi</body></message>")
        .await;
    let bounce = world.good.arrival().await;
    assert!(
        bounce.starts_with(
            "<message from='bob@old.test' to='ann@good.test/x' id='9' type='error'><error "
        ),
        "{bounce}"
    );
    assert!(
        bounce.contains("<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>")
    );
    // an error that cannot be delivered is not answered
    conn.say("<message type='error' from='ann@good.test/x' to='bob@old.test' id='9'/>").await;
    conn.say("<iq type='get' from='ann@good.test/x' to='bob@old.test' id='10'/>").await;
    let bounce = world.good.arrival().await;
    assert!(bounce.starts_with("<iq ") && bounce.contains("id='10'"), "{bounce}");
    world.legacy.behave(Manner::Honest);
    world.reload("").unwrap();
    world.is_alive().await;
}

#[tokio::test]
async fn a_legacy_server_that_ends_its_streams_gets_the_next_stanza_over_another() {
    let mut world = World::with(QUICK).await;
    let mut conn = world.authenticated("evil.test").await;
    let stanza = |n| format!("<message from='m@evil.test' to='bob@old.test' id='{n}'/>");
    conn.say(stanza(1)).await;
    assert_eq!(world.legacy.arrival().await, stanza(1));
    world.legacy.behave(Manner::ErrorOnStanza);
    conn.say(stanza(2)).await; // written, and thrown away there
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
    while !world.legacy.words().contains("</stream:stream>") {
        tick.tick().await;
    }
    world.legacy.behave(Manner::Honest);
    conn.say(stanza(3)).await;
    assert_eq!(world.legacy.arrival().await, stanza(3));
    world.is_alive().await;
}
