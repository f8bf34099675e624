//! Network interfaces.

use super::{Exposition, Files, column};

/// The columns of `/proc/net/dev` after the interface's name.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

pub(super) fn render(files: &Files<'_>, page: &mut Exposition<'_>) {
    traffic(files, page);
    state(files, page);
}

/// The loopback interface is left out, as in Debian's node_exporter.
fn traffic(files: &Files<'_>, page: &mut Exposition<'_>) {
    let table = files.text("/proc/net/dev").unwrap_or_default();
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in table.lines() {
        let Some((device, numbers)) = line.rsplit_once(':') else { continue };
        let device = device.trim();
        if device != "lo" {
            rows.push((device, numbers.split_whitespace().collect()));
        }
    }
    if rows.is_empty() {
        return;
    }
    for (at, column_name) in COLUMNS.iter().enumerate() {
        let name = format!("node_network_{column_name}_total");
        page.family(&name, "counter", &format!("{} of a network interface.", column_name.replace('_', " ")));
        for (device, numbers) in &rows {
            page.sample(&name, &[("device", device)], column(numbers, at));
        }
    }
}

fn state(files: &Files<'_>, page: &mut Exposition<'_>) {
    let devices = files.names("/sys/class/net");
    let up: Vec<(&str, f64)> = devices
        .iter()
        .filter_map(|device| {
            let state = files.word(&format!("/sys/class/net/{device}/operstate"))?;
            Some((device.as_str(), f64::from(u8::from(state == "up"))))
        })
        .collect();
    family(page, "node_network_up", "1 for an interface that is up.", &up);
    let property = |file: &str, factor: f64| -> Vec<(&str, f64)> {
        let value = |device: &String| files.number(&format!("/sys/class/net/{device}/{file}"));
        devices.iter().filter_map(|device| Some((device.as_str(), value(device)? * factor))).collect()
    };
    family(page, "node_network_carrier", "1 for an interface with a link.", &property("carrier", 1.0));
    family(page, "node_network_mtu_bytes", "The largest packet, in bytes.", &property("mtu", 1.0));
    family(page, "node_network_speed_bytes", "Speed in bytes a second.", &property("speed", 125_000.0));
}

fn family(page: &mut Exposition<'_>, name: &str, help: &str, rows: &[(&str, f64)]) {
    if rows.is_empty() {
        return;
    }
    page.family(name, "gauge", help);
    for (device, value) in rows {
        page.sample(name, &[("device", device)], *value);
    }
}
