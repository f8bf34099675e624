//! A folder of `*.prom` files, with NUL bytes between them: whatever they hold, the page that they make is sound, for one bad file
//! must not sink the others.
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::model::MetricType;
use promwatch::scrape::exposition::{Exposition, Format, Refusal, Series, Sink};
use promwatch::scrape::fuzzing::textfile_page;
use std::path::Path;
use world::World;

struct Any;

impl Sink for Any {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        assert!(series.timestamp_ms.is_none());
        Ok(())
    }

    fn family(&mut self, _: &str, _: Option<MetricType>) -> Result<(), Refusal> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::default().with("/prom/readme", b"not read");
    for (at, file) in data.split(|&byte| byte == 0).take(8).enumerate() {
        world = world.with(&format!("/prom/{at}.prom"), file);
    }
    let (page, problems) = textfile_page(Path::new("/prom"), world.env());
    let mut exposition = Exposition::new(Format::Text, false);
    let read = exposition.push(&page, &mut Any).and_then(|()| exposition.finish(&mut Any));
    assert!(read.is_ok(), "{read:?} of {}", String::from_utf8_lossy(&page));
    assert_eq!(problems.is_empty(), page.ends_with(b"node_textfile_scrape_error 0\n"), "{problems:?}");
    assert!(problems.iter().all(|text| text.starts_with("/prom") && text.len() <= 400 + 8 * data.len()));
});
