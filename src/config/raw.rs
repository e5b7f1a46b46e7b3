//! YAML text as a tree in which every value knows its place. The only file that names the crate
//! that reads YAML.
//!
//! Scalars stay text: what one means is for the key's own reader, so that `no`, `010` or `1.10`
//! cannot change their type on the way. Duplicate keys, tags, several documents and keys that are
//! not text are errors. Depth and the number of values are bounded, those that aliases repeat
//! included, and so is what a hostile file may cost.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::problem::{At, Reports, Source, Wrong, quote};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) at: At,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// No value, or `~` or `null` without quotes.
    Null,
    /// Any scalar.
    Text(Arc<str>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; no key stands twice.
    Map(Vec<Pair>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<str>,
    pub(super) at: At,
    pub(super) value: Node,
}

/// Reads a file. None: it holds nothing, or an error that is in `out`.
/// `room` is how many values more all files together may have.
pub(super) fn parse(
    file: usize,
    source: &Source,
    room: &mut usize,
    out: &mut Reports<'_>,
) -> Option<Node> {
    let mut tree = Tree { file, open: Vec::new(), root: None, anchors: HashMap::new(), room };
    let mut documents = 0;
    for event in Parser::new_from_str(source.text()) {
        let result = match event {
            Err(error) => Err(tree.syntax(&error)),
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                tree.one_document(documents, span)
            }
            Ok((event, span)) => tree.take(event, span, out),
        };
        // the parser says the same error for ever, so the first ends it
        if let Err((at, wrong)) = result {
            out.error(at, wrong);
            return None;
        }
    }
    tree.root
}

/// A value that is not yet complete.
enum Open {
    List {
        items: Vec<Node>,
        at: At,
        anchor: usize,
    },
    Map {
        pairs: Vec<Pair>,
        seen: HashMap<Arc<str>, At>,
        key: Option<(Arc<str>, At)>,
        at: At,
        anchor: usize,
    },
}

/// A value that aliases repeat.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Tree<'r> {
    file: usize,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    room: &'r mut usize,
}

type Fault = (At, Wrong);

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, out: &mut Reports<'_>) -> Result<(), Fault> {
        let at = self.at(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.is_some(), at)?;
                let width = match style {
                    ScalarStyle::Plain if span.start.line() == span.end.line() => {
                        span.end.col().saturating_sub(span.start.col()).max(1)
                    }
                    // the parser's spans of quoted scalars reach over the comment behind them
                    ScalarStyle::Plain
                    | ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => At::MEASURE,
                };
                let at = At { width, ..at };
                let kind = match &*text {
                    "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => {
                        Kind::Null
                    }
                    text => Kind::Text(text.into()),
                };
                self.put(Node { kind, at }, anchor, out)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.is_some(), at)?;
                self.enter(Open::List { items: Vec::new(), at, anchor }, at)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.is_some(), at)?;
                let (pairs, seen) = (Vec::new(), HashMap::new());
                self.enter(Open::Map { pairs, seen, key: None, at, anchor }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { items, at, anchor }) => {
                    self.put(Node { kind: Kind::List(items), at }, anchor, out)
                }
                Some(Open::Map { pairs, at, anchor, .. }) => {
                    self.put(Node { kind: Kind::Map(pairs), at }, anchor, out)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor) else {
                    return Err((at, Wrong::new("an alias inside the value it names")));
                };
                self.deep(anchored.depth, at)?;
                let node = anchored.node.clone();
                self.charge(anchored.nodes - 1, at)?;
                self.put(node, 0, out)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn one_document(&self, documents: usize, span: Span) -> Result<(), Fault> {
        if documents <= 1 {
            return Ok(());
        }
        let wrong = Wrong::new("a second document").hint("one file holds one document");
        Err((self.at(span), wrong))
    }

    fn enter(&mut self, open: Open, at: At) -> Result<(), Fault> {
        self.deep(1, at)?;
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize, out: &mut Reports<'_>) -> Result<(), Fault> {
        self.charge(1, node.at)?;
        if anchor > 0 {
            let (nodes, depth) = measure(&node);
            // the copy that aliases are made from counts like any other
            self.charge(nodes, node.at)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { pairs, seen, key, .. }) => match (key.take(), node.kind) {
                (None, Kind::Text(text)) => *key = Some((text, node.at)),
                (None, Kind::Null | Kind::List(_) | Kind::Map(_)) => {
                    return Err((node.at, Wrong::new("a key that is not text")));
                }
                (Some((name, at)), kind) => {
                    if let Some(first) = seen.insert(name.clone(), at) {
                        let wrong = Wrong::new(format!("key {} stands twice", quote(&name)))
                            .hint(format!("first on line {}", first.line));
                        out.error(at, wrong);
                    } else {
                        pairs.push(Pair { key: name, at, value: Node { kind, at: node.at } });
                    }
                }
            },
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, at: At) -> Result<(), Fault> {
        *self.room = self.room.checked_sub(nodes).ok_or_else(|| {
            let wrong = Wrong::new("too many values");
            (at, wrong.hint(format!("at most {MAX_NODES}, those that aliases repeat included")))
        })?;
        Ok(())
    }

    fn deep(&self, more: usize, at: At) -> Result<(), Fault> {
        if self.open.len() + more <= MAX_DEPTH {
            return Ok(());
        }
        Err((at, Wrong::new("nested too deep").hint(format!("at most {MAX_DEPTH}"))))
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let at = self.marker(*error.marker());
        (at, Wrong::new(format!("not YAML: {}", error.info())))
    }

    fn at(&self, span: Span) -> At {
        self.marker(span.start)
    }

    fn marker(&self, marker: Marker) -> At {
        At { file: self.file, line: marker.line(), column: marker.col() + 1, width: 1 }
    }
}

fn no_tag(tagged: bool, at: At) -> Result<(), Fault> {
    if !tagged {
        return Ok(());
    }
    Err((at, Wrong::new("a tag").hint("values are read by what their key needs; leave it out")))
}

/// How many values a value is, and how deep.
fn measure(node: &Node) -> (usize, usize) {
    let all = |inner: &mut dyn Iterator<Item = &Node>| {
        inner.map(measure).fold((1, 1), |(nodes, depth), (n, d)| (nodes + n, depth.max(d + 1)))
    };
    match &node.kind {
        Kind::Null | Kind::Text(_) => (1, 0),
        Kind::List(items) => all(&mut items.iter()),
        Kind::Map(pairs) => all(&mut pairs.iter().map(|pair| &pair.value)),
    }
}

/// Values in all files, those that aliases repeat included.
pub(super) const MAX_NODES: usize = 2_000_000;
/// Nesting; the deepest key of the format stands at 5.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests;
