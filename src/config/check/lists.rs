//! Named lists: where they come from, and what those say that stand in the configuration itself.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use url::Url;

use crate::{
    config::{
        model::{ListSource, ListUrl},
        policy::List,
        problem::{Reports, Wrong, quote},
        raw::Pair,
        read::Section,
        value,
    },
    net::fetch,
};

/// The lists by name, and the content of those that are written out.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) sources: BTreeMap<Arc<str>, ListSource>,
    pub(super) written: Vec<(Arc<str>, Arc<List>)>,
}

pub(super) fn check(top: &Section<'_>, directory: &Path, out: &mut Reports<'_>) -> Lists {
    let mut lists = Lists::default();
    let Some(node) = top.get("lists") else { return lists };
    for pair in Section::free(node, "lists", out) {
        let name = &pair.key;
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(good) {
            let wrong = Wrong::new(format!("not a name for a list: {}", quote(name)));
            let hint = format!("1 to {MAX_NAME} letters, digits, \"-\" and \"_\"");
            out.error(pair.at, wrong.hint(hint));
        }
        if let Some(source) = source(pair, directory, &mut lists.written, out) {
            lists.sources.insert(name.clone(), source);
        }
    }
    lists
}

fn source(
    pair: &Pair,
    directory: &Path,
    written: &mut Vec<(Arc<str>, Arc<List>)>,
    out: &mut Reports<'_>,
) -> Option<ListSource> {
    let section = Section::of(&pair.value, &pair.key, &LIST_KEYS, out);
    let given = ["file", "domains", "url"].map(|key| section.pair(key));
    let [file, domains, url] = given;
    if given.into_iter().flatten().count() != 1 && section.is_mapping {
        let wrong = Wrong::new("a list comes from one place");
        out.error(pair.at, wrong.hint("give one of: file, domains, url"));
    }
    for key in ["refresh", "max_size"] {
        if let (Some(pair), None) = (section.pair(key), url) {
            let wrong = Wrong::new(format!("\"{key}\" without \"url\""));
            out.error(pair.at, wrong.hint("only what is fetched has it"));
        }
    }
    if file.is_some() {
        let path = |text: &str| value::path(text, directory);
        return section.text("file", path, out).map(ListSource::File);
    }
    if url.is_some() {
        let refresh = section.text("refresh", |t| value::duration(t, &REFRESH_RANGE), out);
        let max_size = section.text("max_size", |t| value::size(t, &SIZE_RANGE), out);
        return section.text("url", fetchable, out).map(|url| {
            ListSource::Url(ListUrl {
                url,
                refresh: refresh.unwrap_or(REFRESH),
                max_size: max_size.unwrap_or(MAX_SIZE),
            })
        });
    }
    domains?;
    let place = domains.map(|pair| out.place(pair.at).to_string()).unwrap_or_default();
    let mut list = List::named(place.into());
    let mut texts = Vec::new();
    let mut add = |text: &str| {
        list.add(crate::config::lists::entry(text)?, 0);
        texts.push(text.to_owned());
        Ok(())
    };
    section.list("domains", &mut add, out);
    written.push((pair.key.clone(), Arc::new(list)));
    Some(ListSource::Domains(texts))
}

/// A URL from which a list can be fetched.
fn fetchable(text: &str) -> Result<String, Wrong> {
    let wrong = |hint: &str| Err(Wrong::new(format!("not a URL: {}", quote(text))).hint(hint));
    let Some(rest) = text.strip_prefix("https://") else {
        return wrong("expected https://, so that nobody on the way writes the list");
    };
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'#');
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') || !rest.bytes().all(good) {
        return wrong(EXPECTED);
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return wrong(&format!("{error}; {EXPECTED}")),
    };
    match fetch::destination(&url, None) {
        Ok(_) => Ok(text.to_owned()),
        Err(problem) => Err(Wrong::new(format!("nothing is fetched from {}", quote(text)))
            .hint(format!("{problem}; {EXPECTED}"))),
    }
}

const EXPECTED: &str = "expected such as \"https://lists.example/spam.txt\"";

pub(super) const LIST_KEYS: [&str; 5] = ["file", "domains", "url", "refresh", "max_size"];

/// Bytes of a list's name, which is that of a file too.
const MAX_NAME: usize = 64;
const REFRESH: Duration = Duration::from_hours(1);
const REFRESH_RANGE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(168);
const MAX_SIZE: usize = 4 << 20;
const SIZE_RANGE: RangeInclusive<usize> = 1 << 10..=32 << 20;
