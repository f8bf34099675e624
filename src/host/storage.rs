//! File systems and block devices.

use super::{Exposition, Files, column};
use crate::env::FileSystem;

/// Kinds of file systems that hold no data of their own (node_exporter, `filesystem_linux.go`).
const PSEUDO: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "ramfs",
];

/// Kinds that another machine or a process answers for: asking one that is gone would block for ever.
const REMOTE: [&str; 12] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse"];

/// Places whose mounts do not count, but for block devices (a USB stick below `/media` does).
const SYSTEM_PLACES: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/lib/docker"];
const DATA_PLACES: [&str; 2] = ["/mnt", "/media"];

/// Bytes of a sector in `/proc/diskstats`, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;

/// The metrics of a block device, in the order of the columns that follow its name in `/proc/diskstats`: name, type,
/// factor, meaning.
const DISK_METRICS: [(&str, &str, f64, &str); 17] = [
    ("node_disk_reads_completed_total", "counter", 1.0, "Reads completed."),
    ("node_disk_reads_merged_total", "counter", 1.0, "Reads merged."),
    ("node_disk_read_bytes_total", "counter", SECTOR_BYTES, "Bytes read."),
    ("node_disk_read_time_seconds_total", "counter", 0.001, "Time spent reading, in seconds."),
    ("node_disk_writes_completed_total", "counter", 1.0, "Writes completed."),
    ("node_disk_writes_merged_total", "counter", 1.0, "Writes merged."),
    ("node_disk_written_bytes_total", "counter", SECTOR_BYTES, "Bytes written."),
    ("node_disk_write_time_seconds_total", "counter", 0.001, "Time spent writing, in seconds."),
    ("node_disk_io_now", "gauge", 1.0, "Requests in progress."),
    ("node_disk_io_time_seconds_total", "counter", 0.001, "Time in which a request was in progress, in seconds."),
    ("node_disk_io_time_weighted_seconds_total", "counter", 0.001, "Time of all requests together, in seconds."),
    ("node_disk_discards_completed_total", "counter", 1.0, "Discards completed."),
    ("node_disk_discards_merged_total", "counter", 1.0, "Discards merged."),
    ("node_disk_discarded_sectors_total", "counter", 1.0, "Sectors discarded."),
    ("node_disk_discard_time_seconds_total", "counter", 0.001, "Time spent discarding, in seconds."),
    ("node_disk_flush_requests_total", "counter", 1.0, "Flushes completed."),
    ("node_disk_flush_requests_time_seconds_total", "counter", 0.001, "Time spent flushing, in seconds."),
];

/// What a figure of a file system comes to.
type Figure = fn(&FileSystem) -> f64;

/// The metrics of a file system.
const FILE_SYSTEM_METRICS: [(&str, &str, Figure); 6] = [
    ("node_filesystem_avail_bytes", "Space that an ordinary user may use, in bytes.", |f| f.available_bytes as f64),
    ("node_filesystem_files", "Inodes.", |f| f.inodes as f64),
    ("node_filesystem_files_free", "Free inodes.", |f| f.free_inodes as f64),
    ("node_filesystem_free_bytes", "Free space, in bytes.", |f| f.free_bytes as f64),
    ("node_filesystem_readonly", "1 for a file system that is mounted read-only.", |f| {
        f64::from(u8::from(f.read_only))
    }),
    ("node_filesystem_size_bytes", "Size in bytes.", |f| f.total_bytes as f64),
];

pub(super) fn render(files: &Files<'_>, page: &mut Exposition<'_>) {
    file_systems(files, page);
    block_devices(files, page);
}

struct Mount {
    device: String,
    place: String,
    kind: String,
    figures: FileSystem,
}

