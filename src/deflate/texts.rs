//! The texts that come again, and each one's parse: what of it stands in a text that is older.
//!
//! ```text
//! add --known--> one use more                          remove --last use--> dead: bytes stay, so it may come back
//!     --new----> bytes, parse, chains                         --half is dead--> compacted: all indexes made anew
//! ```

/// The longest text that is taken, in bytes.
pub const TEXT_BYTES_MAX: usize = 0xffff;

/// A parse names copies of so many bytes or more.
const COPY_MIN: usize = 3;
/// So many places are tried for each copy, the newest first.
const TRIES: usize = 64;
/// So many texts are compared with a new one that may be the same.
const SAME_TRIES: usize = 64;
const HEADS: usize = 1 << 12;
/// No place, no text.
const NONE: u32 = u32::MAX;

/// Names a text in [`Texts`] until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextId(pub(super) u32);

/// Static texts that come again in many bodies, each with its LZ77 parse against the texts before it, made once.
pub struct Texts {
    bytes_max: usize,
    /// All texts, one behind the other; dead ones are holes.
    plain: Vec<u8>,
    /// By place in `plain`: the place before with the same hash of three bytes.
    links: Vec<u32>,
    heads: Box<[u32]>,
    /// All parses, in the order of `plain`.
    hints: Vec<Hint>,
    texts: Vec<Text>,
    /// The texts in the order of `plain`: where each starts, and which it is.
    order: Vec<(u32, u32)>,
    /// Of texts with the same low bits of the hash: the newest.
    same: Vec<u32>,
    /// The first number that is free, see [`Text::next`].
    free: u32,
    /// Bytes of `plain` that belong to dead texts.
    dead_bytes: usize,
}

struct Text {
    start: u32,
    hints: u32,
    hash: u32,
    /// 0: dead, or free.
    uses: u32,
    /// The text before with the same low bits of the hash; of a free one the next free one.
    next: u32,
    len: u16,
    hints_len: u16,
}

/// `len` bytes at `at` stand in `text` from `offset` on, as far as is known: the reader compares.
#[derive(Clone, Copy)]
pub(super) struct Hint {
    pub(super) text: u32,
    pub(super) at: u16,
    pub(super) len: u16,
    pub(super) offset: u16,
}

