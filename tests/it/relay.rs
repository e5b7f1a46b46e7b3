//! What stanzas are when they arrive (protocol §13.3; attack rows ): the bytes that were
//! sent, and of the old stream's header only what they cannot do without.

use crate::world::{Plan, World, header_with};

/// Says `sent` on a stream with this header; what the old server gets.
async fn relayed(world: &mut World, attributes: &str, sent: &str) -> String {
    let header = header_with(&format!("from='evil.test' to='old.test' version='1.0'{attributes}"));
    let mut conn = world.authenticated_with(&header, "evil.test").await;
    conn.say(sent).await;
    world.legacy.arrival().await
}

#[tokio::test]
async fn stanzas_arrive_byte_by_byte_as_they_were_sent() {
    // XML-11, A-75
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    let start = "<message from='m@evil.test' to='bob@old.test'";
    let stanzas = [
        format!(
            "{start}><body><![CDATA[<b>&amp;]]]]><![CDATA[></stream:stream>]]></body></message>"
        ),
        format!("{start} \n a = \"1\"\tb='&#x41;&lt;'  ><body>&#233;&apos;\r\n</body ></message >"),
        format!("{start}/>"),
        format!("{start}><x xmlns='jabber:server:dialback'><result type='valid'/></x></message>"),
        format!("{start}><error xmlns='http://etherx.jabber.org/streams'/></message>"),
        format!("{start}><p:x xmlns:p='u' p:a='1'/><body>\u{1f600} \u{10ffff}</body></message>"),
        format!("{start}><message from='x' to='y'/></message>"),
        "<iq to='old.test' id='1' type='get' from='evil.test'><q xmlns='x:y'/></iq>".to_owned(),
        "<presence from='m@evil.test/r' to='bob@old.test' xmlns='jabber:server'/>".to_owned(),
    ];
    // in one segment, and in many
    conn.say(stanzas.concat()).await;
    for stanza in &stanzas {
        conn.say(&stanza[..20]).await;
        conn.say(&stanza[20..]).await;
        conn.say(" \n").await; // ST-18: between stanzas, and not relayed
    }
    for stanza in stanzas.iter().chain(&stanzas) {
        assert_eq!(world.legacy.arrival().await, *stanza);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn prefixes_of_the_old_header_stay_bound_on_the_new_stream() {
    // A-73, XML-8
    let mut world = World::start().await;
    let sent = "<message from='m@evil.test' to='bob@old.test'><p:x q:a='1'/></message>";
    let got = relayed(&mut world, " xmlns:p='urn:p' xmlns:q='urn:q&amp;'", sent).await;
    assert_eq!(
        got,
        "<message xmlns:p='urn:p' xmlns:q='urn:q&amp;' from='m@evil.test' to='bob@old.test'>\
         <p:x q:a='1'/></message>"
    );
    // what the new stream has under the same name is no child of ours
    let sent = "<message from='m@evil.test' to='bob@old.test'><db:result type='valid'/>\
                <stream:error/></message>";
    let got = relayed(&mut world, "", sent).await;
    assert!(got.ends_with("<db:result type='valid'/><stream:error/></message>"), "{got}");
    world.is_alive().await;
}

#[tokio::test]
async fn the_language_of_the_old_header_goes_along() {
    // XML-10
    let mut world = World::start().await;
    let plain = "<message from='m@evil.test' to='bob@old.test'><body>x</body></message>";
    let own =
        "<message from='m@evil.test' to='bob@old.test' xml:lang='fr'><body>x</body></message>";
    // the first stream's language is that of the stream to the old server
    assert_eq!(relayed(&mut world, " xml:lang='de'", plain).await, plain);
    assert!(world.legacy.headers().iter().any(|header| header.contains("lang: Some(\"de\")")));
    assert_eq!(relayed(&mut world, " xml:lang='de'", own).await, own);
    // another one's is stamped on its stanzas
    assert_eq!(
        relayed(&mut world, " xml:lang='it'", plain).await,
        "<message xml:lang='it' from='m@evil.test' to='bob@old.test'><body>x</body></message>"
    );
    assert_eq!(relayed(&mut world, " xml:lang='it'", own).await, own);
    world.is_alive().await;
}

#[tokio::test]
async fn a_thousand_stanzas_each_way_arrive_once_and_in_order() {
    let mut world = World::with(Plan { external: false, ..Plan::DEFAULT }).await;
    let mut inbound = world.good.open("old.test").await;
    let mut outbound = world.legacy.open("good.test").await;
    let stanza =
        |from: &str, to: &str, n: u32| format!("<message from='{from}' to='{to}' id='{n}'/>");
    let all = |from: &str, to: &str| (0..1000).map(|n| stanza(from, to, n)).collect::<String>();
    let (ann, bob) = ("ann@good.test", "bob@old.test");
    let (there, back) = (all(bob, ann), all(ann, bob));
    tokio::join!(outbound.say(&there), inbound.say(&back));
    for n in 0..1000 {
        assert_eq!(world.legacy.arrival().await, stanza(ann, bob, n));
        assert_eq!(world.good.arrival().await, stanza(bob, ann, n));
    }
    world.is_alive().await;
}
