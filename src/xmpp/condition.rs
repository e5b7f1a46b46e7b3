//! The closed sets of stream and stanza error conditions (RFC 6120 §4.9.3, §8.3.3) that fedgate
//! sends, by the names on the wire.

use std::fmt;

macro_rules! conditions {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// The element name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)+
                }
            }

            /// The condition of that element name.
            #[must_use]
            pub fn from_wire(name: &str) -> Option<Self> {
                match name {
                    $($wire => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

conditions! {
    /// Why a stream ends (RFC 6120 §4.9.3).
    StreamCondition {
        /// XML that cannot be processed here (§4.9.3.1).
        BadFormat = "bad-format",
        /// A content element with a prefix (§4.9.3.2).
        BadNamespacePrefix = "bad-namespace-prefix",
        /// Another stream takes the place of this one (§4.9.3.3).
        Conflict = "conflict",
        /// The other end does not answer (§4.9.3.4).
        ConnectionTimeout = "connection-timeout",
        /// A domain that is no longer served (§4.9.3.5).
        HostGone = "host-gone",
        /// A domain that is not served (§4.9.3.6).
        HostUnknown = "host-unknown",
        /// A stanza without valid `from` and `to` (§4.9.3.7).
        ImproperAddressing = "improper-addressing",
        /// Our own fault (§4.9.3.8).
        InternalServerError = "internal-server-error",
        /// A `from` that is not proven on this stream (§4.9.3.9).
        InvalidFrom = "invalid-from",
        /// A namespace that does not belong there (§4.9.3.10).
        InvalidNamespace = "invalid-namespace",
        /// Not XML, or not namespace-well-formed (§4.9.3.13).
        NotWellFormed = "not-well-formed",
        /// Something before authentication (§4.9.3.12).
        NotAuthorized = "not-authorized",
        /// Local policy (§4.9.3.14).
        PolicyViolation = "policy-violation",
        /// A server that is needed cannot be reached (§4.9.3.15).
        RemoteConnectionFailed = "remote-connection-failed",
        /// Start again, the security context is no longer good (§4.9.3.16).
        Reset = "reset",
        /// Out of something (§4.9.3.17).
        ResourceConstraint = "resource-constraint",
        /// Comments, processing instructions, DTD, foreign entities (§4.9.3.18).
        RestrictedXml = "restricted-xml",
        /// We go down (§4.9.3.20).
        SystemShutdown = "system-shutdown",
        /// See the application condition beside it (§4.9.3.21).
        UndefinedCondition = "undefined-condition",
        /// Not UTF-8 (§4.9.3.22).
        UnsupportedEncoding = "unsupported-encoding",
        /// Only mandatory features that we do not speak (§4.9.3.23).
        UnsupportedFeature = "unsupported-feature",
        /// A first-level element that we do not know (§4.9.3.24).
        UnsupportedStanzaType = "unsupported-stanza-type",
        /// A stream version that we do not speak (§4.9.3.25).
        UnsupportedVersion = "unsupported-version",
    }
}

conditions! {
    /// Why a stanza or a dialback request is refused (RFC 6120 §8.3.3).
    StanzaCondition {
        /// §8.3.3.4.
        Forbidden = "forbidden",
        /// §8.3.3.6.
        InternalServerError = "internal-server-error",
        /// §8.3.3.7.
        ItemNotFound = "item-not-found",
        /// §8.3.3.8.
        JidMalformed = "jid-malformed",
        /// §8.3.3.9.
        NotAcceptable = "not-acceptable",
        /// §8.3.3.10.
        NotAllowed = "not-allowed",
        /// §8.3.3.11.
        NotAuthorized = "not-authorized",
        /// §8.3.3.12.
        PolicyViolation = "policy-violation",
        /// §8.3.3.16.
        RemoteServerNotFound = "remote-server-not-found",
        /// §8.3.3.17.
        RemoteServerTimeout = "remote-server-timeout",
        /// §8.3.3.18.
        ResourceConstraint = "resource-constraint",
        /// §8.3.3.19.
        ServiceUnavailable = "service-unavailable",
    }
}

impl StanzaCondition {
    /// The error type that RFC 6120 §8.3.3 recommends for the condition, as fedgate uses it.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Forbidden | Self::NotAuthorized => "auth",
            Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable => "cancel",
            Self::JidMalformed | Self::NotAcceptable | Self::PolicyViolation => "modify",
            Self::RemoteServerTimeout | Self::ResourceConstraint => "wait",
        }
    }
}
