//! How many inbound streams speak for each remote domain.

use std::sync::Arc;

use dashmap::DashMap;

use crate::xmpp::Domain;

/// The domains that are authorized on inbound streams, with the number of streams.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: DashMap<Domain, usize>,
}

/// One domain's place on one stream; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    domain: Domain,
}

impl Places {
    /// A place for one more stream; none if `most` are taken.
    pub(super) fn take(self: &Arc<Self>, domain: &Domain, most: usize) -> Option<Place> {
        let mut taken = self.taken.entry(domain.clone()).or_insert(0);
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place { places: Arc::clone(self), domain: domain.clone() })
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut taken) = self.places.taken.get_mut(&self.domain) {
            *taken = taken.saturating_sub(1);
        }
        self.places.taken.remove_if(&self.domain, |_, taken| *taken == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_domain_and_come_back() {
        let places = Arc::new(Places::default());
        let take = |name: &str| places.take(&Domain::parse(name).unwrap(), 2);
        let first = take("a.example").unwrap();
        let _second = take("a.example").unwrap();
        assert!(take("a.example").is_none());
        assert!(take("b.example").is_some());
        drop(first);
        assert!(take("a.example").is_some());
        drop(_second);
        assert!(places.taken.is_empty(), "{places:?}");
    }
}
