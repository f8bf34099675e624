//! Load, memory, CPU, processes, pressure, and who the machine is.

use super::{Exposition, Files, column};

/// Clock ticks a second in `/proc/stat` (USER_HZ, 100 on every Linux that we run on).
const TICKS: f64 = 100.0;

/// The columns of a CPU's line in `/proc/stat`, without the guests.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// A CPU that was off for so long starts anew.
const MAX_STEP_BACK_SECONDS: f64 = 3.0;

pub(super) fn render(files: &Files<'_>, page: &mut Exposition<'_>) {
    load(files, page);
    memory(files, page);
    stat(files, page);
    pressure(files, page);
    limits(files, page);
    identity(files, page);
}

fn load(files: &Files<'_>, page: &mut Exposition<'_>) {
    let Some(text) = files.text("/proc/loadavg") else { return };
    let names = ["node_load1", "node_load5", "node_load15"];
    let helps = ["Load average over 1 minute.", "Load average over 5 minutes.", "Load average over 15 minutes."];
    for ((name, help), value) in names.iter().zip(helps).zip(text.split_whitespace()) {
        if let Ok(value) = value.parse() {
            page.gauge(name, help, value);
        }
    }
}

fn memory(files: &Files<'_>, page: &mut Exposition<'_>) {
    for line in files.text("/proc/meminfo").unwrap_or_default().lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
        // `Active(anon)` is `node_memory_Active_anon`.
        let mut name = format!("node_memory_{}", key.replace('(', "_").replace(')', ""));
        // What can be no metric's name would make the whole page unreadable.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let scale = if words.next() == Some("kB") { 1024.0 } else { 1.0 };
        if scale > 1.0 {
            name.push_str("_bytes");
        }
        let help = format!("{key} of /proc/meminfo.");
        page.gauge(&name, &help, value * scale);
    }
}

fn stat(files: &Files<'_>, page: &mut Exposition<'_>) {
    for line in files.text("/proc/stat").unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next().and_then(|word| word.parse().ok())) else {
            continue;
        };
        match key {
            "intr" => page.counter("node_intr_total", "Interrupts since boot.", value),
            "ctxt" => page.counter("node_context_switches_total", "Context switches since boot.", value),
            "btime" => page.gauge("node_boot_time_seconds", "When the machine was started, seconds since 1970.", value),
            "processes" => page.counter("node_forks_total", "Forks since boot.", value),
            "procs_running" => page.gauge("node_procs_running", "Processes that can run.", value),
            "procs_blocked" => page.gauge("node_procs_blocked", "Processes that wait for input or output.", value),
            _ => {}
        }
    }
}

fn pressure(files: &Files<'_>, page: &mut Exposition<'_>) {
    let kinds = [
        ("cpu", "some", "node_pressure_cpu_waiting_seconds_total"),
        ("io", "some", "node_pressure_io_waiting_seconds_total"),
        ("io", "full", "node_pressure_io_stalled_seconds_total"),
        ("memory", "some", "node_pressure_memory_waiting_seconds_total"),
        ("memory", "full", "node_pressure_memory_stalled_seconds_total"),
    ];
    for (resource, kind, name) in kinds {
        let text = files.text(&format!("/proc/pressure/{resource}")).unwrap_or_default();
        let total = text.lines().filter(|line| line.starts_with(kind)).find_map(|line| line.split("total=").nth(1));
        if let Some(microseconds) = total.and_then(|total| total.trim().parse::<f64>().ok()) {
            page.counter(name, "Time that processes were held up, in seconds.", microseconds / 1000.0 / 1000.0);
        }
    }
}

fn limits(files: &Files<'_>, page: &mut Exposition<'_>) {
    if let Some(text) = files.text("/proc/sys/fs/file-nr") {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 3 {
            page.gauge("node_filefd_allocated", "Open file descriptors.", column(&fields, 0));
            page.gauge("node_filefd_maximum", "The most file descriptors that may be open.", column(&fields, 2));
        }
    }
    if let Some(bits) = files.number("/proc/sys/kernel/random/entropy_avail") {
        page.gauge("node_entropy_available_bits", "Entropy that is left, in bits.", bits);
    }
    if let Some(bits) = files.number("/proc/sys/kernel/random/poolsize") {
        page.gauge("node_entropy_pool_size_bits", "Entropy that there may be, in bits.", bits);
    }
}

