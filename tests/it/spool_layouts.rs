//! Events with holes, made out of text: what a converter makes of pages that it knows.

use promwatch::model::{Event, Form, LabelValues, Layout, ShapeBuilder, StreamKey};
use std::collections::HashMap;
use std::rc::Rc;

/// Layouts that were made, to be shared by events that look the same.
#[derive(Default)]
pub struct Layouts(HashMap<(Rc<StreamKey>, Vec<u8>), Rc<Layout>>);

impl Layouts {
    /// An event of this text: its time and the numbers that stand as members of the outermost object are holes. Those look as
    /// numbers do, whatever they looked like.
    pub fn event(&mut self, key: &Rc<StreamKey>, timestamp_ms: i64, own_time: bool, message: &str) -> Event {
        let mut shape = ShapeBuilder::default();
        let (mut numbers, mut look, mut copied) = (Vec::new(), Vec::new(), 0);
        let time = format!("\"{timestamp_ms}\"");
        for (from, to) in values(message) {
            let value = &message[from..to];
            let number = value.parse::<f64>().ok();
            let is_time = value == time;
            if number.is_none() && !is_time {
                continue;
            }
            let (from, to) = (from + usize::from(is_time), to - usize::from(is_time));
            shape.text().extend_from_slice(&message.as_bytes()[copied..from]);
            look.extend_from_slice(&message.as_bytes()[copied..from]);
            look.push(0);
            copied = to;
            match number {
                Some(number) => {
                    shape.number(Form::Decimal);
                    numbers.push(number);
                }
                None => shape.time(),
            }
        }
        shape.text().extend_from_slice(&message.as_bytes()[copied..]);
        look.extend_from_slice(&message.as_bytes()[copied..]);
        let layout = self.0.entry((Rc::clone(key), look)).or_insert_with(|| {
            let labels = Rc::new(LabelValues::default());
            Rc::new(Layout::new(Rc::clone(key), Rc::new(shape.build(false)), labels))
        });
        Event::new(Rc::clone(layout), Rc::new(numbers), 0, own_time, timestamp_ms)
    }
}

/// Where the values of the outermost object's members stand.
fn values(message: &str) -> Vec<(usize, usize)> {
    let (mut values, mut depth, mut start, mut quoted, mut escaped) = (Vec::new(), 0, None, false, false);
    for (at, byte) in message.bytes().enumerate() {
        if quoted {
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b':' if depth == 1 => start = Some(at + 1),
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' => {
                if depth == 1 {
                    values.extend(start.take().map(|start| (start, at)));
                }
                depth -= i32::from(byte != b',');
            }
            _ => {}
        }
    }
    values
}
