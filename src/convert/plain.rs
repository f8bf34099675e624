//! The plain way: a page's samples, each with its labels, to events; for what is new or odd, and the judge of the quick way.
//!
//! Every scrape is worked out from the beginning, and the events are text that does not come again.

use super::baseline::ScrapeTime;
use super::event::{self, Attributes, Group};
use super::families::Families;
use super::gather::{Gathering, GroupHead, Kept};
use super::histogram::Distribution;
use super::key::{self, Key};
use super::{Converted, Converter, Field, TargetState};
use crate::model::{MetricType, Page, Report, Sample, Target};

impl Converter {
    /// Converts one scrape of one target.
    ///
    /// `page` is missing for a scrape that failed: it costs no baseline. `report_samples` (`up`, `scrape_*`) become
    /// events where the settings ask for them or the page gives their names a type. `monotonic_ms` orders scrapes and
    /// ages baselines whatever the wall clock does; it never goes back.
    pub fn convert(
        &mut self,
        target: &Target,
        report: &Report,
        page: Option<Page>,
        report_samples: &[Sample],
        monotonic_ms: u64,
    ) -> Converted {
        let target_key = key::of_target(&target.identity());
        let generation = self.next_generation();
        let mut state = self.targets.remove(&target_key).unwrap_or_else(|| TargetState::new(generation, target));
        let families = &mut state.families;
        let converted = self.convert_plainly(families, target, target_key, report, page, report_samples, monotonic_ms);
        self.targets.insert(target_key, state);
        converted
    }

    #[allow(clippy::too_many_arguments)] // a scrape, and where it belongs
    pub(super) fn convert_plainly(
        &mut self,
        families: &mut Families,
        target: &Target,
        target_key: Key,
        report: &Report,
        page: Option<Page>,
        report_samples: &[Sample],
        monotonic_ms: u64,
    ) -> Converted {
        let succeeded = page.is_some();
        let Page { mut samples, types } = page.unwrap_or_default();
        let scraped = samples.len();
        // The agent sends them where the page gives one of their names a type.
        let health = self.settings.more.scrape_health;
        let wanted = |sample: &&Sample| {
            let name = sample.labels.name();
            health || families.type_of(&types, name, name).is_some()
        };
        samples.extend(report_samples.iter().filter(wanted).cloned());

        let time = ScrapeTime { monotonic_ms, interval_ms: target.interval_ms };
        let max_gap_ms = self.max_gap_ms(target);
        let mut gathering = Gathering::new(&self.settings, target_key, time, max_gap_ms);
        self.baselines.begin(time);
        self.keys.begin();
        let mut last = ("", "", None);
        for (at, sample) in samples.iter().enumerate() {
            let gauge = if at >= scraped { health } else { self.settings.more.untyped };
            // A family's samples follow one another.
            let names = (sample.exposed_name(), sample.labels.name());
            if (last.0, last.1) != names {
                last = (names.0, names.1, families.type_of(&types, names.0, names.1));
            }
            match last.2.or(gauge.then_some(MetricType::Gauge)) {
                Some(kind) => gathering.add(at as u32, sample, kind, &mut self.baselines),
                None => gathering.counts.no_type += 1,
            }
        }
        if succeeded {
            families.turn_page(types);
        }
        gathering.finish();
        let Gathering { groups, kept, distributions, mut counts, .. } = gathering;
        counts.baselines_evicted = std::mem::take(&mut self.baselines.evicted);
        counts.baselines_refused = std::mem::take(&mut self.baselines.refused);
        let mut converted = Converted { events: Vec::with_capacity(groups.len()), counts };
        self.write(&samples, &groups, kept, &distributions, report.start_ms, &mut converted);
        converted
    }

    /// Writes the groups' events.
    pub(super) fn write(
        &mut self,
        samples: &[Sample],
        groups: &[GroupHead],
        mut kept: Vec<Kept>,
        distributions: &[Distribution],
        start_ms: i64,
        converted: &mut Converted,
    ) {
        kept.sort_by_key(|kept| kept.group);
        let Converted { events, counts } = converted;
        let mut fields: Vec<Field<'_>> = Vec::new();
        for run in kept.chunk_by(|a, b| a.group == b.group) {
            fields.clear();
            fields.extend(run.iter().map(|kept| Field { name: kept.name(samples), value: kept.value }));
            // A stable sort: of two samples with one name the later one on the page counts.
            fields.sort_by_key(|field| field.name);
            fields.dedup_by(|later, kept| {
                let same = later.name == kept.name;
                if same {
                    kept.value = later.value;
                }
                same
            });
            let head = &groups[run[0].group as usize];
            let first = &samples[head.first_sample as usize];
            let mut labels = Attributes::of(&first.labels, head.left_out, head.kind, &self.settings);
            let extra: Vec<String> =
                self.settings.labels.iter().map(|(_, template)| event::expand(&template.0, &labels)).collect();
            for ((name, _), value) in self.settings.labels.iter().zip(&extra) {
                labels.add(name, value, None);
            }
            let timestamp_ms = first.timestamp_ms.unwrap_or(start_ms);
            let group = Group {
                labels: &labels,
                fields: &fields,
                distributions,
                timestamp_ms: Some(timestamp_ms),
                span_s: head.span_s,
            };
            let outcome = group.write(&self.settings, &mut self.matcher);
            outcome.count(fields.len(), counts);
            if outcome.written.is_empty() {
                continue;
            }
            let key = self.keys.of(&self.settings, &labels);
            let own_time = first.timestamp_ms.is_some();
            events.extend(outcome.into_events(key, own_time, timestamp_ms));
        }
    }
}
