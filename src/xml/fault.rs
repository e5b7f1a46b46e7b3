//! Why a stream's bytes cannot be read on, and what its sender is told (RFC 6120 §4.9.3, §11).
//!
//! Every fault ends the stream. None carries a byte of what was received.

use crate::xmpp::StreamCondition;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident: $condition:ident, $reason:literal, $message:literal;)+) => {
        /// A violation of the XML that RFC 6120 allows, or of a limit.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        pub enum Fault {
            $($(#[$doc])* #[error($message)] $variant,)+
        }

        impl Fault {
            /// What the other end is told.
            #[must_use]
            pub fn condition(self) -> StreamCondition {
                match self {
                    $(Self::$variant => StreamCondition::$condition,)+
                }
            }

            /// The closed label for logs and counters.
            #[must_use]
            pub fn reason(self) -> &'static str {
                match self {
                    $(Self::$variant => $reason,)+
                }
            }
        }
    };
}

faults! {
    /// Something other than whitespace after the stream's end tag.
    AfterFooter: NotWellFormed, "after-footer", "content after the end of the stream";
    /// `<` in an attribute value.
    AngleInValue: NotWellFormed, "angle-in-value", "'<' in an attribute value";
    /// A name with an empty part or more than one colon, or a local part that is no NCName.
    BadColon: NotWellFormed, "bad-colon", "a colon where namespaces allow none";
    /// An XML declaration that is not one of XML 1.0.
    BadDeclaration: NotWellFormed, "bad-declaration", "a malformed XML declaration";
    /// A character that cannot stand in a name there.
    BadName: NotWellFormed, "bad-name", "a character that cannot stand in a name";
    /// `&` that begins no reference, or a reference to a character that XML forbids.
    BadReference: NotWellFormed, "bad-reference", "a malformed or forbidden reference";
    /// `]]>` in text.
    CdataEndInText: NotWellFormed, "cdata-end-in-text", "']]>' in text";
    /// A comment.
    Comment: RestrictedXml, "comment", "a comment";
    /// A default namespace of the stream, or a namespace of a first-level element, that is not
    /// that of server-to-server streams.
    ContentNamespace: InvalidNamespace, "content-namespace", "not in a namespace for servers";
    /// A document type declaration, or a part of one.
    DocumentType: RestrictedXml, "document-type", "a document type declaration";
    /// Two attributes of one name, as written or by namespace.
    DuplicateAttribute: NotWellFormed, "duplicate-attribute", "an attribute given twice";
    /// A first-level element longer than the limit.
    ElementTooBig: PolicyViolation, "element-too-big", "an element larger than the limit";
    /// A stream without content: its start tag is an empty-element tag.
    EmptyStream: BadFormat, "empty-stream", "a stream that ends in its own header";
    /// `xmlns:p=''`.
    EmptyNamespace: NotWellFormed, "empty-namespace", "a prefix bound to no namespace";
    /// An encoding that is not UTF-8, declared or seen.
    Encoding: UnsupportedEncoding, "encoding", "an encoding other than UTF-8";
    /// A character outside the Char production of XML 1.0.
    ForbiddenChar: NotWellFormed, "forbidden-char", "a character that XML forbids";
    /// A reference to an entity other than the five that XML itself defines.
    ForeignEntity: RestrictedXml, "foreign-entity", "a reference to an entity of its own";
    /// A stream header longer than the limit.
    HeaderTooBig: PolicyViolation, "header-too-big", "a stream header larger than the limit";
    /// An end tag of another element than the one that is open.
    MismatchedEnd: NotWellFormed, "mismatched-end", "an end tag that does not match";
    /// An XML declaration that does not stand at the very start.
    MisplacedDeclaration: NotWellFormed, "misplaced-declaration", "an XML declaration inside the stream";
    /// A namespace name with a space, a control character or `|`, which expat or a server behind
    /// it may take for the end of that name.
    NamespaceName: NotWellFormed, "namespace-name", "a namespace name that is no URI";
    /// A name longer than the limit.
    NameTooLong: PolicyViolation, "name-too-long", "a name longer than the limit";
    /// Bytes that are not UTF-8.
    NotUtf8: NotWellFormed, "not-utf-8", "bytes that are not UTF-8";
    /// A name beyond ASCII, which old parsers would refuse.
    ForeignName: PolicyViolation, "foreign-name", "a name with a character beyond ASCII";
    /// A stanza with a namespace prefix.
    PrefixedStanza: BadNamespacePrefix, "prefixed-stanza", "a stanza with a namespace prefix";
    /// A processing instruction.
    ProcessingInstruction: RestrictedXml, "processing-instruction", "a processing instruction";
    /// `xml` or `xmlns`, or one of their namespaces, bound otherwise than XML binds them.
    ReservedPrefix: NotWellFormed, "reserved-prefix", "a reserved prefix or namespace misused";
    /// The root element is not called `stream`.
    RootName: BadFormat, "root-name", "a root element that is not a stream";
    /// The root element is not in the namespace of streams.
    RootNamespace: InvalidNamespace, "root-namespace", "a root element of another namespace";
    /// A stream header inside a stream.
    SecondHeader: BadFormat, "second-header", "a stream header inside the stream";
    /// Something other than whitespace between first-level elements.
    StreamText: BadFormat, "stream-text", "text between the elements of the stream";
    /// Anything else that the grammar of tags does not allow.
    Syntax: NotWellFormed, "syntax", "a malformed tag";
    /// Elements nested deeper than the limit.
    TooDeep: PolicyViolation, "too-deep", "elements nested deeper than the limit";
    /// More attributes on one element than the limit.
    TooManyAttributes: PolicyViolation, "too-many-attributes", "more attributes than the limit";
    /// More namespace declarations in scope than the limit.
    TooManyNamespaces: PolicyViolation, "too-many-namespaces", "more namespace declarations than the limit";
    /// A prefix that nothing declares.
    UndeclaredPrefix: NotWellFormed, "undeclared-prefix", "a prefix that is not declared";
}

impl Fault {
    /// The application condition in `urn:xmpp:errors` that goes beside the stream condition
    /// (RFC 6120 §13.12 item 4).
    #[must_use]
    pub fn application(self) -> Option<&'static str> {
        (self == Self::ElementTooBig).then_some("stanza-too-big")
    }
}
