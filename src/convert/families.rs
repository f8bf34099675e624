//! Which type a sample has: the metadata of a page, and of the pages before it.

use crate::model::MetricType;
use std::collections::HashMap;

/// After how many pages without it a family's type is forgotten (Prometheus, `scrape/scrape.go`, `iterDone`).
const REMEMBERED_PAGES: u8 = 10;

/// The most memory for the last page's families of one target, and again for those that vanished. What does not fit is
/// forgotten; the next page names its families again.
const MAX_BYTES: usize = 1 << 20;

/// What a family takes beside its name.
const FAMILY_BYTES: usize = 32;

/// Family name -> type.
pub(super) type Types = HashMap<Box<str>, MetricType>;

/// The types that the last pages of one target gave.
#[derive(Default)]
pub(super) struct Families {
    last: Types,
    vanished: HashMap<Box<str>, (MetricType, u8)>,
}

impl Families {
    /// The type of a sample on the page whose own metadata is `page`: `exposed` is its name there, `name` the present one.
    ///
    /// As in the agent (`metrics_type_handler.go`): the exposed name without `_count`, `_sum` or `_bucket` first; then,
    /// if that is not the sample's name, the exposed name itself; else the name without `_total`.
    pub(super) fn type_of(&self, page: &Types, exposed: &str, name: &str) -> Option<MetricType> {
        let family = without_suffix(exposed);
        if let Some(kind) = self.lookup(page, family) {
            return Some(kind);
        }
        if name != family { self.lookup(page, exposed) } else { self.lookup(page, exposed.strip_suffix("_total")?) }
    }

    /// Nothing is remembered but the last page's families, and those whole.
    pub(super) fn is_settled(&self, page_has_none: bool) -> bool {
        self.vanished.is_empty() && self.last.is_empty() == page_has_none
    }

    /// The last page's families.
    pub(super) fn last(&self) -> Types {
        self.last.clone()
    }

    fn lookup(&self, page: &Types, family: &str) -> Option<MetricType> {
        let vanished = || self.vanished.get(family).map(|(kind, _)| kind);
        page.get(family).or_else(|| self.last.get(family)).or_else(vanished).copied()
    }

    /// Takes in the metadata of a finished page.
    pub(super) fn turn_page(&mut self, mut page: Types) {
        if bytes(page.keys()) > MAX_BYTES {
            page.clear();
        }
        self.vanished.retain(|name, (_, age)| {
            *age += 1;
            *age <= REMEMBERED_PAGES && !page.contains_key(name)
        });
        let mut vanished_bytes = bytes(self.vanished.keys());
        for (name, kind) in std::mem::take(&mut self.last) {
            if !page.contains_key(&name) && vanished_bytes < MAX_BYTES {
                vanished_bytes += name.len() + FAMILY_BYTES;
                self.vanished.insert(name, (kind, 1));
            }
        }
        self.last = page;
    }
}

fn bytes<'a>(names: impl Iterator<Item = &'a Box<str>>) -> usize {
    names.map(|name| name.len() + FAMILY_BYTES).sum()
}

/// The name without the suffix of a summary's or histogram's parts; a name that is nothing but the suffix keeps it.
pub(super) fn without_suffix(name: &str) -> &str {
    for suffix in ["_count", "_sum", "_bucket"] {
        if let Some(base) = name.strip_suffix(suffix) {
            return if base.is_empty() { name } else { base };
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn types_are_looked_up_in_the_agents_order() {
        use MetricType::{Counter, Gauge, Summary};
        let page: Types = [
            ("m1", Counter),
            ("m2", Summary),
            ("foo", Gauge),
            ("foo_count", Counter),
            ("c_total", Counter),
            ("_count", Gauge),
        ]
        .into_iter()
        .map(|(name, kind)| (name.into(), kind))
        .collect();
        let families = Families::default();
        for (name, exposed, want) in [
            ("m1", None, Some(Counter)),
            ("m1_sum", None, Some(Counter)),
            ("m1_total", None, Some(Counter)),
            ("m2_count", None, Some(Summary)),
            ("foo_count", None, Some(Gauge)),
            ("_count", None, Some(Gauge)),
            ("c_total", None, Some(Counter)),
            ("renamed", Some("c_total"), Some(Counter)),
            ("renamed", Some("m1_total"), None), // an OpenMetrics counter that a relabelling rule renamed
            ("m3", None, None),
            ("_total", None, None),
        ] {
            assert_eq!(families.type_of(&page, exposed.unwrap_or(name), name), want, "{name} {exposed:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let page = |start: usize, len: usize| -> Types {
            let name = |n: usize| format!("{n:_>len$}").into_boxed_str();
            (start..start + 100).map(|n| (name(n), MetricType::Gauge)).collect()
        };
        let mut families = Families::default();
        for round in 0..20 {
            families.turn_page(page(round * 100, 10_000));
            assert!(bytes(families.last.keys()) <= MAX_BYTES);
            assert!(bytes(families.vanished.keys()) <= MAX_BYTES + 10_100);
        }
        families.turn_page(page(0, 20_000));
        assert!(families.last.is_empty());
    }

    #[test]
    fn a_family_that_vanished_is_remembered_for_ten_pages() {
        let page = || -> Types { [("g".into(), MetricType::Gauge)].into_iter().collect() };
        let mut families = Families::default();
        families.turn_page(page());
        for _ in 0..10 {
            assert_eq!(families.type_of(&Types::new(), "g", "g"), Some(MetricType::Gauge));
            families.turn_page(Types::new());
        }
        assert_eq!(families.type_of(&Types::new(), "g", "g"), Some(MetricType::Gauge));
        families.turn_page(Types::new());
        assert_eq!(families.type_of(&Types::new(), "g", "g"), None);
        families.turn_page(page());
        assert_eq!(families.vanished.len(), 0);
    }
}
