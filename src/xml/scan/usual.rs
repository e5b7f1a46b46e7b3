//! Tags as most are written: whole, with names of ASCII below sixteen bytes, one space before each
//! attribute, and values without references; and the text between them, with XML's own entities. They
//! are read in one go. All others, and whatever may be a fault, are left to the careful way, from the
//! beginning of the tag or of the reference.

use fearless_simd::{Level, dispatch, prelude::*};

use super::{
    super::token::{DefaultNamespace, ElementName, Span, Tag},
    Context, Found, Open, Place, Scanner, State, Step,
    name::{Name, key, mark, mask, offset},
    namespaces::Declaration,
    window::{Window, is_plain_uri},
};

/// Names of so many bytes are left to the careful way.
const NAME_MAX: usize = 16;

/// Where a tag of that kind ends, and how.
#[derive(Clone, Copy)]
struct End {
    /// Behind its `>`.
    pos: usize,
    /// It is `/>`.
    empty: bool,
}

/// A name in such a tag.
#[derive(Clone, Copy)]
struct Short {
    start: usize,
    len: usize,
    /// Its first eight bytes.
    key: u64,
}

/// An attribute of such a tag.
#[derive(Clone, Copy)]
struct Attribute {
    name: Short,
    /// Where its value starts.
    start: usize,
    /// Where its value ends.
    end: usize,
}

impl Scanner {
    /// Reads on from text, or from behind a `<`, as long as all is as usual. `Step::Next`: the
    /// careful way goes on from there.
    pub(super) fn usual(&mut self, buf: &[u8], context: Context<'_>) -> Step {
        dispatch!(Level::new(), simd => self.usual_with(simd, buf, context))
    }

    /// The same with such vectors.
    #[inline(always)]
    fn usual_with<S: Simd>(&mut self, simd: S, buf: &[u8], context: Context<'_>) -> Step {
        let mut pos = self.pos;
        let mut window = Window::new(simd, buf, pos);
        let mut in_text = self.state == State::Text;
        // The innermost element, as long as nothing was opened inside it: most hold text only, and
        // are never among the others.
        let mut leaf: Option<Open> = None;
        let state = loop {
            if in_text {
                if buf.get(pos) != Some(&b'<') {
                    pos = text_end(&mut window, buf, pos);
                    if buf.get(pos) != Some(&b'<') {
                        break State::Text;
                    }
                }
                pos = pos.wrapping_add(1);
            }
            in_text = true;
            if buf.get(pos) == Some(&b'/') {
                // twice, for one way for both takes longer
                if let Some(open) = &leaf {
                    let Some(end) = open.end_tag(buf, pos) else { break State::Markup };
                    pos = end;
                    self.declarations.truncate(open.declarations);
                    leaf = None;
                } else {
                    let Some(open) = self.open.last() else { break State::Markup };
                    let Some(end) = open.end_tag(buf, pos) else { break State::Markup };
                    pos = end;
                    self.declarations.truncate(open.declarations);
                    self.open.pop();
                }
            } else {
                if let Some(open) = leaf.take() {
                    self.open.push(open);
                }
                if self.open.len() >= context.limits.depth {
                    break State::Markup;
                }
                let tag = self.usual_tag(&mut window, buf, context, pos);
                let Some(tag) = tag else { break State::Markup };
                (pos, leaf) = tag;
                if leaf.is_some() {
                    continue;
                }
            }
            if self.open.is_empty() {
                self.pos = pos;
                return Step::Done(Found::Element);
            }
        };
        self.open.extend(leaf);
        self.pos = pos;
        self.state = state;
        if state == State::Text && pos >= buf.len() { Step::Starved } else { Step::Next }
    }

    /// Reads the start tag whose name begins at `pos`: where it ends, and the element that it opens.
    /// `None` if it is not whole or not as usual; nothing has changed then.
    #[inline(always)]
    fn usual_tag<S: Simd>(
        &mut self,
        window: &mut Window<'_, S>,
        buf: &[u8],
        context: Context<'_>,
        pos: usize,
    ) -> Option<(usize, Option<Open>)> {
        let name = Short::read(window, buf, pos)?;
        if !self.open.is_empty() {
            return self.inner_tag(window, buf, context, name);
        }
        match context.place {
            Place::Open(header) if header.default_namespace == DefaultNamespace::Server => {
                self.first_tag(window, buf, context, name)
            }
            _ => None,
        }
    }