fn identity(files: &Files<'_>, page: &mut Exposition<'_>) {
    let kernel = |name: &str| files.word(&format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let release = kernel("osrelease");
    if !release.is_empty() {
        // The file is there from Linux 6.1 on.
        let machine = Some(kernel("arch")).filter(|arch| !arch.is_empty());
        let labels = [
            ("domainname", &*kernel("domainname")),
            ("machine", machine.as_deref().unwrap_or(std::env::consts::ARCH)),
            ("nodename", &*kernel("hostname")),
            ("release", &*release),
            ("sysname", &*kernel("ostype")),
            ("version", &*kernel("version")),
        ];
        page.family("node_uname_info", "gauge", "The kernel, as uname tells it.");
        page.sample("node_uname_info", &labels, 1.0);
    }
    os(files, page);
}

fn os(files: &Files<'_>, page: &mut Exposition<'_>) {
    let Some(text) = files.text("/etc/os-release").or_else(|| files.text("/usr/lib/os-release")) else { return };
    let value = |key: &str| -> String {
        let of_line = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim().to_owned());
        text.lines().find_map(of_line).unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let labels = [
        ("build_id", value("BUILD_ID")),
        ("id", value("ID")),
        ("id_like", value("ID_LIKE")),
        ("image_id", value("IMAGE_ID")),
        ("image_version", value("IMAGE_VERSION")),
        ("name", value("NAME")),
        ("pretty_name", value("PRETTY_NAME")),
        ("variant", value("VARIANT")),
        ("variant_id", value("VARIANT_ID")),
        ("version", value("VERSION")),
        ("version_codename", value("VERSION_CODENAME")),
        ("version_id", value("VERSION_ID")),
    ];
    page.family("node_os_info", "gauge", "The distribution, as os-release tells it.");
    page.sample("node_os_info", &labels.each_ref().map(|(name, value)| (*name, value.as_str())), 1.0);
}

/// The CPUs' times at the last reading.
#[derive(Debug, Default)]
pub(super) struct CpuTimes {
    last: Vec<(String, [f64; MODES.len()])>,
}

impl CpuTimes {
    pub(super) fn render(&mut self, files: &Files<'_>, page: &mut Exposition<'_>) {
        let text = files.text("/proc/stat").unwrap_or_default();
        let mut guests: Vec<(String, f64, f64)> = Vec::new();
        let mut now = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let Some(cpu) = fields.first().and_then(|name| name.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty())
            else {
                continue;
            };
            let mut times = std::array::from_fn(|mode| column(&fields, mode + 1) / TICKS);
            if let Some((_, last)) = self.last.iter().find(|(name, _)| name == cpu) {
                hold(last, &mut times);
            }
            guests.push((cpu.to_owned(), column(&fields, 9) / TICKS, column(&fields, 10) / TICKS));
            now.push((cpu.to_owned(), times));
        }
        self.last = now;
        if self.last.is_empty() {
            return;
        }
        let name = "node_cpu_seconds_total";
        page.family(name, "counter", "Time that a CPU spent in a mode, in seconds.");
        for (cpu, times) in &self.last {
            for (mode, seconds) in MODES.iter().zip(times) {
                page.sample(name, &[("cpu", cpu), ("mode", mode)], *seconds);
            }
        }
        let name = "node_cpu_guest_seconds_total";
        page.family(name, "counter", "Time that a CPU spent in guests, in seconds.");
        for (cpu, user, nice) in &guests {
            page.sample(name, &[("cpu", cpu), ("mode", "nice")], *nice);
            page.sample(name, &[("cpu", cpu), ("mode", "user")], *user);
        }
    }
}

/// Keeps times from going back: the kernel lets `idle` and `iowait` do so by a little, and a counter that goes back
/// would count as started anew. After a large step back (the CPU was off) all times start anew.
fn hold(last: &[f64; MODES.len()], now: &mut [f64; MODES.len()]) {
    const IDLE: usize = 3;
    if last[IDLE] - now[IDLE] >= MAX_STEP_BACK_SECONDS {
        return;
    }
    for (now, last) in now.iter_mut().zip(last) {
        *now = now.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_go_back_a_little_are_held_and_a_cpu_that_was_off_starts_anew() {
        let last = [10.0, 0.0, 5.0, 100.0, 7.5, 0.0, 0.0, 0.0];
        let mut now = [10.5, 0.0, 5.0, 99.0, 7.4, 0.0, 0.0, 0.0];
        hold(&last, &mut now);
        assert_eq!(now, [10.5, 0.0, 5.0, 100.0, 7.5, 0.0, 0.0, 0.0]);
        let mut off = [0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        hold(&last, &mut off);
        assert_eq!(off[0], 0.5);
    }
}
