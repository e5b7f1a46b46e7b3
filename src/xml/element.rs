//! A small tree of one element that fedgate itself has to understand: features, errors, dialback
//! and SASL elements.
//!
//! Only complete elements that the framer let pass come here; what they may hold is bounded by
//! its limits and, as a tree takes more memory than text, by a number of nodes.

mod reading;

use self::reading::Reader;
use super::token::Header;

/// An element with its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The namespace; empty if it is in none.
    pub namespace: String,
    /// The name without prefix.
    pub name: String,
    attributes: Vec<Attribute>,
    children: Vec<Element>,
    text: String,
}

/// An attribute; namespace declarations are not among them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Attribute {
    namespace: String,
    name: String,
    value: String,
}

/// Why an element cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ElementError {
    /// Not one complete element, or not well-formed; the framer lets none such pass.
    #[error("not one well-formed element")]
    Malformed,
    /// More elements and attributes than anything that is read here has.
    #[error("an element with too many parts")]
    TooLarge,
}

impl Element {
    /// Reads the element that `bytes` consists of, on a stream with this header.
    ///
    /// # Errors
    /// [`ElementError::TooLarge`] if it has more than 512 elements and attributes,
    /// [`ElementError::Malformed`] if it never went through the framer.
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Self, ElementError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ElementError::Malformed)?;
        Reader::new(text, header).document()
    }

    /// Whether it has this namespace and name.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns("", name)
    }

    /// The value of an attribute of a namespace.
    #[must_use]
    pub fn attr_ns(&self, namespace: &str, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|a| a.namespace == namespace && a.name == name);
        found.map(|attribute| attribute.value.as_str())
    }

    /// The first child of this namespace and name.
    #[must_use]
    pub fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(namespace, name))
    }

    /// All child elements, in order.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// All text directly inside the element, without that of its children.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests;
