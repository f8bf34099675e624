//! Streams by number, so that records need not hold their names; and sums per stream.

use super::{Loss, LossReason, step};
use crate::model::StreamKey;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::rc::Rc;

/// Finds a place in a list by a stream. The hash is keyed at random: nobody can choose names that fall together.
#[derive(Clone, Debug, Default)]
struct Places(HashMap<u64, u64>);

impl Places {
    /// The place of a stream in a list, as `is_there` says, or the slot where it belongs.
    fn find(&self, group: &str, stream: &str, is_there: &dyn Fn(usize) -> bool) -> Result<usize, u64> {
        let mut slot = self.0.hasher().hash_one((group, stream));
        loop {
            step();
            match self.0.get(&slot) {
                Some(place) if is_there(*place as usize) => return Ok(*place as usize),
                Some(_) => slot = slot.wrapping_add(1),
                None => return Err(slot),
            }
        }
    }
}

/// Streams by number.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    keys: Vec<Rc<StreamKey>>,
    places: Places,
}

impl Streams {
    /// The number of a stream, new ones included.
    pub fn number(&mut self, group: &str, stream: &str) -> u32 {
        let is_there = |at: usize| self.keys[at].group == group && self.keys[at].stream == stream;
        let at = self.places.find(group, stream, &is_there).unwrap_or_else(|slot| {
            self.places.0.insert(slot, self.keys.len() as u64);
            self.keys.push(Rc::new(StreamKey { group: group.to_owned(), stream: stream.to_owned() }));
            self.keys.len() - 1
        });
        at as u32
    }

    /// A stream by its number.
    pub fn key(&self, number: u32) -> &Rc<StreamKey> {
        &self.keys[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Forgets all but these; returns the new number of each.
    pub fn keep(&mut self, used: &[bool]) -> Vec<u32> {
        let old = std::mem::take(self);
        let numbers = old.keys.into_iter().zip(used).map(|(key, used)| match used {
            true => {
                let number = self.number(&key.group, &key.stream);
                self.keys[number as usize] = key;
                number
            }
            false => u32::MAX,
        });
        numbers.collect()
    }
}

/// Losses, one for each reason and stream.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    list: Vec<Loss>,
    places: [Places; 3],
}

impl Losses {
    /// Adds a loss, to one of the same reason and stream where there is one.
    pub fn add(&mut self, loss: Loss) {
        let names = loss.key.as_deref().map_or(("", ""), |key| (key.group.as_str(), key.stream.as_str()));
        let places = &mut self.places[match loss.reason {
            LossReason::MaxBytes => 0,
            LossReason::MaxAge => 1,
            LossReason::Damaged => 2,
        }];
        match places.find(names.0, names.1, &|at| self.list[at].key == loss.key) {
            Ok(at) => {
                let known = &mut self.list[at];
                known.events += loss.events;
                known.from_ms = known.from_ms.min(loss.from_ms);
                known.to_ms = known.to_ms.max(loss.to_ms);
            }
            Err(slot) => {
                places.0.insert(slot, self.list.len() as u64);
                self.list.push(loss);
            }
        }
    }

    /// What was added.
    pub fn take(&mut self) -> Vec<Loss> {
        std::mem::take(self).list
    }
}
