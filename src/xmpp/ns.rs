//! A constant for each XML namespace that fedgate speaks or recognises.

/// Stream root, features and errors (RFC 6120 §4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Content namespace of server-to-server streams (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";
/// Content namespace of client-to-server streams (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Server dialback elements (XEP-0220 §2.1).
pub const DIALBACK: &str = "jabber:server:dialback";
/// Dialback stream feature (XEP-0220 §2.4.2).
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 §6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Stream error conditions (RFC 6120 §4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza error conditions (RFC 6120 §8.3.2).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Application-specific stanza and stream errors (RFC 6120 §13.12 item 4: `stanza-too-big`).
pub const APP_ERRORS: &str = "urn:xmpp:errors";
/// Bidirectional streams: the request (XEP-0288 §2.2).
pub const BIDI: &str = "urn:xmpp:bidi";
/// Bidirectional streams: the feature (XEP-0288 §2.1).
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// Stream management: acknowledgements and resumption (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Stream limits advertisement (XEP-0478).
pub const LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Obsolete stream compression (XEP-0138), recognised to be refused.
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// The namespace that the prefix `xml` is bound to.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace that the prefix `xmlns` is bound to.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// Multi-user chat: joining a room (XEP-0045 §7.2); the others of its namespaces begin with it.
pub const MUC: &str = "http://jabber.org/protocol/muc";
/// Multi-user chat: what an occupant sends and gets, invitations among it (XEP-0045 §7.8).
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Direct invitations to rooms (XEP-0249).
pub const CONFERENCE: &str = "jabber:x:conference";
/// Publish-subscribe (XEP-0060); the others of its namespaces begin with it.
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// Publish-subscribe: notifications (XEP-0060 §7.1.2).
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// Stream initiation, for files (XEP-0096).
pub const SI: &str = "http://jabber.org/protocol/si";
/// SOCKS5 bytestreams (XEP-0065).
pub const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";
/// In-band bytestreams (XEP-0047).
pub const IBB: &str = "http://jabber.org/protocol/ibb";
/// Requests for a place to upload a file (XEP-0363), before it had versions; those begin with it.
pub const UPLOAD: &str = "urn:xmpp:http:upload";
