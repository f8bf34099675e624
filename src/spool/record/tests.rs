use super::*;
use crate::model::{Form, ShapeBuilder};

fn key() -> Rc<StreamKey> {
    Rc::new(StreamKey { group: "g".into(), stream: "s".into() })
}

fn layout(name: &str, forms: &[Form], label: &str) -> Rc<Layout> {
    let mut shape = ShapeBuilder::default();
    shape.text().extend_from_slice(format!("{{\"{name}\":\"").as_bytes());
    shape.label(0);
    shape.text().extend_from_slice(b"\",\"Timestamp\":\"");
    shape.time();
    for form in forms {
        shape.text().extend_from_slice(b"\",\"n\":");
        shape.number(*form);
    }
    let labels = Rc::new(LabelValues::of(std::iter::once(label)));
    Rc::new(Layout::new(key(), Rc::new(shape.build(false)), labels))
}

fn event(layout: &Rc<Layout>, numbers: &[f64], timestamp_ms: i64) -> Event {
    let own_time = timestamp_ms % 2 == 0;
    Event::new(Rc::clone(layout), Rc::new(numbers.to_vec()), 0, own_time, timestamp_ms)
}

/// A table with the layouts of these events.
fn table(events: &[&Event]) -> Table {
    let mut table = Table::default();
    for event in events {
        let template = table.add_template(&event.layout.shape).expect("room");
        table.add_layout(template, event).expect("room");
    }
    table
}

fn sample() -> (Vec<Event>, Plan, Table) {
    let a = layout("a", &[Form::Decimal, Form::F64, Form::I64], "x");
    let (b, c) = (layout("b", &[], "\u{1}é"), layout("c", &[Form::Decimal], "own"));
    let text = Event::text(key(), -7, true, r#"{"Timestamp":"-7","CloudWatchMetrics":[{}],"free":"text"}"#);
    let events = vec![
        event(&a, &[1.25, f64::NAN, f64::from_bits(u64::MAX)], 1000),
        event(&b, &[], 1000),
        text,
        event(&a, &[1.5, 0.1 + 0.2, f64::from_bits(3)], 1001),
        event(&c, &[1e300], i64::MAX),
        event(&a, &[-0.0, f64::NEG_INFINITY, 0.0], i64::MIN),
        event(&c, &[7.0], 0),
    ];
    let table = table(&[&events[1], &events[0], &events[4]]);
    let slots = vec![Slot::Known(1), Slot::Known(0), Slot::Own(2, None), Slot::Own(4, Some(2))];
    (events, Plan { slots, order: vec![0, 1, 2, 0, 3, 0, 3] }, table)
}

fn assert_same(events: &[Event], decoded: &[Event]) {
    assert_eq!(decoded, events);
    for (event, decoded) in events.iter().zip(decoded) {
        let bits = |event: &Event| event.numbers().iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(event), bits(decoded));
        assert_eq!(event.layout.shape, decoded.layout.shape);
    }
}

#[test]
fn events_come_back_with_all_their_bits_and_share_what_they_can() {
    let (events, plan, table) = sample();
    let payload = encode(&events, &plan, 1000, &table).expect("light");
    let decoded = decode(&payload, 7, 1000, &table, &key()).expect("decodes");
    assert_same(&events, &decoded);
    assert!(Rc::ptr_eq(&decoded[0].layout, &decoded[5].layout));
    assert!(decoded.iter().all(|event| Rc::ptr_eq(&event.numbers, &decoded[0].numbers)));
    // The same without the segment's layouts, and with no more than one of them.
    let own = Plan { slots: (0..7).map(|event| Slot::Own(event, None)).collect(), order: Vec::new() };
    let payload = encode(&events, &own, 1000, &table).expect("light");
    assert_same(&events, &decode(&payload, 7, 1000, &Table::default(), &key()).expect("decodes"));
    let one = Plan { slots: vec![Slot::Known(0)], order: Vec::new() };
    let payload = encode(&events[1..2], &one, 1000, &table).expect("light");
    assert_same(&events[1..2], &decode(&payload, 1, 1000, &table, &key()).expect("decodes"));
}

