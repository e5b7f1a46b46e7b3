//! Whether a stanza costs more where there is more of everything else.

use std::path::Path;

use super::{
    bulk::{Flow, Load},
    conn::Packing,
    report::{Figure, Row, median},
    stanzas::{Direction, Form},
    starting::rules,
    subject::{Extra, Subject},
};

/// What there is more of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum More {
    /// Peers with a stream each that say nothing.
    Peers,
    /// Peers that send in turns.
    PeersActive,
    /// Domain pairs of one peer's stream that say nothing.
    Pairs,
    /// Such pairs that send in turns.
    PairsActive,
    /// Rules for others.
    Rules,
}

/// So many peers send, and so many rules there are, where there are few.
pub(crate) const FEW: usize = 10;

/// Stanzas that one sends when it is its turn: 16 kB.
const BATCH: u64 = 54;

impl More {
    pub(crate) const ALL: [Self; 5] =
        [Self::Peers, Self::PeersActive, Self::Pairs, Self::PairsActive, Self::Rules];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::PeersActive => "peers-active",
            Self::Pairs => "pairs",
            Self::PairsActive => "pairs-active",
            Self::Rules => "rules",
        }
    }

    /// All of them send, each when it is its turn.
    fn is_active(self) -> bool {
        matches!(self, Self::PeersActive | Self::PairsActive)
    }
}

/// Measures with few and with `many`, in turns, and compares the two.
pub(crate) async fn measure(
    scenario: &str,
    subject: &Subject,
    more: More,
    many: usize,
    (runs, count): (usize, u64),
    directory: &Path,
) -> anyhow::Result<Row> {
    let load = |streams| Load {
        direction: Direction::In,
        form: Form::TEXT,
        streams,
        joined: matches!(more, More::Pairs | More::PairsActive),
        packing: Packing::Many,
        count,
    };
    let (peers, number_of_rules) = if more == More::Rules { (FEW, many) } else { (many, FEW) };
    let with = |number| anyhow::Ok(Extra { rules: rules(number)?, ..Extra::default() });
    let low = Flow::open(subject, load(FEW), directory, &with(FEW)?).await?;
    let high = Flow::open(subject, load(peers), directory, &with(number_of_rules)?).await?;
    // All peers have said something before; this is the warm-up, too.
    low.run(count / 4).await?;
    high.run((count / 4).max(peers as u64)).await?;
    let (mut ratios, mut all) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (few, measured) = if more.is_active() {
            let few = low.run_in_turns(FEW, BATCH, count).await?;
            (few, high.run_in_turns(FEW, BATCH, count).await?)
        } else {
            (low.run(count).await?, high.run_over(FEW, count).await?)
        };
        ratios.push(measured.cpu_per_million() / few.cpu_per_million());
        all.push(measured);
    }
    let mut row = Row::new(scenario, subject.label(), all);
    // What is promised is that nothing costs more for what there is beside it. Where all of it is
    // used in turns, the kernel alone may come to more: its sockets are not in the caches.
    let target = (subject.is_fedgate() && !more.is_active()).then_some(1.2);
    row.figures.push(Figure { what: "CPU with many to few", value: median(ratios), target });
    Ok(row)
}
