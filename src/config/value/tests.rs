//! What each kind of scalar takes and refuses.

use super::*;

const SIZES: RangeInclusive<usize> = 1..=usize::MAX;

#[test]
fn sizes_and_times_need_a_unit_that_is_known() {
    for (text, bytes) in [("1B", 1), ("512KiB", 524_288), ("2 MiB", 2 << 20)] {
        assert_eq!(size(text, &SIZES), Ok(bytes), "{text}");
    }
    for text in
        ["", "1", "KiB", "1KB", "1kib", "1.5MiB", "-1B", "+1B", "0x1B", "1 B B", "１B", "0B"]
    {
        assert!(size(text, &SIZES).is_err(), "{text:?}");
    }
    let all = Duration::ZERO..=Duration::MAX;
    for (text, millis) in [("250ms", 250), ("60s", 60_000), ("30m", 1_800_000), ("2h", 7_200_000)] {
        assert_eq!(duration(text, &all), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["60", "1d", "1 day", "1h30m", "s", "999999999999999h", "9999999999999999s"] {
        assert!(duration(text, &all).is_err(), "{text:?}");
    }
}

#[test]
fn numbers_are_decimal_and_nothing_else() {
    let all = 0..=usize::MAX;
    assert_eq!(count("0", &all), Ok(0));
    assert_eq!(count("10", &all), Ok(10));
    for text in ["", "010", "1_000", "0x10", "1e3", "-1", "1.0", "٣", "99999999999999999999999"] {
        assert!(count(text, &all).is_err(), "{text:?}");
    }
}

#[test]
fn bounds_are_shown_in_units_that_hold_them_exactly() {
    let shown = |wrong: Wrong| format!("{wrong:?}");
    assert!(shown(size("1B", &(10_000..=20_000)).unwrap_err()).contains("at least 10000B"));
    assert!(shown(size("2MiB", &(0..=1 << 20)).unwrap_err()).contains("at most 1MiB"));
    let quarter = Duration::from_mins(15)..=Duration::from_hours(1);
    assert!(shown(duration("1s", &quarter).unwrap_err()).contains("at least 15m"));
}

#[test]
fn hosts_are_names_or_addresses_with_a_port() {
    for text in
        ["127.0.0.1:5269", "[::1]:5269", "jabberd_2:5269", "a.example.:1", "localhost:65535"]
    {
        assert_eq!(host_port(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        ":5269",
        "a",
        "a:0",
        "a:65536",
        "a:b",
        "::1",
        "::1:5269",
        "0.0.0.0:1",
        "[::]:1",
        "[::1]",
        "256.0.0.1:5269",
        "127.1:5269",
        "a..b:1",
        "a b:1",
        "a/b:1",
        "user@a:1",
        "[a]:1",
        "-:",
    ] {
        assert!(host_port(text).is_err(), "{text:?}");
    }
}

#[test]
fn networks_are_exact_and_mapped_ones_are_ipv4() {
    for (text, is) in [
        ("203.0.113.7", "203.0.113.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(network(text).unwrap().to_string(), is, "{text}");
    }
    for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0/8", "2001:db8::1/32", "a.example", "", "/8"] {
        assert!(network(text).is_err(), "{text:?}");
    }
}

#[test]
fn patterns_come_in_one_form_however_they_are_spelt() {
    let below = |text: &str| Ok(Pattern::Below(text.into()));
    let exact = |text: &str| Ok(Pattern::Exact(Domain::parse(text).unwrap()));
    assert_eq!(pattern("*"), Ok(Pattern::Any));
    assert_eq!(pattern("*.Example.COM"), below("example.com"));
    assert_eq!(pattern("*.test"), below("test"));
    assert_eq!(pattern("*.BÜCHER.example"), below("xn--bcher-kva.example"));
    assert_eq!(pattern("BÜCHER.example"), exact("xn--bcher-kva.example"));
    assert_eq!(pattern("evil。example"), exact("evil.example"));
    for text in [
        "",
        "*.",
        "**",
        "*a.example",
        "a.*",
        "a.*.b",
        "*.*.b",
        ".a.example",
        "a.example.",
        "*.a.example.",
        "a.example。",
        "localhost",
        "*.1.2.3.4",
        "1.2.3.4",
        "*.straße.example",
        "*..a",
        "* .a",
        "*.a b",
    ] {
        assert!(pattern(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_log_filter_has_levels_only_where_levels_stand() {
    for text in ["info", "off", "warn,fedgate=debug", "fedgate::net::leg=trace"] {
        assert_eq!(log_filter(text).as_deref(), Ok(text));
    }
    // a filter of tracing would take a misspelt level for the name of a target
    for text in
        ["inof", "", "INFO", "warn,", "=debug", "fedgate=", "fedgate", "a b=info", "warn, a=info"]
    {
        assert!(log_filter(text).is_err(), "{text:?}");
    }
}

#[test]
fn addresses_to_listen_on_are_no_names() {
    assert!(listen_address("[::]:5269").is_ok());
    assert!(listen_address("127.0.0.1:0").is_ok());
    for text in ["5269", ":5269", "*:5269", "localhost:5269", "::1", "::1:5269", "0.0.0.0"] {
        assert!(listen_address(text).is_err(), "{text:?}");
    }
    assert_eq!(name_server("::1").unwrap().to_string(), "[::1]:53");
    assert_eq!(name_server("10.0.0.4:5353").unwrap().to_string(), "10.0.0.4:5353");
    for text in ["ns.example", "10.0.0.4:0", "0.0.0.0", ""] {
        assert!(name_server(text).is_err(), "{text:?}");
    }
}
