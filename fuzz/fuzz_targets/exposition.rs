//! What both exposition targets do: the first bytes say how the page is cut, the rest is the page. It must come out the
//! same however it is cut, strict and forgiving, and forgiving mode must give at least what strict mode gave.

use promwatch::model::MetricType;
use promwatch::scrape::exposition::{BadLine, BadLines, Exposition, Format, Refusal, Series, Sink};

#[derive(Default, PartialEq, Debug)]
struct Page(Vec<String>);

impl Sink for Page {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        let mut line = format!("{:?} {:x} {:?}", series.name(), series.value.to_bits(), series.timestamp_ms);
        for (name, value) in series.labels() {
            line.push_str(&format!(" {name:?}={value:?}"));
        }
        self.0.push(line);
        Ok(())
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal> {
        self.0.push(format!("{name:?} {kind:?}"));
        Ok(())
    }
}

fn read(format: Format, forgiving: bool, page: &[u8], piece_bytes: usize) -> (Page, Result<BadLines, BadLine>) {
    let mut found = Page::default();
    let mut exposition = Exposition::new(format, forgiving);
    for piece in page.chunks(piece_bytes) {
        if let Err(bad) = exposition.push(piece, &mut found) {
            return (found, Err(bad));
        }
    }
    let end = exposition.finish(&mut found);
    (found, end)
}

pub fn check(format: Format, data: &[u8]) {
    let Some((cut, page)) = data.split_first() else { return };
    let piece_bytes = usize::from(*cut) + 1;
    let strict = read(format, false, page, page.len().max(1));
    assert_eq!(read(format, false, page, piece_bytes), strict);
    let forgiving = read(format, true, page, page.len().max(1));
    assert_eq!(read(format, true, page, piece_bytes), forgiving);
    assert!(forgiving.1.is_ok());
    assert!(forgiving.0.0.starts_with(&strict.0.0));
    if let Ok(bad) = &strict.1 {
        assert_eq!(bad.count, 0);
        assert_eq!(forgiving, strict);
    }
}
