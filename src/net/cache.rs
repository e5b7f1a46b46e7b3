//! What others said, for as long as it holds: bounded in number, and each in size by whoever puts it
//! in.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Values that expire.
pub(super) struct Cache<K, V> {
    most: usize,
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// For so many entries at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, entries: Mutex::new(HashMap::new()) }
    }

    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = entries.get(key)?;
        (*until > now).then(|| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V, until: Instant, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.most {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() >= self.most {
            // An eighth at once, those that would go first, so that this is seldom done.
            let mut ends: Vec<Instant> = entries.values().map(|(until, _)| *until).collect();
            let (_, end, _) = ends.select_nth_unstable(self.most / 8);
            let end = *end;
            entries.retain(|_, (until, _)| *until > end);
        }
        entries.insert(key, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_end_and_the_first_to_end_make_room() {
        let cache = Cache::new(16);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        for n in 0..17 {
            cache.put(n, n * 10, after(100 + n), now);
        }
        let kept: Vec<_> = (0..17).filter(|n| cache.get(n, now).is_some()).collect();
        assert_eq!(kept, (3..17).collect::<Vec<_>>());
        assert_eq!(cache.get(&16, after(115)), Some(160));
        assert_eq!(cache.get(&16, after(116)), None);
    }
}
