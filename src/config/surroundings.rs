//! Everything outside the files that a configuration depends on.

use super::files::Documents;
use crate::env::Disk;
use crate::model::settings::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The environment and the machine's names. `main` fills it in, tests write it.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The environment's variables. They may hold secrets: there is no `Debug`.
    pub vars: BTreeMap<String, String>,
    /// What the kernel calls this machine.
    pub hostname: String,
    /// The user's home, for `~/.aws`.
    pub home: PathBuf,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The board's serial number.
    pub serial: String,
}

impl Surroundings {
    /// Asks the machine's files for what the environment does not say.
    pub fn gather(vars: BTreeMap<String, String>, hostname: String, disk: &dyn Disk) -> Self {
        let first_line = |path: &str| {
            let bytes = disk.read(Path::new(path), 4096).ok()?;
            // The device tree ends its texts with a zero byte.
            let text = String::from_utf8(bytes).ok()?;
            let line = text.lines().next()?.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
            (!line.is_empty()).then_some(line)
        };
        let serial = first_line("/proc/device-tree/serial-number")
            .or_else(|| cpuinfo_serial(disk))
            .or_else(|| first_line("/sys/class/dmi/id/product_serial"));
        let home = vars.get("HOME").filter(|home| !home.is_empty()).map_or("/root", String::as_str);
        Self {
            home: home.into(),
            machine_id: first_line("/etc/machine-id").unwrap_or_default(),
            serial: serial.unwrap_or_default(),
            hostname,
            vars,
        }
    }

    /// A variable that is not empty.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable that holds a secret.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.var(name).map(|value| Secret::Inline(value.to_owned()))
    }

    /// `HTTP_PROXY` and its like, in upper case or in lower case.
    pub(super) fn proxy_var(&self, name: &str) -> Option<&str> {
        self.var(name).or_else(|| self.var(&name.to_ascii_lowercase()))
    }

    /// Whether a variable says `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.var(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The first of the folders that systemd made for the service.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        self.var(name)?.split(':').next().map(PathBuf::from)
    }

    /// The agent's own sign that it runs in a container.
    pub(super) fn in_container(&self) -> bool {
        self.var("RUN_IN_CONTAINER") == Some("True")
    }

    /// `metric_namespace` where `emf_processor` gives none.
    pub(super) fn default_namespace(&self) -> &'static str {
        let ecs = ["ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4"];
        if !self.in_container() {
            "CWAgent/Prometheus"
        } else if ecs.iter().any(|name| self.var(name).is_some()) {
            "ECS/ContainerInsights/Prometheus"
        } else {
            "ContainerInsights/Prometheus"
        }
    }

    /// `agent.hostname`, or the machine's name.
    pub(super) fn host_of(&self, documents: &Documents) -> String {
        documents.text("/agent/hostname").filter(|name| !name.is_empty()).unwrap_or(&self.hostname).to_owned()
    }
}

/// Raspberry Pis say it in `/proc/cpuinfo`.
fn cpuinfo_serial(disk: &dyn Disk) -> Option<String> {
    let text = String::from_utf8(disk.read(Path::new("/proc/cpuinfo"), 1 << 20).ok()?).ok()?;
    let line = text.lines().find(|line| line.starts_with("Serial"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|serial| !serial.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Files;
    use super::*;

    #[test]
    fn the_machine_says_who_it_is() {
        let gather = |files: Files| Surroundings::gather(BTreeMap::new(), "pi".to_owned(), &files);
        let none = gather(Files::default());
        assert_eq!((none.machine_id.as_str(), none.serial.as_str(), none.home.as_path()), ("", "", Path::new("/root")));
        let cpuinfo = "processor : 0\n\nHardware\t: BCM2835\nSerial\t\t: 00000000abcd\n";
        let files = || Files::default().with("/etc/machine-id", "0123\n").with("/proc/cpuinfo", cpuinfo);
        let old = gather(files());
        assert_eq!((old.machine_id.as_str(), old.serial.as_str()), ("0123", "00000000abcd"));
        let new = gather(files().with("/proc/device-tree/serial-number", "10000000beef\0"));
        assert_eq!(new.serial, "10000000beef");
        let home = BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]);
        assert_eq!(Surroundings::gather(home, String::new(), &Files::default()).home, Path::new("/home/u"));
    }
}
