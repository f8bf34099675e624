//! A label set in one allocation.

use std::fmt;

/// The longest name or value that a label set holds, in bytes: what does not fit an event of 1 MiB is of no use.
const MAX_PART_BYTES: usize = 1 << 20;

/// A sorted set of label names and values; the metric's own name is the label `__name__`.
///
/// Names are unique and an empty value is the same as no label, as in Prometheus. All of it lies in one string
/// (a page of 100,000 samples would otherwise cost a million allocations): each part is preceded by its length,
/// written as one character.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    text: Box<str>,
}

impl Labels {
    /// Builds a set from pairs in any order; of pairs with one name the last wins, empty values are left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs that are sorted by name, each name once, no value empty. Parts over 1 MiB are cut at a
    /// character boundary.
    pub fn from_sorted(pairs: &[(&str, &str)]) -> Self {
        pack(|| pairs.iter().copied())
    }

    /// The value of a label, or nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find_map(|(n, value)| (n == name).then_some(value))
    }

    /// The metric's name, the label `__name__`; empty when there is none.
    pub fn name(&self) -> &str {
        // It sorts before all names in lower case, so it is nearly always the first one.
        match self.text.strip_prefix("\u{8}__name__") {
            Some(rest) => LabelsIter { rest }.part().unwrap_or(""),
            None => self.get("__name__").unwrap_or(""),
        }
    }

    /// Names and values, sorted bytewise by name.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.text }
    }

    /// Hands over what tells this set from others, for hashing: all labels but the ones left out, in as few pieces as
    /// that takes. Equal sets give equal bytes in every version, because saved counters are found again by them.
    pub fn pack_without(&self, left_out: &[&str], visit: &mut dyn FnMut(&[u8])) {
        let mut labels = self.iter();
        let (mut run, mut before) = (&*self.text, &*self.text);
        while let Some((name, _)) = labels.next() {
            if left_out.contains(&name) {
                visit(&run.as_bytes()[..run.len() - before.len()]);
                run = labels.rest;
            }
            before = labels.rest;
        }
        visit(run.as_bytes());
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The memory that the set holds beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Goes over the names and values of [`Labels`].
#[derive(Clone)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> LabelsIter<'a> {
    fn part(&mut self) -> Option<&'a str> {
        let mut chars = self.rest.chars();
        // Nearly every part is shorter than 128 bytes, so that its length is one byte.
        let (len, text) = match self.rest.as_bytes().first()? {
            len @ 0..=0x7F => (usize::from(*len), self.rest.get(1..)?),
            _ => (length_of(chars.next()?), chars.as_str()),
        };
        let (part, rest) = text.split_at(len);
        self.rest = rest;
        Some(part)
    }
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.part()?, self.part()?))
    }
}

/// A label set under construction, kept sorted.
///
/// A builder that is [reset](Self::reset) and used again allocates nothing once it has grown to its largest set.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name.
    entries: Vec<Entry>,
    /// The names and values that entries point into, and what earlier ones left.
    text: String,
    /// How many labels were set since the start.
    added: u32,
    /// Buffers for whoever rewrites the set, so that a rewriting rule need not allocate.
    pub(crate) spare: [String; 3],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: (usize, usize),
    value: (usize, usize),
    /// 0 for what the builder started with, then 1, 2 … for labels set later.
    order: u32,
}

impl LabelsBuilder {
    /// Starts from an existing set.
    pub fn from_labels(labels: &Labels) -> Self {
        let mut builder = Self::default();
        builder.reset(labels);
        builder
    }

    /// Starts anew from an existing set.
    pub fn reset(&mut self, labels: &Labels) {
        self.reset_sorted(labels);
    }

