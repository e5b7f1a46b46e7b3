//! Several files as one tree: mappings merge by key, lists add up, and what two files say
//! differently is an error that names both places.

use super::{
    problem::{Reports, Wrong, quote},
    raw::{Kind, Node, Pair},
};

/// Merges the tree of a later file into those of the files before it.
pub(super) fn merge(all: &mut Node, next: Node, out: &mut Reports<'_>) {
    merge_at(&[], all, next, out);
}

/// `path` leads to the value, from the top.
fn merge_at(path: &[&str], all: &mut Node, next: Node, out: &mut Reports<'_>) {
    let key = path.last().copied().unwrap_or_default();
    let earlier = out.exact(all.at);
    match (&mut all.kind, next.kind) {
        (Kind::Map(pairs), Kind::Map(more)) => {
            for pair in more {
                merge_pair(path, pairs, pair, out);
            }
        }
        (Kind::List(items), Kind::List(more)) => items.extend(more),
        (Kind::Text(a), Kind::Text(b)) if *a == b => {}
        (Kind::Text(a), Kind::Text(b)) => {
            let values = format!("({} / {})", quote(a), quote(&b));
            let wrong = format!("conflicts with {earlier}: both set \"{key}\" {values}");
            out.error(next.at, Wrong::new(wrong).hint("set it in one file only"));
        }
        // without a value, which is reported where it is read
        (Kind::Null, _) => {}
        (_, Kind::Null) => all.kind = Kind::Null,
        (Kind::Text(_) | Kind::List(_) | Kind::Map(_), _) => {
            let wrong = format!("conflicts with {earlier}: \"{key}\" is of another kind there");
            out.error(next.at, Wrong::new(wrong));
        }
    }
}

fn merge_pair(path: &[&str], pairs: &mut Vec<Pair>, pair: Pair, out: &mut Reports<'_>) {
    let Some(same) = pairs.iter_mut().find(|p| p.key == pair.key) else {
        pairs.push(pair);
        return;
    };
    if path == ["legacy"] {
        let wrong = format!(
            "conflicts with {}: both configure the legacy server {}",
            out.exact(same.at),
            quote(&pair.key)
        );
        out.error(pair.at, Wrong::new(wrong).hint("one server stands in one file"));
        return;
    }
    merge_at(&[path, &[&*pair.key]].concat(), &mut same.value, pair.value, out);
}