impl Texts {
    /// None yet. `bytes_max` bounds what all texts, their parses and the tables for the search take together, in bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            plain: Vec::new(),
            links: Vec::new(),
            heads: Box::default(),
            hints: Vec::new(),
            texts: Vec::new(),
            order: Vec::new(),
            same: Vec::new(),
            free: NONE,
            dead_bytes: 0,
        }
    }

    /// Takes a text and parses it. One that is there already gets the same name, and must be removed once more.
    ///
    /// None where it is over 65,535 bytes, or over the bound together with the others.
    pub fn add(&mut self, text: &[u8]) -> Option<TextId> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let hash = hash_all(text);
        if let Some(known) = self.find(text, hash) {
            let entry = &mut self.texts[known as usize];
            if entry.uses == 0 {
                self.dead_bytes -= text.len();
            }
            entry.uses = entry.uses.checked_add(1)?;
            return Some(TextId(known));
        }
        if !self.fits(text.len()) {
            if self.dead_bytes * 8 <= self.plain.len() {
                return None;
            }
            self.compact();
            if !self.fits(text.len()) {
                return None;
            }
        }
        Some(TextId(self.insert(text, hash)))
    }

    /// Takes back one [`Self::add`]. After the last one the name may be given to another text.
    pub fn remove(&mut self, id: TextId) {
        let Some(text) = self.texts.get_mut(id.0 as usize).filter(|text| text.uses > 0) else { return };
        text.uses -= 1;
        if text.uses == 0 {
            self.dead_bytes += usize::from(text.len);
            if self.dead_bytes * 2 > self.plain.len() {
                self.compact();
            }
        }
    }

    /// What all this takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.plain.capacity()
            + self.heads.len() * size_of::<u32>()
            + self.links.capacity() * size_of::<u32>()
            + self.hints.capacity() * size_of::<Hint>()
            + self.texts.capacity() * size_of::<Text>()
            + self.order.capacity() * size_of::<(u32, u32)>()
            + self.same.capacity() * size_of::<u32>()
    }

    /// How many numbers have been given.
    pub(super) fn numbers(&self) -> usize {
        self.texts.len()
    }

    /// A text by its name.
    #[inline]
    pub fn plain(&self, id: TextId) -> &[u8] {
        self.of(&self.texts[id.0 as usize])
    }

    /// A text's parse.
    pub(super) fn hints(&self, id: TextId) -> &[Hint] {
        let text = &self.texts[id.0 as usize];
        &self.hints[text.hints as usize..][..usize::from(text.hints_len)]
    }

    #[inline]
    fn of(&self, text: &Text) -> &[u8] {
        &self.plain[text.start as usize..][..usize::from(text.len)]
    }

    fn find(&self, text: &[u8], hash: u32) -> Option<u32> {
        let mut next = *self.same.get(hash as usize & self.same.len().wrapping_sub(1))?;
        for _ in 0..SAME_TRIES {
            let entry = self.texts.get(next as usize)?;
            if entry.hash == hash && self.of(entry) == text {
                return Some(next);
            }
            next = entry.next;
        }
        None
    }

    /// Whether a text of so many bytes can be taken without going over the bound.
    fn fits(&self, len: usize) -> bool {
        let need = grown(&self.plain, len)
            + grown(&self.links, len) * size_of::<u32>()
            + HEADS * size_of::<u32>()
            + grown(&self.hints, len / COPY_MIN) * size_of::<Hint>()
            + grown(&self.texts, 1) * size_of::<Text>()
            + grown(&self.order, 1) * size_of::<(u32, u32)>()
            + same_heads(self.texts.len() + 1).max(self.same.len()) * size_of::<u32>();
        need <= self.bytes_max && self.plain.len() + len < NONE as usize && self.texts.len() < NONE as usize
    }

    fn insert(&mut self, text: &[u8], hash: u32) -> u32 {
        if self.heads.is_empty() {
            self.heads = vec![NONE; HEADS].into();
        }
        let start = self.plain.len();
        let number = if self.free == NONE { self.texts.len() as u32 } else { self.free };
        if self.free == NONE {
            grow(&mut self.texts, 1);
        } else {
            self.free = self.texts[number as usize].next;
        }
        grow(&mut self.plain, text.len());
        grow(&mut self.links, text.len());
        grow(&mut self.order, 1);
        self.plain.extend_from_slice(text);
        self.links.resize(self.plain.len(), NONE);
        self.order.push((start as u32, number));

        let entry = Text {
            start: start as u32,
            hints: self.hints.len() as u32,
            hash,
            uses: 1,
            next: NONE,
            len: text.len() as u16,
            hints_len: 0,
        };
        match self.texts.get_mut(number as usize) {
            Some(free) => *free = entry,
            None => self.texts.push(entry),
        }
        let mut hints = std::mem::take(&mut self.hints);
        let before = hints.len();
        grow(&mut hints, text.len() / COPY_MIN);
        self.parse(start, &mut hints);
        self.texts[number as usize].hints_len = (hints.len() - before) as u16;
        self.hints = hints;

        if same_heads(self.texts.len()) > self.same.len() {
            self.index_same();
        } else {
            self.link_same(number);
        }
        number
    }

    /// Parses the text that starts at `start` and is the last one: the longest copy at each place, or the next place's if that is
    /// longer.
    fn parse(&mut self, start: usize, hints: &mut Vec<Hint>) {
        let end = self.plain.len();
        let mut place = start;
        let mut linked = start;
        let mut found = None;
        while place + COPY_MIN <= end {
            let here = found.take().or_else(|| self.longest(place, start));
            self.link(&mut linked, place + 1);
            let Some(hint) = here else {
                place += 1;
                continue;
            };
            if place + 1 + COPY_MIN <= end {
                found = self.longest(place + 1, start).filter(|next| next.len > hint.len);
                if found.is_some() {
                    place += 1;
                    continue;
                }
            }
            place += usize::from(hint.len);
            hints.push(hint);
            self.link(&mut linked, place);
        }
        self.link(&mut linked, end);
    }

    /// The longest copy for a place of the text that starts at `start`, of the newest text that has it.
    fn longest(&self, place: usize, start: usize) -> Option<Hint> {
        let wanted = &self.plain[place..];
        let mut best: Option<Hint> = None;
        let mut len = COPY_MIN - 1;
        let mut next = self.heads[hash_three(wanted)?];
        for _ in 0..TRIES {
            let from = next as usize;
            let Some(&link) = self.links.get(from) else { break };
            next = link;
            // A longer one must have this byte too.
            if self.plain.get(from + len) != wanted.get(len) {
                continue;
            }
            let same = common(&self.plain[from..], wanted);
            if same <= len {
                continue;
            }
            let (text, offset, text_len) = self.owner(from)?;
            let same = if from >= start { same } else { same.min(text_len - offset) };
            if same > len && text != NONE {
                len = same;
                best = Some(Hint { text, at: (place - start) as u16, len: len as u16, offset: offset as u16 });
                if len == wanted.len() {
                    break;
                }
            }
        }
        best
    }

    /// Whose a place is, if it is a living one's, the place in it, and how long it is.
    fn owner(&self, place: usize) -> Option<(u32, usize, usize)> {
        let behind = self.order.partition_point(|(start, _)| *start as usize <= place);
        let (start, number) = *self.order.get(behind.checked_sub(1)?)?;
        let text = &self.texts[number as usize];
        let alive = if text.uses > 0 { number } else { NONE };
        Some((alive, place - start as usize, usize::from(text.len)))
    }

    /// Puts the places from `linked` up to `end` into their chains.
    fn link(&mut self, linked: &mut usize, end: usize) {
        for place in *linked..end {
            if let Some(hash) = hash_three(&self.plain[place..]) {
                self.links[place] = self.heads[hash];
                self.heads[hash] = place as u32;
            }
        }
        *linked = end;
    }

    fn link_same(&mut self, number: u32) {
        let mask = self.same.len() - 1;
        let text = &mut self.texts[number as usize];
        text.next = std::mem::replace(&mut self.same[text.hash as usize & mask], number);
    }

    fn index_same(&mut self) {
        self.same.clear();
        self.same.reserve_exact(same_heads(self.texts.len()));
        self.same.resize(same_heads(self.texts.len()), NONE);
        for at in 0..self.order.len() {
            self.link_same(self.order[at].1);
        }
    }

    /// Leaves the dead out and makes all indexes anew.
    fn compact(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        let (mut end, mut hints_end) = (0, 0);
        order.retain_mut(|(start, number)| {
            let text = &mut self.texts[*number as usize];
            if text.uses == 0 {
                text.next = std::mem::replace(&mut self.free, *number);
                (text.len, text.hints_len) = (0, 0);
                return false;
            }
            let (from, len) = (text.start as usize, usize::from(text.len));
            let (hints, hints_len) = (text.hints as usize, usize::from(text.hints_len));
            self.plain.copy_within(from..from + len, end);
            self.hints.copy_within(hints..hints + hints_len, hints_end);
            (text.start, text.hints) = (end as u32, hints_end as u32);
            *start = end as u32;
            end += len;
            hints_end += hints_len;
            true
        });
        self.order = order;
        self.plain.truncate(end);
        self.hints.truncate(hints_end);
        self.links.clear();
        self.dead_bytes = 0;
        shrink(&mut self.plain);
        shrink(&mut self.hints);
        shrink(&mut self.links);
        shrink(&mut self.order);
        self.links.reserve_exact(end);
        self.links.resize(end, NONE);
        self.heads.fill(NONE);
        self.link(&mut 0, end);
        self.index_same();
    }
}

/// A vector's capacity with room for so many more.
fn grown<T>(vec: &Vec<T>, more: usize) -> usize {
    let need = vec.len() + more;
    if need <= vec.capacity() { vec.capacity() } else { need + need / 8 }
}

fn grow<T>(vec: &mut Vec<T>, more: usize) {
    let capacity = grown(vec, more);
    vec.reserve_exact(capacity - vec.len());
}

fn shrink<T>(vec: &mut Vec<T>) {
    vec.shrink_to(vec.len() + vec.len() / 8);
}

/// How many heads there are for so many texts.
fn same_heads(texts: usize) -> usize {
    texts.next_power_of_two().max(64)
}

fn hash_three(plain: &[u8]) -> Option<usize> {
    let [a, b, c] = *plain.first_chunk()?;
    let three = u32::from_le_bytes([a, b, c, 0]);
    Some((three.wrapping_mul(0x9e37_79b1) >> 20) as usize)
}

/// Spreads equal texts alike; no more is asked of it.
fn hash_all(text: &[u8]) -> u32 {
    let mut hash = text.len() as u64;
    for piece in text.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 32) as u32
}

/// How many bytes two texts share from their starts on.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
