//! From an address with labels to a target, as Prometheus 3.0.1 does it (`scrape/target.go`: `PopulateLabels`, `URL`).
//!
//! Unix sockets are promwatch's own: where the address is `unix:/path/of.sock`, before or after relabelling, the page is fetched
//! through that socket from `localhost`. Only this machine's files may name one: promwatch often runs as root, and whoever
//! answers for a list from the network could have it talk to any service of the machine. So a target of such a list never
//! leads to a socket, whatever the rules make of its labels. As a target `unix:/path/of.sock:/metrics/path` gives `__metrics_path__` with it; a
//! socket's path cannot hold `:/` therefore.

use crate::model::settings::{ScrapeJob, TargetGroup};
use crate::model::{
    Endpoint, Labels, LabelsBuilder, NAME_BYTES_MAX, Target, format_duration, parse_duration_ms, short,
};
use crate::relabel::relabel;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What tells two targets of a job apart: all labels that relabelling left, those that start with `__` too, and the URL (or what
/// stands for it).
pub(super) type Key = (Labels, String);

/// Builds the target; nothing when a rule drops it. `remote`: the group is from the network.
///
/// # Errors
/// Why there is no such target.
pub(super) fn populate(
    job: &Rc<ScrapeJob>,
    group: &TargetGroup,
    address: &str,
    own: Option<&Endpoint>,
    remote: bool,
    labels: &mut LabelsBuilder,
) -> Result<Option<(Target, Key)>, String> {
    labels.reset(&Labels::default());
    for (name, value) in &group.labels {
        labels.set(name, value);
    }
    match unix_parts(address) {
        Some((socket, path)) => {
            labels.set("__address__", socket);
            labels.set("__metrics_path__", path);
        }
        None => labels.set("__address__", address),
    }
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default("job", &job.job_name);
    default("__scrape_interval__", &format_duration(job.interval_ms));
    default("__scrape_timeout__", &format_duration(job.timeout_ms));
    default("__metrics_path__", &job.metrics_path);
    default("__scheme__", &job.scheme);
    for (name, values) in &job.params {
        if let Some(value) = values.first() {
            default(&format!("__param_{name}"), value);
        }
    }

    if !relabel(labels, &job.relabel) {
        return Ok(None);
    }

    let address = labels.get("__address__").ok_or("no address")?.to_owned();
    let socket = address.strip_prefix("unix:").filter(|path| path.starts_with('/'));
    if remote && socket.is_some() {
        let text =
            "a list from the network cannot name a Unix socket of this machine: use static_configs or file_sd_configs";
        return Err(text.to_owned());
    }
    if socket.is_none() && address.contains('/') {
        return Err(format!("{:?} is not a valid hostname", short(&address, NAME_BYTES_MAX / 2)));
    }
    let duration = |name: &str, what: &str| {
        let text = labels.get(name).unwrap_or("");
        match parse_duration_ms(text) {
            Ok(0) => Err(format!("{what} cannot be 0")),
            Ok(ms) => Ok(ms),
            Err(error) => Err(format!("error parsing {what}: {error}")),
        }
    };
    let interval_ms = duration("__scrape_interval__", "scrape interval")?;
    let timeout_ms = duration("__scrape_timeout__", "scrape timeout")?;
    if timeout_ms > interval_ms {
        let text = |name| labels.get(name).unwrap_or("");
        let (timeout, interval) = (text("__scrape_timeout__"), text("__scrape_interval__"));
        return Err(format!("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})"));
    }

    labels.retain(|name| !name.starts_with("__meta_"));
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    let url = url(job, labels, if socket.is_some() { "localhost" } else { &address });
    let (endpoint, place) = match own {
        Some(endpoint) => (endpoint.clone(), format!("{endpoint:?}")),
        None => (Endpoint::Http { url: url.clone(), unix_socket: socket.map(Into::into) }, url),
    };
    let key = (labels.build(), place);
    labels.retain(|name| !name.starts_with("__"));
    let target = Target { job: job.clone(), labels: labels.build(), endpoint, interval_ms, timeout_ms, refused: None };
    Ok(Some((target, key)))
}

/// `unix:/socket` and the path of the page, which may be empty.
fn unix_parts(address: &str) -> Option<(&str, &str)> {
    let socket = address.strip_prefix("unix:").filter(|path| path.starts_with('/'))?;
    Some(match socket.find(":/") {
        Some(at) => (&address[.."unix:".len() + at], &socket[at + 1..]),
        None => (address, ""),
    })
}

/// The URL as Go's `net/url` writes it: path and host escaped, parameters sorted.
fn url(job: &ScrapeJob, labels: &LabelsBuilder, host: &str) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, values) in &job.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix("__param_") else { continue };
        // The label is the first value; the configuration's further ones stay.
        let values = params.entry(name).or_default();
        match values.first_mut() {
            Some(first) => *first = value,
            None => values.push(value),
        }
    }

    let mut url = String::new();
    if let Some(scheme) = labels.get("__scheme__") {
        url.push_str(scheme);
        url.push(':');
    }
    url.push_str("//");
    escape(&mut url, host, b"!\"$&'()*+,-.:;<=>[]_~");
    let path = labels.get("__metrics_path__").unwrap_or("");
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    if path == "*" {
        url.push('*')
    } else {
        escape(&mut url, path, b"$&+,-./:;=@_~")
    }
    let mut separator = '?';
    for (name, values) in params {
        for value in values {
            url.push(separator);
            escape_query(&mut url, name);
            url.push('=');
            escape_query(&mut url, value);
            separator = '&';
        }
    }
    url
}

fn escape_query(out: &mut String, text: &str) {
    for (at, part) in text.split(' ').enumerate() {
        if at > 0 {
            out.push('+');
        }
        escape(out, part, b"-._~");
    }
}

fn escape(out: &mut String, text: &str, plain: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}