    /// Starts anew from pairs that are sorted by name, each name once, no value empty.
    pub fn reset_sorted<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.entries.clear();
        self.text.clear();
        self.added = 0;
        for (name, value) in pairs {
            let entry = Entry { name: self.store(name), value: self.store(value), order: 0 };
            self.entries.push(entry);
        }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.position(name) {
            Ok(at) if value.is_empty() => {
                self.entries.remove(at);
            }
            Ok(at) => {
                let value = self.store(value);
                let order = self.entries[at].order;
                let order = if order == 0 { self.next_order() } else { order };
                self.entries[at] = Entry { value, order, ..self.entries[at] };
            }
            Err(_) if value.is_empty() => {}
            Err(at) => {
                #[cfg(test)]
                tests::STEPS.set(tests::STEPS.get() + self.entries.len() - at);
                let entry = Entry { name: self.store(name), value: self.store(value), order: self.next_order() };
                self.entries.insert(at, entry);
            }
        }
    }

    /// Copies labels to other names: `rename` appends what is to be a label's copy's name to a buffer, or says that it gets none.
    /// All are copied as they were before; where two come to one name the later one wins, in the order in which they were set
    /// ([`Self::iter_with_order`]). Sorts once, however many there are.
    pub fn copy_renamed(&mut self, buffer: &mut String, rename: &mut dyn FnMut(&str, &mut String) -> bool) {
        let mut copies = Vec::new();
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            buffer.clear();
            if rename(slice(&self.text, entry.name), buffer) {
                copies.push(Entry { name: self.store(buffer), ..entry });
            }
        }
        if copies.is_empty() {
            return;
        }
        sort(&mut copies, None);
        for copy in copies {
            let order = self.next_order();
            self.entries.push(Entry { order, ..copy });
        }
        sort(&mut self.entries, Some(&self.text));
        let text = &self.text;
        self.entries.dedup_by(|later, kept| {
            let same = slice(text, later.name) == slice(text, kept.name);
            if same {
                kept.value = later.value;
                kept.order = if kept.order == 0 { later.order } else { kept.order };
            }
            same
        });
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.set(name, "");
    }

    /// Keeps the labels whose name passes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| keep(slice(text, entry.name)));
    }

    /// The value of a label, or nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).ok().map(|at| slice(&self.text, self.entries[at].value))
    }

    /// Names and values, sorted bytewise by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter_with_order().map(|(name, value, _)| (name, value))
    }

    /// Names, values and when each label was set: 0 for what the builder started with, more the later. Changing a label that was
    /// set before keeps its place, as in Prometheus' builder, whose order decides which of two labels wins a `labelmap`.
    pub fn iter_with_order(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        self.entries.iter().map(|entry| (slice(&self.text, entry.name), slice(&self.text, entry.value), entry.order))
    }

    /// The finished set. Parts over 1 MiB are cut at a character boundary.
    pub fn build(&self) -> Labels {
        pack(|| self.iter())
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| slice(&self.text, entry.name).cmp(name))
    }

    fn store(&mut self, part: &str) -> (usize, usize) {
        let start = self.text.len();
        self.text.push_str(part);
        (start, self.text.len())
    }

    fn next_order(&mut self) -> u32 {
        self.added = self.added.saturating_add(1);
        self.added
    }
}

/// Sorts by name in that text, or by order; equal ones keep their places.
fn sort(entries: &mut [Entry], by_name_in: Option<&str>) {
    entries.sort_by(|a, b| {
        #[cfg(test)]
        tests::STEPS.set(tests::STEPS.get() + 1);
        match by_name_in {
            Some(text) => slice(text, a.name).cmp(slice(text, b.name)),
            None => a.order.cmp(&b.order),
        }
    });
}

fn cut(part: &str) -> &str {
    &part[..part.floor_char_boundary(MAX_PART_BYTES)]
}

fn slice(text: &str, (start, end): (usize, usize)) -> &str {
    &text[start..end]
}

/// Writes sorted pairs as [`Labels`] keeps them.
fn pack<'a, I: Iterator<Item = (&'a str, &'a str)>>(pairs: impl Fn() -> I) -> Labels {
    let parts = || pairs().flat_map(|(name, value)| [cut(name), cut(value)]);
    let mut text = String::with_capacity(parts().map(|part| part.len() + length_char(part.len()).len_utf8()).sum());
    for part in parts() {
        text.push(length_char(part.len()));
        text.push_str(part);
    }
    Labels { text: text.into_boxed_str() }
}