    /// The start tag of an element inside another one.
    #[inline(always)]
    fn inner_tag<S: Simd>(
        &mut self,
        window: &mut Window<'_, S>,
        buf: &[u8],
        context: Context<'_>,
        name: Short,
    ) -> Option<(usize, Option<Open>)> {
        let mut declaration = None;
        let end = attributes(window, buf, context, name, |attribute| {
            if attribute.name.is(XMLNS) {
                declaration = Some(attribute);
            }
        })?;
        let declarations = self.declarations.len();
        if let Some(attribute) = declaration {
            let declaration = Declaration::new(attribute.name.name(), attribute.value());
            let plain = is_plain_uri(buf, attribute.start, attribute.end);
            if !self.may_declare(buf, context, declaration, plain) {
                return None;
            }
            if !end.empty {
                self.declarations.push(declaration);
            }
        }
        let open = Open { name: name.name(), key: name.key, declarations };
        Some((end.pos, (!end.empty).then_some(open)))
    }

    /// The start tag of a first-level element in the content namespace.
    #[inline(always)]
    fn first_tag<S: Simd>(
        &mut self,
        window: &mut Window<'_, S>,
        buf: &[u8],
        context: Context<'_>,
        name: Short,
    ) -> Option<(usize, Option<Open>)> {
        let mut tag = Tag::new(ElementName::content(name.name().bytes(buf)));
        let mut declares = false;
        let end = attributes(window, buf, context, name, |attribute| {
            match (attribute.name.key, attribute.name.len) {
                FROM => tag.from = Some(attribute.value()),
                TO => tag.to = Some(attribute.value()),
                ID => tag.id = Some(attribute.value()),
                TYPE => tag.type_ = Some(attribute.value()),
                LANG => tag.has_lang = true,
                XMLNS => declares = true,
                _ => {}
            }
        })?;
        // it may be no stanza
        if declares {
            return None;
        }
        tag.insert_at = name.name().end;
        tag.empty = end.empty;
        self.first = tag;
        let open = Open { name: name.name(), key: name.key, declarations: 0 };
        Some((end.pos, (!end.empty).then_some(open)))
    }
}

impl Open {
    /// Where the end tag ends at whose `/` is `pos`. `None` if it is not whole, not as usual, or has
    /// another name.
    #[inline(always)]
    fn end_tag(&self, buf: &[u8], pos: usize) -> Option<usize> {
        let rest = buf.get(pos.wrapping_add(1)..)?;
        let len = self.name.len() as usize;
        let differ = u64::from_le_bytes(*rest.first_chunk()?) ^ self.key;
        let same = if len < 8 {
            (differ ^ u64::from(b'>') << (8 * len)) & mask(len + 1) == 0
        } else {
            differ == 0
                && rest.get(8..len) == self.name.bytes(buf).get(8..)
                && rest.get(len) == Some(&b'>')
        };
        same.then(|| pos.wrapping_add(len).wrapping_add(2))
    }
}

impl Short {
    /// The name at `pos`, if it is as usual.
    #[inline(always)]
    fn read<S: Simd>(window: &mut Window<'_, S>, buf: &[u8], pos: usize) -> Option<Self> {
        let len = window.name_len(pos);
        let key = u64::from_le_bytes(*buf.get(pos..)?.first_chunk()?) & mask(len);
        // of what may stand in a name, digits, `-` and `.` may not begin one
        let is_name = (1..NAME_MAX).contains(&len) && key as u8 >= b'A';
        is_name.then_some(Self { start: pos, len, key })
    }

    fn is(self, name: (u64, usize)) -> bool {
        (self.key, self.len) == name
    }

    fn name(self) -> Name {
        Name::plain(self.start, self.len)
    }
}

impl Attribute {
    fn value(self) -> Span {
        Span { start: offset(self.start), end: offset(self.end), escaped: false }
    }
}

