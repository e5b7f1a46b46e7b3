//! The status page: one document with its style and script in it, and a policy by which a browser
//! runs nothing else (CSP level 3), whatever strangers have put into names and reasons.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    Response, StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS},
};
use sha2::{Digest, Sha256};

use super::api::{Body, text};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const BODY: &str = include_str!("page.html");

static PAGE: LazyLock<String> =
    LazyLock::new(|| BODY.replacen("/* style */", STYLE, 1).replacen("/* script */", SCRIPT, 1));
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-{}'; \
         style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// The page. There are no facts in it: it asks for them.
pub(super) fn answer() -> Response<Body> {
    let mut answer = text(StatusCode::OK, "text/html; charset=utf-8", PAGE.clone());
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_its_style_and_script_in_it_and_needs_nothing_else() {
        assert!(PAGE.contains(&format!("<style>{STYLE}</style>")));
        assert!(PAGE.contains(&format!("<script>{SCRIPT}</script>")));
        for foreign in ["src=", "href=\"http", "@import", "url(", "innerHTML", "onclick="] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
