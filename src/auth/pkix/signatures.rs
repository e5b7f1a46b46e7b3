//! Signatures of certificates, not computed twice: the same few intermediate CAs stand in nearly all
//! chains. What a signature is good for (dates, names, uses) is looked at every time.

use std::{
    collections::HashSet,
    mem,
    sync::{LazyLock, Mutex, PoisonError},
};

use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use sha2::{Digest, Sha256};

/// Good signatures of one generation: some fifty bytes each. There are fewer CAs than that, and
/// leaves that are seen once cannot push out what is asked for over and over.
const GENERATION: usize = 512;

static GOOD: Mutex<Option<Good>> = Mutex::new(None);

static REMEMBERING: LazyLock<Vec<Remembering>> = LazyLock::new(|| {
    webpki::ALL_VERIFICATION_ALGS.iter().map(|algorithm| Remembering(*algorithm)).collect()
});

static ALGORITHMS: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
    LazyLock::new(|| REMEMBERING.iter().map(|algorithm| algorithm as _).collect());

/// All that webpki has, each with a memory.
pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    &ALGORITHMS
}

/// An algorithm that computes nothing for what was found good lately.
#[derive(Debug)]
struct Remembering(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let (key, made) = (self.public_key_alg_id(), self.signature_alg_id());
        let mut digest = Sha256::new();
        for part in [key.as_ref(), made.as_ref(), public_key, message, signature] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let digest = digest.finalize().into();
        let good = || GOOD.lock().unwrap_or_else(PoisonError::into_inner);
        if good().get_or_insert_default().knows(&digest) {
            return Ok(());
        }
        self.0.verify_signature(public_key, message, signature)?;
        good().get_or_insert_default().learn(digest);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// Key, message and signature, by their digest, in two generations: what is asked for stays.
#[derive(Debug, Default)]
struct Good {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Good {
    fn knows(&mut self, digest: &[u8; 32]) -> bool {
        if self.young.contains(digest) {
            return true;
        }
        let is_old = self.old.contains(digest);
        if is_old {
            self.learn(*digest);
        }
        is_old
    }

    fn learn(&mut self, digest: [u8; 32]) {
        if self.young.len() == GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Finds good what is signed by its own length, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            _: &[u8],
            message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let is_good = signature == message.len().to_string().as_bytes();
            if is_good { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"counting key")
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"counting")
        }
    }

    #[test]
    fn a_good_signature_is_computed_once_and_nothing_else_passes_for_it() {
        static COUNTING: Counting = Counting(AtomicUsize::new(0));
        let algorithm = Remembering(&COUNTING);
        let asked = |key: &[u8], message: &[u8], signature: &[u8]| {
            let before = COUNTING.0.load(Ordering::Relaxed);
            let is_good = algorithm.verify_signature(key, message, signature).is_ok();
            (is_good, COUNTING.0.load(Ordering::Relaxed) - before)
        };
        assert_eq!(asked(b"key", b"four", b"4"), (true, 1));
        assert_eq!(asked(b"key", b"four", b"4"), (true, 0));
        assert_eq!(asked(b"yek", b"four", b"4"), (true, 1));
        assert_eq!(asked(b"key", b"five5", b"4"), (false, 1));
        assert_eq!(asked(b"key", b"four", b"5"), (false, 1));
        // where one part ends and the next begins counts
        assert_eq!(asked(b"keyf", b"our", b"4"), (false, 1));
        // a bad one is not remembered either
        assert_eq!(asked(b"key", b"four", b"5"), (false, 1));
    }

    #[test]
    fn what_is_asked_for_stays_and_no_more_is_kept_than_two_generations() {
        let mut good = Good::default();
        let digest = |n: usize| std::array::from_fn(|at| (n >> (8 * (at % 4))) as u8);
        good.learn(digest(0));
        for n in 1..10 * GENERATION {
            good.learn(digest(n));
            assert!(good.knows(&digest(0)), "{n}");
            assert!(good.young.len() <= GENERATION && good.old.len() <= GENERATION);
        }
        assert!(!good.knows(&digest(1)));
    }
}