fn file_systems(files: &Files<'_>, page: &mut Exposition<'_>) {
    // The first process sees the machine's mounts; without the right to ask, our own must do.
    let table = files.text("/proc/1/mounts").or_else(|| files.text("/proc/self/mounts")).unwrap_or_default();
    let mut mounts: Vec<Mount> = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, place, kind, ..] = fields[..] else { continue };
        let place = unescaped(place);
        if !counts(device, &place, kind)
            || mounts.iter().any(|m| m.device == device && m.place == place && m.kind == kind)
        {
            continue;
        }
        if let Ok(figures) = files.disk.file_system(&files.path(&place)) {
            mounts.push(Mount { device: device.to_owned(), place, kind: kind.to_owned(), figures });
        }
    }
    if mounts.is_empty() {
        return;
    }
    for (name, help, value) in FILE_SYSTEM_METRICS {
        page.family(name, "gauge", help);
        for mount in &mounts {
            let labels = [("device", &*mount.device), ("fstype", &*mount.kind), ("mountpoint", &*mount.place)];
            page.sample(name, &labels, value(&mount.figures));
        }
    }
}

fn counts(device: &str, place: &str, kind: &str) -> bool {
    let below = |folder: &str| place.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let of_process = kind.strip_prefix("fuse.").is_some();
    !PSEUDO.contains(&kind)
        && !REMOTE.contains(&kind)
        && !of_process
        && !SYSTEM_PLACES.iter().any(|folder| below(folder))
        && !below("/var/lib/containers/storage")
        && (device.starts_with("/dev/") || !DATA_PLACES.iter().any(|folder| below(folder)))
}

/// Blanks in a mount's place are written as `\040` and the like.
fn unescaped(place: &str) -> String {
    place.replace("\\040", " ").replace("\\011", "\t")
}

fn block_devices(files: &Files<'_>, page: &mut Exposition<'_>) {
    let table = files.text("/proc/diskstats").unwrap_or_default();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>())
        .filter(|row| row.first().is_some_and(|device| !is_partition_or_virtual(device)))
        .collect();
    for (at, (name, kind, factor, help)) in DISK_METRICS.iter().enumerate() {
        let mut rows = rows.iter().filter(|row| row.len() > at + 1).peekable();
        if rows.peek().is_some() {
            page.family(name, kind, help);
        }
        for row in rows {
            page.sample(name, &[("device", row[0])], column(row, at + 1) * factor);
        }
    }
}

/// Devices that node_exporter leaves out: `ram0`, `loop0`, `fd0`, `sda1`, `nvme0n1p1`. `mmcblk0p1` stays, as there.
fn is_partition_or_virtual(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    let disk_letter = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_lowercase())
    };
    let nvme = || {
        let rest = stem.strip_prefix("nvme")?.strip_suffix('p')?;
        let (controller, namespace) = rest.split_once('n')?;
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        Some(number(controller) && number(namespace))
    };
    matches!(stem, "ram" | "loop" | "fd")
        || ["hd", "sd", "vd", "xvd"].iter().any(|prefix| disk_letter(prefix))
        || nvme().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_virtual_devices_are_left_out() {
        for device in ["ram0", "loop12", "fd0", "sda1", "vdb12", "xvda1", "nvme0n1p2"] {
            assert!(is_partition_or_virtual(device), "{device}");
        }
        for device in ["sda", "mmcblk0", "mmcblk0p1", "nvme0n1", "vda", "zram0", "dm-0", "md0", "sdaa1"] {
            assert!(!is_partition_or_virtual(device), "{device}");
        }
    }

    #[test]
    fn only_real_file_systems_count() {
        for (device, place, kind, want) in [
            ("/dev/root", "/", "ext4", true),
            ("/dev/mmcblk0p1", "/boot/firmware", "vfat", true),
            ("tmpfs", "/tmp", "tmpfs", true),
            ("tmpfs", "/run/user/0", "tmpfs", false),
            ("tmpfs", "/runner", "tmpfs", true),
            ("/dev/sda1", "/media/usb", "vfat", true),
            ("tmpfs", "/mnt/x", "tmpfs", false),
            ("proc", "/proc", "proc", false),
            ("overlay", "/var/lib/docker/overlay2/x", "overlay", false),
            ("nas:/data", "/data", "nfs4", false),
            ("pi@nas:", "/data", "fuse.sshfs", false),
        ] {
            assert_eq!(counts(device, place, kind), want, "{place}");
        }
        assert_eq!(unescaped("/media/my\\040stick"), "/media/my stick");
    }
}