/// Gives all attributes behind the tag's name to `take`.
#[inline(always)]
fn attributes<S: Simd>(
    window: &mut Window<'_, S>,
    buf: &[u8],
    context: Context<'_>,
    name: Short,
    mut take: impl FnMut(Attribute),
) -> Option<End> {
    let mut pos = name.start.wrapping_add(name.len);
    let mut marks = 0;
    let mut left = context.limits.attributes;
    loop {
        match buf.get(pos)? {
            b' ' => {}
            b'>' => return Some(End { pos: pos.wrapping_add(1), empty: false }),
            b'/' if buf.get(pos.wrapping_add(1)) == Some(&b'>') => {
                return Some(End { pos: pos.wrapping_add(2), empty: true });
            }
            _ => return None,
        }
        left = left.checked_sub(1)?;
        let mut name = Short::read(window, buf, pos.wrapping_add(1))?;
        let mut equals = name.start.wrapping_add(name.len);
        if buf.get(equals) == Some(&b':') {
            name = lang(buf, name.start)?;
            equals = name.start.wrapping_add(name.len);
        }
        let Some(&[b'=', quote @ (b'\'' | b'"'), ..]) = buf.get(equals..) else { return None };
        let start = equals.wrapping_add(2);
        let end = window.value_end(start, quote)?;
        // there may be two of the same name
        let mark = mark(name.key);
        if marks & mark != 0 {
            return None;
        }
        marks |= mark;
        take(Attribute { name, start, end });
        pos = end.wrapping_add(1);
    }
}

/// The one name with a prefix that is all over; it is bound once and for all.
#[cold]
fn lang(buf: &[u8], start: usize) -> Option<Short> {
    let name = buf.get(start..)?.strip_prefix(b"xml:lang=");
    name.map(|_| Short { start, len: LANG.1, key: LANG.0 })
}

const FROM: (u64, usize) = (key(b"from"), 4);
const ID: (u64, usize) = (key(b"id"), 2);
const LANG: (u64, usize) = (key(b"xml:lang"), 8);
const TO: (u64, usize) = (key(b"to"), 2);
const TYPE: (u64, usize) = (key(b"type"), 4);
const XMLNS: (u64, usize) = (key(b"xmlns"), 5);

