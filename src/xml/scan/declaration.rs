//! The XML declaration (XML 1.0 §2.8, §2.9, §4.3.3; RFC 6120 §11.5, §11.6; protocol rule XML-2).

use super::{Fault, Found, Scanner, Step, chars};

impl Scanner {
    /// Reads on in the declaration, and judges it when it is complete.
    pub(super) fn declaration(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        let rest = buf.get(self.pos..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'>', rest) else {
            self.pos = buf.len();
            return Ok(Step::Starved);
        };
        self.pos += at + 1;
        let body = buf.get(self.item..self.pos).unwrap_or_default();
        check(body.strip_suffix(b"?>").ok_or(Fault::BadDeclaration)?)?;
        Ok(Step::Done(Found::Declaration))
    }
}

/// Checks what is between `<?xml` and `?>`.
fn check(body: &[u8]) -> Result<(), Fault> {
    let mut rest = body;
    let version = pseudo_attribute(&mut rest, b"version")?.ok_or(Fault::BadDeclaration)?;
    if version != b"1.0" {
        return Err(Fault::BadDeclaration);
    }
    let encoding = pseudo_attribute(&mut rest, b"encoding")?;
    let standalone = pseudo_attribute(&mut rest, b"standalone")?;
    if !matches!(standalone, None | Some(b"yes" | b"no")) || !trim(rest).is_empty() {
        return Err(Fault::BadDeclaration);
    }
    if encoding.is_some_and(|name| !name.eq_ignore_ascii_case(b"UTF-8")) {
        return Err(Fault::Encoding);
    }
    Ok(())
}

/// Takes `name='value'` with the white space before it off `rest`, if that is what comes next.
fn pseudo_attribute<'a>(rest: &mut &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, Fault> {
    let Some(tail) = trim(rest).strip_prefix(name) else { return Ok(None) };
    if trim(rest).len() == rest.len() {
        return Err(Fault::BadDeclaration);
    }
    let value = trim(tail).strip_prefix(b"=").map(trim).ok_or(Fault::BadDeclaration)?;
    let Some((quote @ (b'\'' | b'"'), value)) = value.split_first() else {
        return Err(Fault::BadDeclaration);
    };
    let end = memchr::memchr(*quote, value).ok_or(Fault::BadDeclaration)?;
    let (value, tail) = value.split_at(end);
    *rest = tail.get(1..).unwrap_or_default();
    Ok(Some(value))
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.get(chars::skip_space(bytes, 0)..).unwrap_or_default()
}
