//! Tags as most are written: whole, with names of ASCII below sixteen bytes, one space before each
//! attribute, and values without references; and the text between them. They are read in one go. All
//! others, and whatever may be a fault, are left to the careful way, from the beginning of the tag.

use super::{
    super::token::{DefaultNamespace, ElementName, Span, Tag},
    Context, Found, Open, Place, Scanner, State, Step, chars,
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
        let mut window = Window::new(buf, self.pos);
        let mut in_text = self.state == State::Text;
        loop {
            if in_text {
                self.pos = window.text_end(self.pos);
                let b = buf.get(self.pos);
                if b != Some(&b'<') {
                    self.state = State::Text;
                    return if b.is_some() { Step::Next } else { Step::Starved };
                }
                self.pos = self.pos.wrapping_add(1);
            }
            let read = match buf.get(self.pos) {
                Some(b'/') => self.usual_end(buf),
                _ if self.open.len() >= context.limits.depth => None,
                _ => self.usual_tag(&mut window, buf, context),
            };
            if read.is_none() {
                self.state = State::Markup;
                return Step::Next;
            }
            if self.open.is_empty() {
                return Step::Done(Found::Element);
            }
            in_text = true;
        }
    }

    /// Reads the start tag whose name begins here. `None` if it is not whole or not as usual;
    /// nothing has changed then.
    #[inline]
    fn usual_tag(
        &mut self,
        window: &mut Window<'_>,
        buf: &[u8],
        context: Context<'_>,
    ) -> Option<()> {
        let name = Short::read(window, buf, self.pos)?;
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

    /// Reads the end tag at whose `/` the scanner is, of a first-level element or one inside it.
    /// `None` as above.
    #[inline]
    fn usual_end(&mut self, buf: &[u8]) -> Option<()> {
        let open = *self.open.last()?;
        let rest = buf.get(self.pos.wrapping_add(1)..)?;
        let len = open.name.len() as usize;
        let differ = u64::from_le_bytes(*rest.first_chunk()?) ^ open.key;
        let same = differ & mask(len) == 0
            && (len <= 8 || rest.get(8..len) == open.name.bytes(buf).get(8..));
        if !same || rest.get(len) != Some(&b'>') {
            return None;
        }
        self.pos = self.pos.wrapping_add(len).wrapping_add(2);
        self.open.pop();
        self.declarations.truncate(open.declarations);
        Some(())
    }

    /// The start tag of an element inside another one.
    #[inline]
    fn inner_tag(
        &mut self,
        window: &mut Window<'_>,
        buf: &[u8],
        context: Context<'_>,
        name: Short,
    ) -> Option<()> {
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
        if !end.empty {
            self.open.push(Open { name: name.name(), key: name.key, declarations });
        }
        self.pos = end.pos;
        Some(())
    }

    /// The start tag of a first-level element in the content namespace.
    #[inline]
    fn first_tag(
        &mut self,
        window: &mut Window<'_>,
        buf: &[u8],
        context: Context<'_>,
        name: Short,
    ) -> Option<()> {
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
        self.pos = end.pos;
        if !end.empty {
            self.open.push(Open { name: name.name(), key: name.key, declarations: 0 });
        }
        Some(())
    }
}

impl Short {
    /// The name at `pos`, if it is as usual.
    #[inline]
    fn read(window: &mut Window<'_>, buf: &[u8], pos: usize) -> Option<Self> {
        let len = window.name_len(pos);
        let key = u64::from_le_bytes(*buf.get(pos..)?.first_chunk()?) & mask(len);
        let is_name = len < NAME_MAX && chars::is(key as u8, chars::NAME_START);
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
#[inline]
fn attributes(
    window: &mut Window<'_>,
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

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Limits, Place},
        *,
    };
    use crate::xml::Framer;

    const LIMITS: Limits = Limits { header: 1000, element: 1000, depth: 9, attributes: 4 };

    /// Whether the start tag behind the first `<` is read in one go, at the first level or inside.
    fn is_usual(text: &str, inside: bool) -> bool {
        let mut framer = Framer::new(LIMITS);
        let header = "<stream:stream xmlns='jabber:server' \
            xmlns:stream='http://etherx.jabber.org/streams' from='a.example' version='1.0'>";
        framer.next(header.as_bytes()).unwrap().unwrap();
        let header = framer.header().unwrap();
        let context = Context { limits: &LIMITS, place: Place::Open(header) };
        let text = format!("{}{text}{}", if inside { "<a>" } else { "" }, " ".repeat(16));
        let mut scanner = Scanner::new();
        if inside {
            assert!(scanner.scan(&text.as_bytes()[..3], context).unwrap().is_none());
        }
        scanner.pos = if inside { 4 } else { 1 };
        let before = (scanner.pos, scanner.open.len(), scanner.declarations.len());
        let mut window = Window::new(text.as_bytes(), scanner.pos);
        let read = scanner.usual_tag(&mut window, text.as_bytes(), context);
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
}
