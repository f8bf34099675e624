//! A table from 128-bit keys to small numbers, given out from 0 on: 16 bytes and some six more an entry.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher, RandomState};

/// A hash that names something. Two of a million things have the same with a chance of about 1 in 10^27.
pub type Key = [u64; 2];

/// Makes [`Key`]s that only this process can make: nobody outside can choose things whose keys coincide, or fall into one slot.
#[derive(Clone, Copy, Debug)]
pub struct Keyed(Key);

impl Default for Keyed {
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self([random(), random()])
    }
}

impl Keyed {
    /// The key of these bytes, of one kind of thing.
    pub fn key(&self, kind: u8, bytes: &[u8]) -> Key {
        let mut hasher = self.hasher(kind);
        hasher.write(bytes);
        finish(&hasher)
    }

    /// For a key of several parts.
    pub fn hasher(&self, kind: u8) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0] ^ u64::from(kind), self.0[1])
    }
}

/// The key of what was written.
pub fn finish(hasher: &SipHasher13) -> Key {
    let hash = hasher.finish128();
    [hash.h1, hash.h2]
}

/// Keys with their numbers.
#[derive(Clone, Debug, Default)]
pub struct KeyIndex {
    keys: Vec<Key>,
    /// Numbers plus one, at the first free slot from their key's on.
    slots: Vec<u32>,
}

impl KeyIndex {
    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>() + self.slots.capacity() * size_of::<u32>()
    }

    /// Whether this number is that key's: quicker than looking for it.
    pub fn is(&self, number: u32, key: &Key) -> bool {
        self.keys.get(number as usize) == Some(key)
    }

    /// The number of a key.
    pub fn find(&self, key: &Key) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = key[0] as usize & mask;
        // A slot is always free.
        while let Some(number) = self.slots[at].checked_sub(1) {
            if self.keys[number as usize] == *key {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Adds a key that is not here, and gives it the next number.
    pub fn insert(&mut self, key: Key) -> u32 {
        if (self.keys.len() + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let number = self.keys.len() as u32;
        self.keys.push(key);
        self.put(number);
        number
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn put(&mut self, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = self.keys[number as usize][0] as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = number + 1;
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        self.slots.clear();
        self.slots.resize(size, 0);
        for number in 0..self.keys.len() as u32 {
            self.put(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_number() {
        let keyed = Keyed::default();
        let key = |n: u64| keyed.key((n % 3) as u8, &n.to_le_bytes());
        let mut index = KeyIndex::default();
        assert_eq!(index.find(&key(0)), None);
        for n in 0..5_000 {
            assert_eq!(u64::from(index.insert(key(n))), n);
        }
        for n in 0..5_000 {
            assert_eq!(index.find(&key(n)), Some(n as u32));
            assert!(index.is(n as u32, &key(n)) && !index.is(n as u32 + 1, &key(n)));
        }
        assert_eq!(index.find(&key(5_000)), None);
        assert!(index.memory_bytes() <= 5_000 * 50 && index.len() == 5_000);
    }

    #[test]
    fn keys_in_even_distances_cost_no_more() {
        let mut index = KeyIndex::default();
        for n in 0..4_096_u64 {
            index.insert([n, 7]);
        }
        assert_eq!((index.find(&[4_095, 7]), index.find(&[4_095, 8])), (Some(4_095), None));
    }
}
