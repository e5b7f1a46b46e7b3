//! `POST /api/ping`: who pings whom stands in the body.

use hyper::{Response, StatusCode};
use serde::Deserialize;

use super::api::{Body, json, refusal};
use crate::{proxy::Monitor, xmpp::Domain};

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    local: String,
    remote: String,
}

/// Pings, and tells how it went.
pub(super) async fn answer(monitor: &Monitor, body: &[u8]) -> Response<Body> {
    let (local, remote) = match read(body) {
        Ok(pair) => pair,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, &why),
    };
    match monitor.ping(&local, &remote).await {
        Ok(report) => json(StatusCode::OK, &report),
        Err(why) => refusal(StatusCode::CONFLICT, &why.to_string()),
    }
}

fn read(body: &[u8]) -> Result<(Domain, Domain), String> {
    let Pair { local, remote } =
        serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    let domain =
        |name: &str| Domain::parse(name).map_err(|error| format!("the domain {name:?}: {error}"));
    Ok((domain(&local)?, domain(&remote)?))
}
