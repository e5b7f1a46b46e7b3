//! Peers that are slow, many, loud or deaf (attack rows ): everything is bounded
//! in time and number, and others are served meanwhile.

use crate::world::{Conn, PROCEED, Plan, STARTTLS, World, has_xml, header};

const SLOW: Plan = Plan { config: "limits: { negotiation: 1s }", ..Plan::DEFAULT };

#[tokio::test]
async fn a_peer_that_is_not_done_in_time_is_sent_away() {
    // at every stage of negotiation
    let mut world = World::with(SLOW).await;
    let mut silent = world.connect().await;
    let mut half_header = world.connect().await;
    half_header.say("<?xml version='1.0'?><stream:stream to=").await;
    let mut clear = world.clear("evil.test").await;
    let mut asked = world.clear("evil.test").await;
    asked.say(STARTTLS).await;
    asked.until(PROCEED).await;
    let mut hello = world.clear("evil.test").await;
    hello.say(STARTTLS).await;
    hello.until(PROCEED).await;
    hello.say([0x16, 3, 1, 2, 0, 1]).await;
    let mut direct = Conn::open(world.direct(), "127.0.0.1").await;
    direct.say([0x16]).await;
    let mut secured = world.secured(None).await;
    let (mut open, _) = world.unproven("evil.test").await;
    let mut proven = world.proven("evil.test").await;
    for conn in [&mut silent, &mut half_header, &mut secured] {
        conn.ends_with_header_and("policy-violation").await;
    }
    for conn in [&mut clear, &mut open, &mut proven] {
        conn.ends_with("policy-violation").await;
    }
    for conn in [&mut asked, &mut hello, &mut direct] {
        assert!(!has_xml(&conn.rest_bytes().await));
    }
    world.is_alive().await;
}

#[tokio::test]
async fn an_element_that_is_never_complete_ends_the_stream() {
    // also of one who is authenticated, and also when it trickles
    let mut world = World::with(SLOW).await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say("<message from='m@evil.test' to='bob@old.test'><body>").await;
    conn.ends_with("policy-violation").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say("<message from='m@evil.test' to='bob@old.test'><body>").await;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    while conn.try_say(b"x").await.is_ok() {
        tick.tick().await;
    }
    // a second stream header would be one too: it is not waited for
    let mut conn = world.authenticated("evil.test").await;
    conn.say(header("evil.test", "old.test").trim_start_matches("<?xml version='1.0'?>")).await;
    conn.ends_with("bad-format").await;
    world.is_alive().await;
}

#[tokio::test]
async fn asking_for_ever_does_not_stand_for_authentication() {
    // one domain after the other that nobody proves
    let config = "limits: { negotiation: 1s, connect: 1s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let (mut conn, _) = world.unproven("evil.test").await;
    for n in 0..1000 {
        world.dns.silence(&format!("silent{n}.test"));
    }
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    for n in 0.. {
        let request = format!("<db:result from='silent{n}.test' to='old.test'>k</db:result>");
        if conn.try_say(request.as_bytes()).await.is_err() {
            break;
        }
        tick.tick().await;
    }
    assert!(conn.rest().await.contains("<policy-violation "));
    world.is_alive().await;
}

#[tokio::test]
async fn white_space_does_not_stand_for_authentication() {
    // endless white space, before the header and after it
    let mut world = World::with(SLOW).await;
    for mut conn in [world.connect().await, world.clear("evil.test").await] {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        let spaces = [b' '; 1024];
        while conn.try_say(&spaces).await.is_ok() {
            tick.tick().await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn one_address_holds_only_so_many_connections() {
    // a thousand of them
    let mut world = World::start().await;
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        let mut conn = Conn::open(world.public(), "127.0.0.66").await;
        conn.say(header("evil.test", "old.test")).await;
        if served.len() < 32 {
            conn.until("</stream:features>").await;
            served.push(conn);
        } else {
            conn.ends_silently().await;
            refused += 1;
        }
    }
    assert_eq!((served.len(), refused), (32, 968));
    world.is_alive().await; // from another address
    // places are free again when their holders are gone
    for conn in &mut served {
        conn.say("</stream:stream>").await;
        conn.rest().await;
    }
    drop(served);
    let mut conn = again(&world).await;
    conn.say("</stream:stream>").await;
    world.is_alive().await;
}

/// A stream from the address that had no place left. The gate notices an end a moment later.
async fn again(world: &World) -> Conn {
    loop {
        let mut conn = Conn::open(world.public(), "127.0.0.66").await;
        conn.say(header("evil.test", "old.test")).await;
        if conn.chunk().await.is_some() {
            return conn;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_its_answers_is_cut_off() {
    // questions are cheap, answers pile up
    let config = "limits: { write_stall: 1s, dialback_rate: off, bytes_before_auth: 64MiB }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let mut conn = Conn::open_narrow(world.public()).await;
    conn.say(header("anybody.test", "old.test")).await;
    conn.until("</stream:features>").await;
    conn.say(STARTTLS).await;
    conn.until(PROCEED).await;
    conn.connect_tls(world.authority.client(None, &[]), "old.test").await.unwrap();
    conn.say(header("evil.test", "old.test")).await;
    conn.until("</stream:features>").await;
    let question = "<db:verify from='evil.test' to='old.test' id='i'>k</db:verify>".repeat(100);
    let mut sent = 0;
    while conn.try_say(question.as_bytes()).await.is_ok() {
        sent += question.len();
        assert!(sent < 100 << 20, "taken without end");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_flood_of_questions_that_are_cheap_is_answered_one_by_one() {
    //
    let config = "limits: { dialback_rate: off, bytes_before_auth: 1MiB }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let (mut conn, _) = world.unproven("evil.test").await;
    for _ in 0..100 {
        let question = "<db:verify from='evil.test' to='old.test' id='i'>k</db:verify>";
        conn.say(question.repeat(100)).await;
        for _ in 0..100 {
            conn.until("type='invalid'/>").await;
        }
    }
    world.is_alive().await;
}
