//! Where the services are: AWS's partitions, and the user's own URL.

use crate::model::settings::UploadSettings;

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Where requests go, the path included.
    pub(super) url: String,
    /// The `Host` header, as it is signed: with the port when it is not the scheme's own.
    pub(super) host: String,
}

/// CloudWatch Logs: the override, or the region's own endpoint. An override never changes the signing region.
pub(super) fn logs(settings: &UploadSettings) -> Result<Endpoint, String> {
    region(settings)?;
    match &settings.endpoint {
        Some(url) => from_url(url),
        None => regional("logs", settings),
    }
}

/// STS, by regional endpoint as the SDKs do it today.
pub(super) fn sts(settings: &UploadSettings) -> Result<Endpoint, String> {
    match &settings.sts_endpoint {
        Some(url) => from_url(url),
        None => regional("sts", settings),
    }
}

fn from_url(text: &str) -> Result<Endpoint, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let bad = || format!("endpoint {text:?} is not an http:// or https:// URL");
    let uri: http::Uri = whole.parse().map_err(|_| bad())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(bad()) };
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(bad()),
    };
    if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(format!("endpoint {text:?} may hold a host, a port and a path only"));
    }
    let host = match authority.port_u16() {
        Some(port) if port != default_port => format!("{}:{port}", authority.host()),
        _ => authority.host().to_owned(),
    };
    let path = uri.path().trim_end_matches('/');
    Ok(Endpoint { url: format!("{scheme}://{host}{path}/"), host })
}

/// The region that requests are signed for; it becomes part of a host's name.
fn region(settings: &UploadSettings) -> Result<&str, String> {
    let region = settings.region.as_deref().ok_or("no region: set agent.region, AWS_REGION or the profile's region")?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_empty() || !region.chars().all(legal) {
        return Err(format!("region {region:?} is not a region's name, like eu-central-1"));
    }
    Ok(region)
}

fn regional(service: &str, settings: &UploadSettings) -> Result<Endpoint, String> {
    let region = region(settings)?;
    let partition = partition(region);
    // In us-gov the plain endpoint is the FIPS endpoint.
    let plain_is_fips = region.starts_with("us-gov-") && !settings.dualstack;
    let fips = if settings.fips && !plain_is_fips { "-fips" } else { "" };
    let suffix = if settings.dualstack { partition.dualstack_suffix } else { partition.suffix };
    let host = format!("{service}{fips}.{region}.{suffix}");
    Ok(Endpoint { url: format!("https://{host}/"), host })
}

struct Partition {
    prefix: &'static str,
    suffix: &'static str,
    dualstack_suffix: &'static str,
}

/// AWS's `partitions.json`; whatever fits none is in the first.
const PARTITIONS: [Partition; 8] = [
    Partition { prefix: "", suffix: "amazonaws.com", dualstack_suffix: "api.aws" },
    Partition { prefix: "cn-", suffix: "amazonaws.com.cn", dualstack_suffix: "api.amazonwebservices.com.cn" },
    Partition { prefix: "us-gov-", suffix: "amazonaws.com", dualstack_suffix: "api.aws" },
    Partition { prefix: "eusc-", suffix: "amazonaws.eu", dualstack_suffix: "api.amazonwebservices.eu" },
    Partition { prefix: "us-iso-", suffix: "c2s.ic.gov", dualstack_suffix: "api.aws.ic.gov" },
    Partition { prefix: "us-isob-", suffix: "sc2s.sgov.gov", dualstack_suffix: "api.aws.scloud" },
    Partition { prefix: "eu-isoe-", suffix: "cloud.adc-e.uk", dualstack_suffix: "api.cloud-aws.adc-e.uk" },
    Partition { prefix: "us-isof-", suffix: "csp.hci.ic.gov", dualstack_suffix: "api.aws.hci.ic.gov" },
];

fn partition(region: &str) -> &'static Partition {
    PARTITIONS[1..].iter().find(|partition| region.starts_with(partition.prefix)).unwrap_or(&PARTITIONS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(region: &str, fips: bool, dualstack: bool) -> UploadSettings {
        UploadSettings { region: Some(region.to_owned()), fips, dualstack, ..UploadSettings::default() }
    }

    #[test]
    fn the_region_gives_the_endpoint() {
        for (region, fips, dualstack, host) in [
            ("eu-central-1", false, false, "logs.eu-central-1.amazonaws.com"),
            ("us-east-1", true, false, "logs-fips.us-east-1.amazonaws.com"),
            ("us-east-1", false, true, "logs.us-east-1.api.aws"),
            ("us-east-1", true, true, "logs-fips.us-east-1.api.aws"),
            ("us-gov-west-1", true, false, "logs.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, true, "logs-fips.us-gov-west-1.api.aws"),
            ("cn-north-1", false, false, "logs.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", false, true, "logs.cn-north-1.api.amazonwebservices.com.cn"),
            ("eusc-de-east-1", false, false, "logs.eusc-de-east-1.amazonaws.eu"),
            ("us-isob-east-1", false, false, "logs.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            let endpoint = logs(&settings(region, fips, dualstack)).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.url), (host, format!("https://{host}/")), "{region}");
        }
        assert_eq!(sts(&settings("eu-west-1", false, false)).unwrap().host, "sts.eu-west-1.amazonaws.com");
        assert!(logs(&settings("eu-west-1/x", false, false)).is_err());
        for endpoint in [None, Some("http://127.0.0.1".to_owned())] {
            let settings = UploadSettings { endpoint, ..UploadSettings::default() };
            assert!(logs(&settings).unwrap_err().contains("no region"));
        }
    }

    #[test]
    fn an_override_keeps_its_port_and_path() {
        for (given, url, host) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/", "127.0.0.1:5000"),
            (
                "https://vpce-1.logs.eu-west-1.vpce.amazonaws.com",
                "https://vpce-1.logs.eu-west-1.vpce.amazonaws.com/",
                "vpce-1.logs.eu-west-1.vpce.amazonaws.com",
            ),
            ("https://gateway:443/aws/logs/", "https://gateway/aws/logs/", "gateway"),
            ("http://[::1]:80", "http://[::1]/", "[::1]"),
            ("logs.example.com", "https://logs.example.com/", "logs.example.com"),
        ] {
            let settings = UploadSettings { endpoint: Some(given.to_owned()), ..settings("eu-west-1", false, false) };
            assert_eq!(logs(&settings), Ok(Endpoint { url: url.to_owned(), host: host.to_owned() }), "{given}");
        }
        for bad in ["ftp://x", "https://user:secret@host", "https://host/?q", "https://", "::"] {
            let settings = UploadSettings { endpoint: Some(bad.to_owned()), ..settings("eu-west-1", false, false) };
            assert!(logs(&settings).is_err(), "{bad}");
        }
    }
}