#[test]
fn the_values_of_a_hole_lie_together() {
    let page = layout("a", &[Form::Decimal, Form::Decimal], "x");
    let events: Vec<Event> = (0..3).map(|n| event(&page, &[f64::from(n), f64::from(10 + n)], 1001)).collect();
    let plan = Plan { slots: vec![Slot::Known(0)], order: vec![0; 3] };
    let payload = encode(&events, &plan, 1001, &table(&[&events[0]])).expect("light");
    // Both holes: the layout's number, then one more and one more again.
    assert!(payload.ends_with(&[0, 1, 1, 0, 1, 1, 2, 2, 2, 2]), "{payload:?}");
}

#[test]
fn a_page_that_hardly_changes_takes_a_byte_or_two_a_number() {
    let layouts: Vec<_> = (0..100).map(|n| layout(&format!("metric_{n}"), &[Form::Decimal], "")).collect();
    let page = |tenth: i32| -> Vec<Event> {
        layouts.iter().zip(0..).map(|(layout, n)| event(layout, &[f64::from(n * 10 + tenth) / 10.0], 1001)).collect()
    };
    let (events, before) = (page(6), page(5));
    let table = table(&before.iter().collect::<Vec<_>>());
    let plan = Plan { slots: (0..100).map(Slot::Known).collect(), order: Vec::new() };
    let payload = encode(&events, &plan, 1001, &table).expect("light");
    assert!(payload.len() <= 210, "{}", payload.len());
}

#[test]
fn events_that_are_too_heavy_are_not_written_and_not_read() {
    let large = layout(&"x".repeat(1 << 20), &[], "");
    let events = vec![event(&large, &[], 1); 17];
    for (count, fits) in [(15, true), (17, false)] {
        let plan = Plan { slots: vec![Slot::Own(0, None)], order: vec![0; count] };
        assert_eq!(encode(&events[..count], &plan, 1, &Table::default()).is_some(), fits);
    }
    let plan = Plan { slots: vec![Slot::Own(0, None)], order: vec![0] };
    let mut payload = encode(&events[..1], &plan, 1, &Table::default()).expect("light");
    assert!(decode(&payload, 1, 1, &Table::default(), &key()).is_some());
    // The same shape for seventeen events: one run of one slot, in order 1, all at the slot before.
    payload.splice(3..4, [0].into_iter().chain([1; 16]));
    assert!(decode(&payload, 17, 1, &Table::default(), &key()).is_none());
}

#[test]
fn nonsense_is_refused_within_bounds() {
    let (events, plan, table) = sample();
    let good = encode(&events, &plan, 1000, &table).expect("light");
    for at in 0..good.len() {
        for value in 0..=255 {
            let mut bad = good.clone();
            bad[at] = value;
            if let Some(events) = decode(&bad, 7, 1000, &table, &key()) {
                assert_eq!(events.len(), 7);
                events
                    .iter()
                    .for_each(|event| assert_eq!(event.message_bytes(), event.message_with(Default::default()).len()));
            }
        }
        assert!(decode(&good[..at], 7, 1000, &table, &key()).is_none());
    }
    let missing = decode(&good, 7, 1000, &Table::default(), &key());
    assert!(missing.is_none(), "the layouts are not there");
    // A slot without events.
    let empty = Plan { slots: vec![Slot::Known(0), Slot::Known(1)], order: vec![0] };
    let payload = encode(&events[1..2], &empty, 1000, &table).expect("light");
    assert!(decode(&payload, 1, 1000, &table, &key()).is_none());
    // Text that is none.
    let mut shape = ShapeBuilder::default();
    shape.text().push(0xff);
    let layout = Rc::new(Layout::new(key(), Rc::new(shape.build(true)), Rc::default()));
    let plan = Plan { slots: vec![Slot::Own(0, None)], order: Vec::new() };
    let payload = encode(&[event(&layout, &[], 1)], &plan, 1, &table).expect("light");
    assert!(decode(&payload, 1, 1, &table, &key()).is_none());
}
