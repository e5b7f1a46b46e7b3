//! The admin interface: a socket that only this host reaches, or somebody has to prove that he may.

use std::{net::SocketAddr, path::Path};

use super::{overlap, without_places};
use crate::config::{
    model::{Admin, Listen},
    problem::{At, Reports, Wrong},
    read::Section,
    value,
};

pub(super) fn check(
    top: &Section<'_>,
    state_dir: &Path,
    listen: &Listen,
    directory: &Path,
    out: &mut Reports<'_>,
) -> Admin {
    let section = top.section("admin", &["socket", "http", "token_file", "write"], out);
    let Some(section) = section else {
        return Admin {
            socket: Some(state_dir.join(SOCKET)),
            http: Vec::new(),
            token_file: None,
            write: false,
        };
    };
    let socket = |text: &str| match text {
        "off" => Ok(None),
        _ => value::path(text, directory).map(Some),
    };
    let socket = section.text("socket", socket, out);
    let token_file = section.text("token_file", |text| value::path(text, directory), out);
    let http = match section.empty_list("http") {
        Some(_) => Vec::new(),
        None => section.one_or_list("http", value::listen_address, out).unwrap_or_default(),
    };
    check_addresses(&http, token_file.is_some() || section.get("token_file").is_some(), out);
    let streams = [&listen.public, &listen.direct_tls, &listen.local];
    let streams: Vec<_> = streams.into_iter().flatten().collect();
    for (address, at) in &http {
        if let Some(other) = streams.iter().find(|other| overlap(***other, *address)) {
            out.error(*at, Wrong::new(format!("{address} is taken by {other} of \"listen\"")));
        }
    }
    let words = [("true", true), ("false", false)];
    let write = section.text("write", |text| value::word(text, "value", &words), out);
    if let (Some(pair), true) = (section.pair("write"), write == Some(true) && http.is_empty()) {
        let wrong = Wrong::new("\"admin.write\" without \"admin.http\"");
        out.warning(pair.at, wrong.hint("the socket takes commands anyway"));
    }
    Admin {
        socket: socket.unwrap_or_else(|| Some(state_dir.join(SOCKET))),
        http: without_places(http),
        token_file,
        write: write.unwrap_or(false),
    }
}

/// What others can reach is for those who know the token.
fn check_addresses(http: &[(SocketAddr, At)], has_token: bool, out: &mut Reports<'_>) {
    for (address, at) in http {
        if !address.ip().to_canonical().is_loopback() && !has_token {
            let wrong = Wrong::new(format!(
                "\"admin.http\" on {address} without \"admin.token_file\": others can reach it"
            ));
            out.error(*at, wrong.hint("take 127.0.0.1, or name a file with a token"));
        }
    }
}

/// In the state directory.
const SOCKET: &str = "admin.sock";
