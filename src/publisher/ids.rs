//! New ids for events.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// Makes random UUIDs. Randomness is drawn for many at once: asking the system for each takes
/// longer than sending an event.
#[derive(Debug)]
pub(super) struct IdSource(Mutex<Pool>);

#[derive(Debug)]
struct Pool {
    random: [u8; POOL_BYTES],
    used: usize,
}

impl Default for IdSource {
    fn default() -> Self {
        Self(Mutex::new(Pool {
            random: [0; POOL_BYTES],
            used: POOL_BYTES,
        }))
    }
}

impl IdSource {
    /// A new id.
    pub(super) fn next(&self) -> String {
        // A pool is whole at any moment: what is counted as used is never used again.
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.used + size_of::<uuid::Bytes>() > POOL_BYTES {
            if getrandom::fill(&mut pool.random).is_err() {
                return Uuid::new_v4().to_string();
            }
            pool.used = 0;
        }
        let (random, _) = pool.random[pool.used..]
            .split_first_chunk()
            .expect("what is left has room for one");
        let id = uuid::Builder::from_random_bytes(*random).into_uuid();
        pool.used += size_of::<uuid::Bytes>();
        id.to_string()
    }
}

/// Randomness drawn at once, in bytes: for 256 ids.
const POOL_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_random_uuids_and_none_comes_twice() {
        let ids = IdSource::default();
        let made: HashSet<String> = (0..2_000).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 2_000);
        for id in made {
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        }
    }
}
