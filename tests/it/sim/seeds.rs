//! Random courses: outages, lost acknowledgements, kills, power cuts and clock steps at any unit of work, drawn from a
//! seed. `PROMWATCH_SEEDS=FROM..TO` runs others than the usual ones.

use super::*;
use crate::cloudwatch::Fault;

fn course(seed: u64) {
    let mut device = Device::new(seed, "5s", r#"{"state_dir": "/state", "buffer": {"max_bytes": "1MiB"}}"#);
    device.start();
    let clock = Rc::clone(&device.clock);
    let draw = |n: u64| clock.random() % n;
    let (mut kills, mut lost_answers) = (0_u64, 0_u64);
    // (true time, how much may be missing before it)
    let mut crashes: Vec<i64> = Vec::new();
    for _ in 0..600 {
        device.step();
        match draw(60) {
            0 => device.net.link.set(Link::Refused),
            1 => device.net.link.set(Link::BlackHole),
            2..=5 => device.net.link.set(Link::Up(20 + draw(500))),
            6 => {
                device.net.cloud.borrow_mut().fail(Some("PutLogEvents"), 1, Fault::DropAfter);
                lost_answers += 1;
            }
            7 => device.net.cloud.borrow_mut().fail(None, 1, Fault::Throttle(Some(300))),
            8 => {
                crashes.push(device.clock.true_ms());
                kills += 1;
                device.kill();
                device.clock.pass(draw(5_000));
                device.start();
            }
            9 => {
                crashes.push(device.clock.true_ms());
                kills += 1;
                device.power_cut(draw(60_000).cast_signed());
                device.start();
            }
            10 => device.stop_and_start(),
            11 => {
                let exporter_down = draw(2) == 0;
                device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().down = exporter_down;
            }
            _ => {}
        }
    }
    device.net.exporters.borrow_mut().get_mut("exporter:9100").unwrap().down = false;
    device.net.link.set(Link::Up(50));
    device.net.cloud.borrow_mut().faults.clear();
    device.drain(3_600_000);
    device.run_ms(120_000);
    device.stop();
    device.check_server();
    let (gauges, times) = (device.stored_gauges(), device.scrape_times());
    for (n, stored) in &gauges {
        let error_ms = (stored[0] - times[*n as usize - 1]).abs();
        assert!(error_ms <= 2_000, "seed {seed}: scrape {n} is {error_ms} ms off");
    }
    for (index, time_ms) in times.iter().enumerate() {
        let at_risk = crashes.iter().any(|crash_ms| (0..=7_500).contains(&(crash_ms - time_ms)));
        let n = index as u64 + 1;
        assert!(
            at_risk || gauges.contains_key(&n),
            "seed {seed}: scrape {n} at {time_ms} is lost; crashes {crashes:?}"
        );
    }
    let twice: usize = gauges.values().map(|stored| stored.len() - 1).sum();
    // One batch per crash and per lost answer; a batch holds what one window of the link takes.
    assert!(twice as u64 <= (kills + lost_answers) * 60, "seed {seed}: {twice} duplicates, {kills} kills");
}

impl Device {
    fn stop_and_start(&mut self) {
        self.stop();
        self.clock.pass(1_000);
        self.start();
    }
}

#[test]
fn every_seed_keeps_its_promises() {
    let range = std::env::var("PROMWATCH_SEEDS").unwrap_or_else(|_| "0..100".to_owned());
    let (from, to) = range.split_once("..").expect("PROMWATCH_SEEDS=FROM..TO");
    for seed in from.parse().expect("a number")..to.parse().expect("a number") {
        course(seed);
    }
}
