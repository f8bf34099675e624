//! Files of `/proc` and `/sys`, path and content in turn with NUL bytes between them: the page is sound whatever they hold.
#![no_main]

mod world;

use libfuzzer_sys::fuzz_target;
use promwatch::host::Host;
use promwatch::model::MetricType;
use promwatch::scrape::exposition::{Exposition, Format, Refusal, Series, Sink};
use std::path::Path;
use world::World;

const PATHS: [&str; 12] = [
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/vmstat",
    "/proc/net/dev",
    "/proc/net/snmp",
    "/proc/net/netstat",
    "/proc/net/sockstat",
    "/proc/diskstats",
    "/proc/mounts",
    "/proc/self/mounts",
];

struct Any;

impl Sink for Any {
    fn sample(&mut self, _: &Series) -> Result<(), Refusal> {
        Ok(())
    }

    fn family(&mut self, _: &str, _: Option<MetricType>) -> Result<(), Refusal> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::default();
    let mut parts = data.split(|&byte| byte == 0);
    while let (Some(path), Some(content)) = (parts.next(), parts.next()) {
        let Ok(text) = std::str::from_utf8(path) else { continue };
        // One byte chooses among the files that are known, more are a path.
        let path = match path {
            [choice] => PATHS[usize::from(*choice) % PATHS.len()].to_owned(),
            _ => format!("/{}", text.trim_start_matches('/')),
        };
        world = world.with(&path, content);
    }
    let mut host = Host::default();
    let mut page = String::new();
    host.render(world.env(), Path::new("/"), &mut page);
    host.render(world.env(), Path::new("/"), &mut String::new());
    assert!(page.len() <= (64 << 10) + 64 * data.len(), "{} bytes", page.len());
    let mut exposition = Exposition::new(Format::Text, false);
    let read = exposition.push(page.as_bytes(), &mut Any).and_then(|()| exposition.finish(&mut Any));
    assert!(read.is_ok(), "{read:?} of {page}");
});
