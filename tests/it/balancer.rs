//! Load balancers that hand connections on with a PROXY header: the address in it is what limits
//! and rules see, and nobody else's header counts.

use crate::world::{Conn, FEATURES_END, World, header};

const BALANCER: &str = "127.0.0.77";
const CONFIG: &str = "listen: { proxy_protocol: [127.0.0.77, 127.0.1.0/24] }
limits: { connections_per_address: 2 }
rules: [{ address: 192.0.2.66, allow: none }]
";

async fn world() -> World {
    let mut world = World::start().await;
    world.reload(CONFIG).unwrap();
    world
}

/// A connection of the balancer that begins with these bytes, and then with a stream.
async fn handed_on(world: &World, first: impl AsRef<[u8]>) -> Conn {
    let mut conn = Conn::open(world.public(), BALANCER).await;
    let stream = header("evil.test", "old.test");
    conn.say([first.as_ref(), stream.as_bytes()].concat()).await;
    conn
}

fn line(source: &str) -> String {
    format!("PROXY TCP4 {source} 127.0.0.1 40000 5269\r\n")
}

/// The header of version 2.
fn binary(command: u8, source: [u8; 4]) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, 0x11, 0, 12], &source, &[127, 0, 0, 1, 0x9c, 0x40, 0x14, 0x95]]
        .concat()
}

#[tokio::test]
async fn a_stream_begins_right_behind_the_header() {
    let mut world = world().await;
    for first in [line("192.0.2.1").into_bytes(), binary(0x21, [192, 0, 2, 2])] {
        let mut conn = handed_on(&world, first).await;
        conn.until(FEATURES_END).await;
        conn.say("</stream:stream>").await;
        conn.rest().await;
    }
    // TLS at once, from a network of balancers, and the header in two pieces
    let mut conn = Conn::open(world.direct(), "127.0.1.9").await;
    let line = line("192.0.2.3");
    let (first, second) = line.split_at(17);
    conn.say(first).await;
    conn.say(second).await;
    conn.connect_tls(world.authority.client(None, &["xmpp-server"]), "old.test").await.unwrap();
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    world.is_alive().await;
}

#[tokio::test]
async fn rules_and_limits_hold_for_the_address_in_the_header() {
    let mut world = world().await;
    handed_on(&world, line("192.0.2.66")).await.ends_silently().await;
    handed_on(&world, binary(0x21, [192, 0, 2, 66])).await.ends_silently().await;
    let mut served = Vec::new();
    for source in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
        let mut conn = handed_on(&world, line(source)).await;
        conn.until(FEATURES_END).await;
        served.push(conn);
    }
    handed_on(&world, line("192.0.2.1")).await.ends_silently().await;
    handed_on(&world, line("192.0.2.3")).await.until(FEATURES_END).await;
    world.is_alive().await;
}

#[tokio::test]
async fn the_balancers_own_connections_are_served_as_such() {
    let mut world = world().await;
    for first in [binary(0x20, [0; 4]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut conn = handed_on(&world, first).await;
        conn.until(FEATURES_END).await;
        conn.say("</stream:stream>").await;
        conn.rest().await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_balancer_without_a_header_and_anybody_else_with_one_are_not_served() {
    let mut world = world().await;
    let garbage = [
        String::new(),
        line("192.0.2.1").replace("TCP4", "TCP6"),
        line("192.0.2.1").replace('\r', ""),
        "x".repeat(200),
    ];
    for first in garbage {
        handed_on(&world, first).await.ends_silently().await;
    }
    for first in [line("192.0.2.1").into_bytes(), binary(0x21, [192, 0, 2, 1])] {
        let mut conn = world.connect().await;
        conn.say([&first[..], header("evil.test", "old.test").as_bytes()].concat()).await;
        let text = conn.rest().await;
        assert!(!text.contains("<stream:features>"), "{text}");
    }
    world.is_alive().await;
}
