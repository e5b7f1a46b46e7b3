//! How a route gets its pair onto a stream: one that is open and may be shared, or a new one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    dial::{self, Way},
    gate::Gate,
    lanes::{Boarding, Returned},
    opened,
    route::Route,
    rules,
    sharing::Join,
    steps::Steps,
};
use crate::{
    stream::{Failure, FailureKind},
    xmpp::{Direction, Side},
};

/// Gets the pair of `route` onto a stream, one of its own if `alone`. What is returned resolves
/// when it is carried no more. What was done on the way is told to `steps`.
///
/// # Errors
/// Why no stream comes about.
pub(super) async fn embark(
    gate: &Arc<Gate>,
    route: &Arc<Route>,
    alone: bool,
    steps: &Steps,
) -> Result<oneshot::Receiver<Returned>, Failure> {
    let (side, pair, lang) = (route.side(), route.pair(), route.lang().cloned());
    let (back, returned) = oneshot::channel();
    let (route, trust) = (Arc::clone(route), gate.trust());
    let boarding = Boarding { route, proof: None, chain: None, trust, back };
    let boarding = Box::new(boarding);
    let boarding = if side == Side::Peer && !alone {
        rules::allowed(&gate.config(), pair, Direction::Outbound)?;
        match gate.sharing().board_return(boarding) {
            Ok(()) => return Ok(returned),
            Err(boarding) => boarding,
        }
    } else {
        boarding
    };
    let mut join = Join::new(gate, pair, lang.clone(), boarding);
    let may_join = (side == Side::Peer && !alone).then_some(&mut join);
    match dial::open(gate, side, pair, lang, may_join, steps).await? {
        Way::Joined => {}
        Way::Own(live) => opened::launch(gate, side, live, join)
            .ok_or_else(|| Failure::new(FailureKind::Stream, "nothing to carry"))?,
    }
    Ok(returned)
}
