//! What `rxml`, a strict parser, reads in a stream. The fuzz targets use it too.

use rxml::{
    AttrMap, Namespace, NcName, Parse, WithOptions,
    error::{EndOrError, ErrorContext},
    parser::Options,
};

/// A stream in `rxml`'s eyes.
#[derive(Default, Debug)]
pub(crate) struct Reading {
    /// Its first-level elements, as far as they are good.
    pub(crate) elements: Vec<Reference>,
    /// Whether it ends where the text ends.
    pub(crate) complete: bool,
    /// Why it was not read to its end.
    pub(crate) error: Option<rxml::Error>,
    /// Whether a character reference with more digits than any needs stands in it.
    long_reference: bool,
    /// Whether a carriage return without a line feed stands in a value: `rxml` loses it, or blames
    /// the good character behind it.
    lone_return: bool,
    /// Whether it is the last byte: `rxml` waits for the line feed.
    last_return: bool,
}

/// A first-level element in `rxml`'s eyes.
#[derive(Default, Debug)]
pub(crate) struct Reference {
    /// The offset in the stream behind its last byte.
    pub(crate) end: usize,
    /// What it consists of; text in one piece.
    pub(crate) content: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Start(Namespace<'static>, NcName, AttrMap),
    End,
    Text(String),
}

/// Reads a complete stream.
pub(crate) fn read(mut bytes: &[u8]) -> Reading {
    let options = Options { max_token_length: 1 << 20, ..Options::default() };
    let mut parser = rxml::Parser::with_options(options);
    let mut reading = Reading {
        long_reference: long_reference(bytes),
        lone_return: lone_return(bytes),
        last_return: bytes.last() == Some(&b'\r'),
        ..Reading::default()
    };
    let len = bytes.len();
    let (mut depth, mut current) = (0, Vec::new());
    loop {
        let event = match parser.parse(&mut bytes, true) {
            Ok(Some(event)) => event,
            Ok(None) => {
                reading.complete = true;
                return reading;
            }
            Err(EndOrError::NeedMoreData) => unreachable!("all data is there"),
            Err(EndOrError::Error(error)) => {
                reading.error = Some(error);
                return reading;
            }
        };
        let outside = depth <= 1;
        match event {
            rxml::Event::XmlDeclaration(..) => {}
            rxml::Event::StartElement(_, (namespace, name), attributes) => {
                depth += 1;
                if depth > 1 {
                    current.push(Part::Start(namespace, name, attributes));
                }
            }
            rxml::Event::Text(_, text) if !outside => match current.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ => current.push(Part::Text(text)),
            },
            rxml::Event::Text(..) => {}
            rxml::Event::EndElement(_) => {
                depth -= 1;
                if depth >= 1 {
                    current.push(Part::End);
                }
                if depth == 1 {
                    let content = std::mem::take(&mut current);
                    // not by the metrics of events, which leave out empty CDATA sections
                    reading.elements.push(Reference { end: len - bytes.len(), content });
                }
            }
        }
    }
}

impl Reading {
    /// Whether reading ended at something that is good XML, but that `rxml` 0.14 refuses.
    pub(crate) fn stumbled(&self) -> bool {
        match self.error {
            _ if self.lone_return => true,
            Some(rxml::Error::InvalidEof(_)) if self.last_return => true,
            // a name with a character that its tables lack
            Some(rxml::Error::UnexpectedChar(_, c, _)) => ('\u{fdf0}'..='\u{fffd}').contains(&c),
            // zeros before the number of a character
            Some(rxml::Error::UndeclaredEntity) => self.long_reference,
            // white space before the root
            Some(rxml::Error::UnexpectedToken(Some(ErrorContext::DocumentBegin), ..)) => true,
            // a declaration without an encoding
            Some(rxml::Error::InvalidSyntax(why)) => why.starts_with("'version' attribute"),
            Some(rxml::Error::RestrictedXml(why)) => why.starts_with("only standalone"),
            _ => false,
        }
    }
}

impl Reference {
    /// The value of an attribute of its start tag.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        match self.content.first()? {
            Part::Start(_, _, attributes) => {
                attributes.get(&Namespace::NONE, name).map(String::as_str)
            }
            Part::End | Part::Text(_) => None,
        }
    }
}

fn long_reference(bytes: &[u8]) -> bool {
    bytes.windows(2).enumerate().filter(|(_, two)| two == b"&#").any(|(at, _)| {
        let digits = bytes[at + 2..].iter().skip_while(|&&b| b == b'x');
        digits.take_while(|b| b.is_ascii_hexdigit()).count() >= 8
    })
}

fn lone_return(bytes: &[u8]) -> bool {
    let (mut in_tag, mut quote) = (false, None);
    bytes.iter().enumerate().any(|(at, &byte)| {
        match (quote, byte) {
            (_, b'<') => (in_tag, quote) = (true, None),
            (None, b'>') => in_tag = false,
            (None, b'"' | b'\'') if in_tag => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
        quote.is_some() && byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')
    })
}