/// Surrogates are not characters, so lengths from 0xD800 on are written 0x800 higher.
fn length_char(len: usize) -> char {
    let code = if len < 0xD800 { len } else { len + 0x800 };
    u32::try_from(code).ok().and_then(char::from_u32).expect("a part is at most MAX_PART_BYTES long")
}

fn length_of(c: char) -> usize {
    let code = c as usize;
    if code < 0xD800 { code } else { code - 0x800 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// How often two labels were compared to sort them, and how many were moved for one that was put in.
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn labels_are_sorted_unique_and_never_empty() {
        let labels = Labels::from_pairs([("job", "a"), ("__name__", "up"), ("gone", "x"), ("job", "b"), ("gone", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("__name__", "up"), ("job", "b")]);
        assert_eq!((labels.get("job"), labels.get("gone"), labels.name(), labels.len()), (Some("b"), None, "up", 2));
        assert!(Labels::default().is_empty());
    }

    #[test]
    fn a_builder_knows_in_which_order_labels_were_set() {
        let mut builder = LabelsBuilder::from_labels(&Labels::from_pairs([("b", "1"), ("c", "2"), ("d", "3")]));
        for (name, value) in [("z", "1"), ("a", "2"), ("z", "3"), ("c", "4"), ("a", ""), ("a", "5"), ("d", "")] {
            builder.set(name, value);
        }
        let want = [("a", "5", 4), ("b", "1", 0), ("c", "4", 3), ("z", "3", 1)];
        assert_eq!(builder.iter_with_order().collect::<Vec<_>>(), want);
        builder.reset(&Labels::from_pairs([("x", "y")]));
        assert_eq!(builder.iter_with_order().collect::<Vec<_>>(), [("x", "y", 0)]);
        assert_eq!(builder.build(), Labels::from_pairs([("x", "y")]));
    }

    #[test]
    fn very_many_labels_are_copied_in_one_go() {
        const COUNT: usize = 4_000;
        let pairs: Vec<(String, String)> = (0..COUNT).map(|n| (format!("b{n:04}"), n.to_string())).collect();
        let mut builder = LabelsBuilder::from_labels(&Labels::from_pairs(pairs));
        STEPS.set(0);
        // Each copy's name comes before all others.
        builder.copy_renamed(&mut String::new(), &mut |old, new| {
            new.push_str(&format!("a{:04}", COUNT - old[1..].parse::<usize>().unwrap()));
            true
        });
        assert_eq!((builder.get("a0001"), builder.iter().count()), (Some("3999"), 2 * COUNT));
        assert!(builder.iter().is_sorted());
        assert!(STEPS.get() < 50 * COUNT, "{}", STEPS.get());
    }

    #[test]
    fn packing_skips_what_is_left_out_and_nothing_else() {
        let pack = |pairs: &[(&str, &str)], left_out: &[&str]| {
            let mut bytes = Vec::new();
            Labels::from_pairs(pairs.iter().copied())
                .pack_without(left_out, &mut |piece| bytes.extend_from_slice(piece));
            String::from_utf8(bytes).unwrap()
        };
        let all = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
        assert_eq!(pack(&all, &[]), "\u{1}a\u{1}1\u{1}b\u{1}2\u{1}c\u{1}3\u{1}d\u{1}4");
        assert_eq!(pack(&all, &["a", "d", "x"]), pack(&all[1..3], &[]));
        assert_eq!(pack(&all, &["b", "c"]), pack(&[all[0], all[3]], &[]));
        assert_eq!(pack(&all, &["a", "b", "c", "d"]), "");
        assert_eq!(pack(&[], &["a"]), "");
    }

    #[test]
    fn parts_of_every_length_class_come_back() {
        for len in [0, 1, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0x1_0000, MAX_PART_BYTES] {
            let value = "v".repeat(len);
            let labels = Labels::from_pairs([("a", value.as_str()), ("z", "last")]);
            assert_eq!(labels.get("a").unwrap_or("").len(), len);
            assert_eq!(labels.get("z"), Some("last"));
        }
        let long = "é".repeat(MAX_PART_BYTES);
        assert_eq!(Labels::from_pairs([("a", long.as_str())]).get("a").map(str::len), Some(MAX_PART_BYTES));
    }
}