/// Where the text from `pos` on ends; references to XML's own entities are part of it. All others, and
/// what is not whole, `reference` judges.
#[inline(always)]
fn text_end<S: Simd>(window: &mut Window<'_, S>, buf: &[u8], mut pos: usize) -> usize {
    loop {
        pos = window.text_end(pos);
        let len = match buf.get(pos..).unwrap_or_default() {
            [b'&', b'l' | b'g', b't', b';', ..] => 4,
            [b'&', b'a', b'm', b'p', b';', ..] => 5,
            [b'&', b'q', b'u', b'o', b't', b';', ..] => 6,
            [b'&', b'a', b'p', b'o', b's', b';', ..] => 6,
            _ => return pos,
        };
        pos = pos.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Limits, Place},
        *,
    };
    use crate::xml::{Framer, Header};

    const LIMITS: Limits =
        Limits { header: 1000, element: 1000, depth: 3, attributes: 4, grace: 1 };

    fn header() -> std::sync::Arc<Header> {
        let mut framer = Framer::new(LIMITS);
        let header = "<stream:stream xmlns='jabber:server' \
            xmlns:stream='http://etherx.jabber.org/streams' from='a.example' version='1.0'>";
        framer.next(header.as_bytes()).unwrap().unwrap();
        framer.header().unwrap().clone()
    }

    /// Whether the start tag behind the first `<` is read in one go, at the first level or inside.
    fn is_usual(text: &str, inside: bool) -> bool {
        let header = header();
        let context = Context { limits: &LIMITS, place: Place::Open(&header) };
        let text = format!("{}{text}{}", if inside { "<a>" } else { "" }, " ".repeat(16));
        let mut scanner = Scanner::new();
        if inside {
            assert!(scanner.scan(&text.as_bytes()[..3], context).unwrap().is_none());
        }
        scanner.pos = if inside { 4 } else { 1 };
        let before = (scanner.pos, scanner.open.len(), scanner.declarations.len());
        let (buf, pos) = (text.as_bytes(), scanner.pos);
        let read = dispatch!(Level::new(), simd => {
            scanner.usual_tag(&mut Window::new(simd, buf, pos), buf, context, pos)
        });
        if read.is_none() {
            let after = (scanner.pos, scanner.open.len(), scanner.declarations.len());
            assert_eq!(after, before, "{text}");
        }
        read.is_some()
    }

    #[test]
    fn tags_as_most_are_go_the_short_way_and_no_others() {
        for (text, first, inner) in [
            ("<message from='a.example' to='b.example/x' type='chat'>", true, true),
            ("<iq xml:lang='en' id=\"7'\"/>", true, true),
            ("<presence/>", true, true),
            ("<x xmlns='urn:x' a='1'>", false, true),
            ("<x xmlns='http://www.w3.org/2000/xmlns/'>", false, false),
            ("<x a='1' a='2'>", false, false),
            ("<x a='1' b='2' c='3' d='4' e='5'>", false, false),
            ("<x a='&lt;'>", false, false),
            ("<x a='\t'>", false, false),
            ("<x  a='1'>", false, false),
            ("<x a = '1'>", false, false),
            ("<x a='1'b='2'>", false, false),
            ("<x:y>", false, false),
            ("<x y:a='1'>", false, false),
            ("<x xml:base='1'>", false, false),
            ("<1>", false, false),
            ("<x\u{e9}>", false, false),
            ("<name-of-sixteen->", false, false),
            ("<x a='1'", false, false),
            ("<x /", false, false),
        ] {
            assert_eq!((is_usual(text, false), is_usual(text, true)), (first, inner), "{text}");
        }
    }

    /// What is left for the careful way, and what elements are open then. `None` if all was read.
    fn left(text: &str) -> Option<(&str, Vec<&str>)> {
        let (header, mut scanner) = (header(), Scanner::new());
        let context = Context { limits: &LIMITS, place: Place::Open(&header) };
        (scanner.state, scanner.pos) = (State::Markup, 1);
        // tags are read in one go when something is behind them
        let padded = format!("{text}        ");
        match scanner.usual(padded.as_bytes(), context) {
            Step::Done(Found::Element) => {
                assert_eq!((scanner.pos, scanner.open.len()), (text.len(), 0), "{text}");
                None
            }
            _ => {
                let open = scanner.open.iter().map(|open| open.name.bytes(text.as_bytes()));
                let open = open.map(|name| std::str::from_utf8(name).unwrap()).collect();
                Some((text.get(scanner.pos..).unwrap_or_default(), open))
            }
        }
    }

    #[test]
    fn elements_as_most_are_go_the_short_way() {
        for text in [
            "<message/>",
            "<message></message>",
            "<message to='a'><body>a &lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;</body></message>",
            "<message>a<b><c>d</c></b>e<f/>g<h>i</h>&lt;j</message>",
            "<message><seven-7>x</seven-7><eight--8>x</eight--8><fifteen-------/></message>",
        ] {
            assert_eq!(left(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_as_usual_is_left_with_all_that_is_open() {
        for (text, rest, open) in [
            ("<message><body>&#60;", "&#60;", &["message", "body"][..]),
            ("<message>&amp", "&amp", &["message"]),
            ("<message>&ampx;", "&ampx;", &["message"]),
            ("<message><a>b</a>&lo;", "&lo;", &["message"]),
            ("<message><a>b", "", &["message", "a"]),
            ("<message><a>b]]>", ">", &["message", "a"]),
            ("<message><a></b></message>", "/b></message>", &["message", "a"]),
            ("<message><a></ab></message>", "/ab></message>", &["message", "a"]),
            ("<message><a></a ></message>", "/a ></message>", &["message", "a"]),
            ("<message><a><b/></c></message>", "/c></message>", &["message", "a"]),
            ("<message><eight--8></eight--9>", "/eight--9>", &["message", "eight--8"]),
            (
                "<message><sixteen---------></sixteen--------->",
                "sixteen---------></sixteen--------->",
                &["message"],
            ),
            ("<message><a><b><c>", "c>", &["message", "a", "b"]),
            ("<message><a></a", "/a", &["message", "a"]),
        ] {
            assert_eq!(left(text), Some((rest, open.to_vec())), "{text}");
        }
    }
}
