//! Pages of a made-up machine.
#![allow(clippy::disallowed_methods, reason = "tests lay out their own files")]

use super::*;
use crate::env::{Clock, Exchange, Head, Limits, Net, NetError, RealDisk, Record, Request};
use crate::model::settings::DnsKind;
use std::ops::ControlFlow;

struct Outside;

impl Clock for Outside {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_250
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn boot_id(&self) -> [u8; 16] {
        [0; 16]
    }
    fn synchronised(&self) -> bool {
        true
    }
    fn random(&self) -> u64 {
        0
    }
}

impl Net for Outside {
    fn exchange(
        &self,
        _: &Request<'_>,
        _: &mut dyn FnMut(&Head, &[u8]) -> ControlFlow<()>,
    ) -> Result<Exchange, NetError> {
        unreachable!("the host room uses no network")
    }
    fn lookup(&self, _: &str, _: DnsKind, _: Limits) -> Result<Vec<Record>, NetError> {
        unreachable!("the host room uses no network")
    }
}

/// A folder with the files of a machine, removed at the end.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let machine = Self(std::env::temp_dir().join(format!("promwatch-host-{name}-{}", std::process::id())));
        let _ = std::fs::remove_dir_all(&machine.0);
        std::fs::create_dir_all(&machine.0).unwrap();
        for (path, text) in files {
            machine.put(path, text);
        }
        machine
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn page(&self, host: &mut Host) -> String {
        let mut page = String::new();
        host.render(Env { clock: &Outside, disk: &RealDisk, net: &Outside }, &self.0, &mut page);
        page
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|have| have == *line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_machine_without_files_still_tells_the_time() {
    let machine = Machine::new("empty", &[]);
    let page = machine.page(&mut Host::default());
    assert_eq!(page.lines().last(), Some("node_time_seconds 1700000000.25"));
    assert_eq!(page.lines().count(), 3);
}

#[test]
fn figures_of_the_kernel() {
    let machine = Machine::new(
        "kernel",
        &[
            ("proc/loadavg", "0.21 0.5 1.25 1/100 4242\n"),
            ("proc/meminfo", "MemTotal:  1000 kB\nActive(anon):  2 kB\nHugePages_Total:   3\nodd\n"),
            (
                "proc/stat",
                "cpu  9 9 9\ncpu0 100 1 50 1000 7 0 3 0 20 5\nintr 77 1 2\nctxt 88\nbtime 1699990000\nprocs_running 2\n",
            ),
            ("proc/pressure/io", "some avg10=0.00 total=1500000\nfull avg10=0.00 total=250000\n"),
            ("proc/sys/kernel/osrelease", "6.6.1-v8+\n"),
            ("proc/sys/kernel/arch", "aarch64\n"),
            ("proc/sys/kernel/hostname", "pi4\n"),
            ("proc/sys/kernel/ostype", "Linux\n"),
            ("proc/sys/kernel/version", "#1 SMP\n"),
            ("proc/sys/kernel/domainname", "(none)\n"),
            ("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\nPRETTY_NAME=\"a \\\"b\\\"\"\n"),
        ],
    );
    let mut host = Host::default();
    let page = machine.page(&mut host);
    assert_lines(
        &page,
        &[
            "# TYPE node_load1 gauge",
            "node_load1 0.21",
            "node_load15 1.25",
            "node_memory_MemTotal_bytes 1024000",
            "node_memory_Active_anon_bytes 2048",
            "node_memory_HugePages_Total 3",
            "# TYPE node_cpu_seconds_total counter",
            "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 1",
            "node_cpu_seconds_total{cpu=\"0\",mode=\"iowait\"} 0.07",
            "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"user\"} 0.2",
            "node_intr_total 77",
            "node_boot_time_seconds 1699990000",
            "node_procs_running 2",
            "node_pressure_io_waiting_seconds_total 1.5",
            "node_pressure_io_stalled_seconds_total 0.25",
            "node_uname_info{domainname=\"(none)\",machine=\"aarch64\",nodename=\"pi4\",release=\"6.6.1-v8+\",sysname=\"Linux\",version=\"#1 SMP\"} 1",
        ],
    );
    machine.put("proc/stat", "cpu0 100 1 50 1010 5 0 3 0 20 5\n");
    let page = machine.page(&mut host);
    assert_lines(&page, &["node_cpu_seconds_total{cpu=\"0\",mode=\"iowait\"} 0.07"]);
}

#[test]
fn a_line_of_meminfo_that_can_be_no_metric_is_left_out() {
    let machine = Machine::new("meminfo", &[("proc/meminfo", "Mem Free: 5 kB\né: 1\nMemTotal:  1000 kB\n")]);
    let page = machine.page(&mut Host::default());
    let memory: Vec<&str> = page.lines().filter(|line| line.starts_with("node_memory")).collect();
    assert_eq!(memory, ["node_memory_MemTotal_bytes 1024000"]);
}

#[test]
fn figures_of_disks_interfaces_and_sensors() {
    let machine = Machine::new(
        "devices",
        &[
            ("proc/self/mounts", "/dev/root / ext4 rw 0 0\n/dev/root / ext4 rw 0 0\nproc /proc proc rw 0 0\n"),
            (
                "proc/diskstats",
                " 179 0 mmcblk0 10 1 200 3000 20 2 400 5000 0 700 8000\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n",
            ),
            ("proc/net/dev", "Inter-| x\n face |y\n  lo: 1 1\neth0:100 2 0 1 0 0 0 3 500 4 0 0 0 0 0 0\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/speed", "1000\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "48312\n"),
            ("sys/class/hwmon/hwmon0/temp1_label", "x\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n"),
        ],
    );
    let page = machine.page(&mut Host::default());
    assert_lines(
        &page,
        &[
            "node_disk_reads_completed_total{device=\"mmcblk0\"} 10",
            "node_disk_read_bytes_total{device=\"mmcblk0\"} 102400",
            "node_disk_io_time_seconds_total{device=\"mmcblk0\"} 0.7000000000000001",
            "node_network_receive_bytes_total{device=\"eth0\"} 100",
            "node_network_receive_drop_total{device=\"eth0\"} 1",
            "node_network_transmit_bytes_total{device=\"eth0\"} 500",
            "node_network_up{device=\"eth0\"} 1",
            "node_network_speed_bytes{device=\"eth0\"} 125000000",
            "node_thermal_zone_temp{type=\"cpu-thermal\",zone=\"0\"} 48.312",
            "node_hwmon_temp_celsius{chip=\"cpu_thermal\",sensor=\"temp1\"} 48.312",
            "node_hwmon_chip_names{chip=\"cpu_thermal\",chip_name=\"cpu_thermal\"} 1",
            "node_cpu_scaling_frequency_hertz{cpu=\"0\"} 1500000000",
        ],
    );
    assert_eq!(
        page.matches("node_filesystem_size_bytes{device=\"/dev/root\",fstype=\"ext4\",mountpoint=\"/\"}").count(),
        1
    );
    assert!(!page.contains("loop0") && !page.contains("device=\"lo\"") && !page.contains("discard"));
}

#[test]
fn a_page_names_each_family_once_and_no_series_twice() {
    let mut page = String::new();
    let env = Env { clock: &Outside, disk: &RealDisk, net: &Outside };
    Host::default().render(env, Path::new("/"), &mut page);
    let mut seen = std::collections::HashSet::new();
    for line in page.lines().filter(|line| !line.starts_with("# HELP")) {
        let (head, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(head.to_owned()), "{line}");
    }
    assert!(seen.len() > 60);
}
