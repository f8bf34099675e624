//! Temperatures, fans and CPU clocks.

use super::{Exposition, Files};

pub(super) fn render(files: &Files<'_>, page: &mut Exposition<'_>) {
    thermal_zones(files, page);
    hardware_monitors(files, page);
    cpu_clocks(files, page);
}

fn thermal_zones(files: &Files<'_>, page: &mut Exposition<'_>) {
    let name = "node_thermal_zone_temp";
    let mut begun = false;
    for zone in files.names("/sys/class/thermal") {
        let Some(number) = zone.strip_prefix("thermal_zone") else { continue };
        let kind = files.word(&format!("/sys/class/thermal/{zone}/type"));
        let millidegrees = files.number(&format!("/sys/class/thermal/{zone}/temp"));
        if let (Some(kind), Some(millidegrees)) = (kind, millidegrees) {
            if !begun {
                page.family(name, "gauge", "Temperature of a zone in degrees Celsius.");
                begun = true;
            }
            page.sample(name, &[("type", &kind), ("zone", number)], millidegrees / 1000.0);
        }
    }
}

/// What a sensor's file means: suffix, metric, factor, help.
const SENSORS: [(&str, &str, &str, f64, &str); 4] = [
    ("temp", "_input", "node_hwmon_temp_celsius", 0.001, "Temperature in degrees Celsius."),
    ("temp", "_crit", "node_hwmon_temp_crit_celsius", 0.001, "Critical temperature in degrees Celsius."),
    ("temp", "_max", "node_hwmon_temp_max_celsius", 0.001, "Highest good temperature in degrees Celsius."),
    ("fan", "_input", "node_hwmon_fan_rpm", 1.0, "Speed of a fan in turns a minute."),
];

fn hardware_monitors(files: &Files<'_>, page: &mut Exposition<'_>) {
    let mut chips: Vec<(String, String, Vec<String>)> = Vec::new();
    for folder in files.names("/sys/class/hwmon") {
        let folder = format!("/sys/class/hwmon/{folder}");
        if let Some(chip) = chip(files, &folder) {
            let names = files.names(&folder);
            chips.push((chip, folder, names));
        }
    }
    for (class, suffix, metric, factor, help) in SENSORS {
        let mut begun = false;
        for (chip, folder, names) in &chips {
            for file in names {
                let Some(sensor) = file.strip_suffix(suffix) else { continue };
                let is_numbered = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                if !sensor.strip_prefix(class).is_some_and(is_numbered) {
                    continue;
                }
                if let Some(value) = files.number(&format!("{folder}/{file}")) {
                    if !begun {
                        page.family(metric, "gauge", help);
                        begun = true;
                    }
                    page.sample(metric, &[("chip", chip), ("sensor", sensor)], value * factor);
                }
            }
        }
    }
    let named: Vec<(&str, String)> = chips
        .iter()
        .filter_map(|(chip, folder, _)| Some((chip.as_str(), files.word(&format!("{folder}/name"))?)))
        .collect();
    if !named.is_empty() {
        let metric = "node_hwmon_chip_names";
        page.family(metric, "gauge", "The name that a chip gives itself.");
        for (chip, name) in named {
            page.sample(metric, &[("chip", chip), ("chip_name", &cleaned(&name))], 1.0);
        }
    }
}

/// A chip's label: the kind and the name of its device (`platform_coretemp_0`, `thermal_thermal_zone0`), or the name that
/// it gives itself.
fn chip(files: &Files<'_>, folder: &str) -> Option<String> {
    if let Ok(device) = files.disk.canonical(&files.path(&format!("{folder}/device"))) {
        let part = |path: Option<&std::ffi::OsStr>| cleaned(&path.unwrap_or_default().to_string_lossy());
        let name = part(device.file_name());
        let kind = part(device.parent().and_then(std::path::Path::file_name));
        if !name.is_empty() {
            return Some(if kind.is_empty() { name } else { format!("{kind}_{name}") });
        }
    }
    let name = cleaned(&files.word(&format!("{folder}/name"))?);
    Some(name).filter(|name| !name.is_empty())
}

/// Lower case; what is neither letter, digit, `:` nor `_` becomes `_`, none of it at the ends.
fn cleaned(name: &str) -> String {
    let replace =
        |c: char| if c.is_ascii_alphanumeric() || c == ':' || c == '_' { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(replace).collect::<String>().trim_matches('_').to_owned()
}

fn cpu_clocks(files: &Files<'_>, page: &mut Exposition<'_>) {
    let name = "node_cpu_scaling_frequency_hertz";
    let mut begun = false;
    for folder in files.names("/sys/devices/system/cpu") {
        let Some(cpu) = folder.strip_prefix("cpu").filter(|cpu| cpu.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let path = format!("/sys/devices/system/cpu/{folder}/cpufreq/scaling_cur_freq");
        if let Some(kilohertz) = files.number(&path) {
            if !begun {
                page.family(name, "gauge", "Clock of a CPU in hertz.");
                begun = true;
            }
            page.sample(name, &[("cpu", cpu)], kilohertz * 1000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_node_exporter_cleans_them() {
        assert_eq!(cleaned("coretemp.0"), "coretemp_0");
        assert_eq!(cleaned("0000:01:00.0"), "0000:01:00_0");
        assert_eq!(cleaned(" RP1-ADC "), "rp1_adc");
    }
}
