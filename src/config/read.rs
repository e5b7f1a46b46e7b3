//! Reading a tree by what its keys need. Each reader reports what is wrong and goes on, so that
//! one pass finds everything.

use super::{
    problem::{At, Reports, Wrong, quote},
    raw::{Kind, Node, Pair},
};

/// A mapping whose keys are known.
pub(super) struct Section<'n> {
    pairs: &'n [Pair],
    /// Where it begins.
    pub(super) at: At,
    /// Whether it is a mapping at all; if not, that is reported and nothing is missed in it.
    pub(super) is_mapping: bool,
}

impl<'n> Section<'n> {
    /// Reads a mapping; any other value and every unknown key is reported.
    pub(super) fn of(node: &'n Node, what: &str, keys: &[&str], out: &mut Reports<'_>) -> Self {
        let pairs = Self::free(node, what, out);
        for pair in pairs.iter().filter(|pair| !keys.contains(&&*pair.key)) {
            let wrong = Wrong::new(format!("unknown key {}", quote(&pair.key)));
            out.error(pair.at, wrong.hint(nearest(&pair.key, keys)));
        }
        let is_mapping = matches!(node.kind, Kind::Map(_));
        Self { pairs, at: node.at, is_mapping }
    }

    /// Reads a mapping with free keys.
    pub(super) fn free(node: &'n Node, what: &str, out: &mut Reports<'_>) -> &'n [Pair] {
        match &node.kind {
            Kind::Map(pairs) => pairs,
            Kind::Null | Kind::Text(_) | Kind::List(_) => {
                out.error(node.at, expected("a mapping", what, node));
                &[]
            }
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.pair(key).map(|pair| &pair.value)
    }

    /// A key and its value.
    pub(super) fn pair(&self, key: &str) -> Option<&'n Pair> {
        self.pairs.iter().find(|pair| &*pair.key == key)
    }

    /// The place of a list that is there and has nothing in it.
    pub(super) fn empty_list(&self, key: &str) -> Option<At> {
        let node = self.get(key)?;
        matches!(&node.kind, Kind::List(items) if items.is_empty()).then_some(node.at)
    }

    /// The section under a key.
    pub(super) fn section(
        &self,
        key: &str,
        keys: &[&str],
        out: &mut Reports<'_>,
    ) -> Option<Section<'n>> {
        Some(Section::of(self.get(key)?, key, keys, out))
    }

    /// The value of a key, if it is there and right.
    pub(super) fn text<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
        out: &mut Reports<'_>,
    ) -> Option<T> {
        text(self.get(key)?, key, parse, out)
    }

    /// The same for a key that has to be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
        out: &mut Reports<'_>,
    ) -> Option<T> {
        match self.get(key) {
            Some(node) => text(node, key, parse, out),
            None => {
                self.missing(key, out);
                None
            }
        }
    }

    /// Reports a key that has to be there.
    pub(super) fn missing(&self, key: &str, out: &mut Reports<'_>) {
        if self.is_mapping {
            out.error(self.at, Wrong::new(format!("\"{key}\" is missing")));
        }
    }

    /// The right ones of a list and their places; none if the key is not there.
    pub(super) fn list<T>(
        &self,
        key: &str,
        parse: impl FnMut(&str) -> Result<T, Wrong>,
        out: &mut Reports<'_>,
    ) -> Option<Vec<(T, At)>> {
        let node = self.get(key)?;
        Some(texts(items(node, key, out), key, parse, out))
    }

    /// The same where a single value need not be a list.
    pub(super) fn one_or_list<T>(
        &self,
        key: &str,
        parse: impl FnMut(&str) -> Result<T, Wrong>,
        out: &mut Reports<'_>,
    ) -> Option<Vec<(T, At)>> {
        Some(one_or_list(self.get(key)?, key, parse, out))
    }
}

/// The right ones of a list, which need not be one for a single value, and their places.
pub(super) fn one_or_list<T>(
    node: &Node,
    what: &str,
    parse: impl FnMut(&str) -> Result<T, Wrong>,
    out: &mut Reports<'_>,
) -> Vec<(T, At)> {
    let values = match &node.kind {
        Kind::Text(_) => std::slice::from_ref(node),
        Kind::Null | Kind::List(_) | Kind::Map(_) => items(node, what, out),
    };
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        out.error(node.at, Wrong::new(format!("\"{what}\" is empty")));
    }
    texts(values, what, parse, out)
}

/// The values of a list.
pub(super) fn items<'n>(node: &'n Node, what: &str, out: &mut Reports<'_>) -> &'n [Node] {
    match &node.kind {
        Kind::List(items) => items,
        Kind::Null | Kind::Text(_) | Kind::Map(_) => {
            out.error(node.at, expected("a list", what, node));
            &[]
        }
    }
}

fn texts<T>(
    nodes: &[Node],
    what: &str,
    mut parse: impl FnMut(&str) -> Result<T, Wrong>,
    out: &mut Reports<'_>,
) -> Vec<(T, At)> {
    let read = |node: &Node| Some((text(node, what, &mut parse, out)?, node.at));
    nodes.iter().filter_map(read).collect()
}

/// A single value, if it is right.
pub(super) fn text<T>(
    node: &Node,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
    out: &mut Reports<'_>,
) -> Option<T> {
    let result = match &node.kind {
        Kind::Text(text) => parse(text),
        Kind::Null | Kind::List(_) | Kind::Map(_) => Err(expected("a single value", what, node)),
    };
    result.map_err(|wrong| out.error(node.at, wrong)).ok()
}

fn expected(kind: &str, what: &str, node: &Node) -> Wrong {
    let found = match &node.kind {
        Kind::Null => {
            let wrong = Wrong::new(format!("\"{what}\" has no value"));
            return wrong.hint(format!("expected {kind}; for the default leave the key out"));
        }
        Kind::Text(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a mapping",
    };
    Wrong::new(format!("\"{what}\" is {found}")).hint(format!("expected {kind}"))
}

/// "did you mean", or all that is allowed.
pub(super) fn nearest(word: &str, words: &[&str]) -> String {
    let near = words.iter().map(|w| (distance(word, w), *w)).min();
    match near {
        Some((distance, near)) if distance <= near.chars().count().max(3) / 3 => {
            format!("did you mean \"{near}\"?")
        }
        Some(_) | None => format!("expected one of: {}", words.join(", ")),
    }
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_WORD).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(MAX_WORD).flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], n: usize| row.get(n).copied().unwrap_or(usize::MAX - 1);
            let mut least = (at(&last, j + 1) + 1).min(at(&row, j) + 1);
            least = least.min(at(&last, j) + usize::from(x != y));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// Words are compared up to here.
const MAX_WORD: usize = 64;
