//! What the two configuration files come to: plain, resolved values with every default filled in.
//!
//! `config` writes them, the other rooms read them; nobody else holds a default. Times are milliseconds, sizes bytes.

use crate::pattern::Pattern;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Everything that one `run` obeys.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The scrape jobs, in the order of the file.
    pub jobs: Vec<ScrapeJob>,
    /// How samples become events.
    pub convert: ConvertSettings,
    /// The buffer on disk.
    pub buffer: BufferSettings,
    /// The way to CloudWatch Logs.
    pub upload: UploadSettings,
    /// Where the live status file lies.
    pub runtime_dir: PathBuf,
    /// `agent.debug` / `agent.quiet` / `--log-level`.
    pub log_level: LogLevel,
}

/// How much the log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only (`agent.quiet`).
    Error,
    /// Errors and warnings.
    Warn,
    /// A handful of lines on a healthy day.
    #[default]
    Info,
    /// One line per scrape and per request (`agent.debug`).
    Debug,
    /// Everything.
    Trace,
}

/// A secret, given in the configuration or kept in a file that is read anew at each use. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Inline(String),
    /// The file that holds it; white space around it does not count.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("<secret>"),
            Self::File(path) => write!(f, "<secret in {}>", path.display()),
        }
    }
}

/// One entry of `scrape_configs`.
#[derive(Clone, Debug)]
pub struct ScrapeJob {
    /// `job_name`.
    pub job_name: String,
    /// `scrape_interval`.
    pub interval_ms: u64,
    /// `scrape_timeout`.
    pub timeout_ms: u64,
    /// `scheme`: `http` or `https`.
    pub scheme: String,
    /// `metrics_path`.
    pub metrics_path: String,
    /// `params`.
    pub params: BTreeMap<String, Vec<String>>,
    /// `honor_labels`: a label of the page wins over the target's.
    pub honor_labels: bool,
    /// `honor_timestamps`: the exposition's time stamps count.
    pub honor_timestamps: bool,
    /// `scrape_protocols`, best first.
    pub protocols: Vec<ScrapeProtocol>,
    /// `fallback_scrape_protocol`; the CloudWatch agent sets text 0.0.4 where it is not given.
    pub fallback_protocol: ScrapeProtocol,
    /// `metric_name_validation_scheme: legacy`.
    pub legacy_names: bool,
    /// `enable_compression`: ask for gzip.
    pub compression: bool,
    /// Keep the good lines of a page with bad ones (`"promwatch": {"scrape": {"bad_lines": "skip"}}`).
    pub skip_bad_lines: bool,
    /// The limits on a scrape.
    pub limits: ScrapeLimits,
    /// How the targets are reached.
    pub http: HttpClient,
    /// `relabel_configs`.
    pub relabel: Vec<RelabelRule>,
    /// `metric_relabel_configs`.
    pub metric_relabel: Vec<RelabelRule>,
    /// Where the targets come from.
    pub discovery: Vec<Discovery>,
}

/// Limits on one scrape; 0 is no limit, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// `sample_limit`, after relabelling.
    pub samples: u64,
    /// `label_limit`.
    pub labels: u64,
    /// `label_name_length_limit`, bytes.
    pub label_name_bytes: u64,
    /// `label_value_length_limit`, bytes.
    pub label_value_bytes: u64,
    /// `target_limit`.
    pub targets: u64,
    /// `body_size_limit`, bytes after decompression.
    pub body_bytes: u64,
}

/// A format that an exporter may answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    /// `OpenMetricsText1.0.0`
    OpenMetrics100,
    /// `OpenMetricsText0.0.1`
    OpenMetrics001,
    /// `PrometheusText1.0.0`
    Text100,
    /// `PrometheusText0.0.4`
    Text004,
}

/// One rule of `relabel_configs` or `metric_relabel_configs`.
#[derive(Clone, Debug)]
pub struct RelabelRule {
    /// `source_labels`.
    pub source_labels: Vec<String>,
    /// `separator`, `;` by default.
    pub separator: String,
    /// `regex`, anchored at both ends, `.` matching a new line.
    pub regex: Pattern,
    /// `modulus` of `hashmod`.
    pub modulus: u64,
    /// `target_label`.
    pub target_label: String,
    /// `replacement`, `$1` by default.
    pub replacement: String,
    /// `action`.
    pub action: RelabelAction,
}

/// What a relabelling rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the words of Prometheus' documentation
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// One source of targets.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// `static_configs`, one entry.
    Static(TargetGroup),
    /// `file_sd_configs`, one entry: patterns and the refresh interval.
    File {
        /// Paths, the last part may hold `*`.
        patterns: Vec<String>,
        /// `refresh_interval`.
        refresh_ms: u64,
    },
    /// `http_sd_configs`, one entry.
    Http {
        /// The page with the target groups.
        url: String,
        /// `refresh_interval`.
        refresh_ms: u64,
        /// How it is reached.
        http: Box<HttpClient>,
    },
    /// `dns_sd_configs`, one entry.
    Dns {
        /// The names to ask for.
        names: Vec<String>,
        /// `type`.
        kind: DnsKind,
        /// `port` for A, AAAA, MX and NS.
        port: u16,
        /// `refresh_interval`.
        refresh_ms: u64,
    },
    /// promwatch's own: this machine's figures, no exporter needed.
    Host,
    /// promwatch's own: a folder of `*.prom` files.
    Textfile(PathBuf),
}

/// `static_configs`, or a group that a discovery gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Addresses, `host:port`; `unix:/path` is promwatch's own.
    pub targets: Vec<String>,
    /// Labels that all of them get.
    pub labels: BTreeMap<String, String>,
    /// Where the group comes from, for messages (`prometheus.yaml:12`, a file's path, an URL).
    pub source: String,
}

/// Record types of `dns_sd_configs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names of the record types
pub enum DnsKind {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

/// Prometheus' `http_config` keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpClient {
    /// Who we say we are.
    pub auth: Auth,
    /// `http_headers`, one entry per value.
    pub headers: Vec<(String, Secret)>,
    /// `tls_config`.
    pub tls: TlsSettings,
    /// `proxy_url`, `no_proxy`, `proxy_from_environment`, resolved.
    pub proxy: ProxySettings,
    /// `follow_redirects`.
    pub follow_redirects: bool,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            headers: Vec::new(),
            tls: TlsSettings::default(),
            proxy: ProxySettings::default(),
            follow_redirects: true,
        }
    }
}

/// How a request is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `basic_auth`.
    Basic {
        /// `username` or `username_file`.
        username: Secret,
        /// `password` or `password_file`.
        password: Secret,
    },
    /// `authorization`, `bearer_token`, `bearer_token_file`.
    Header {
        /// `type`, `Bearer` by default.
        scheme: String,
        /// `credentials` or `credentials_file`.
        credentials: Secret,
    },
    /// `oauth2`, the client credentials grant.
    OAuth2(Box<OAuth2>),
}

/// `oauth2`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the keys of Prometheus' documentation
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    pub token_url: String,
    pub scopes: Vec<String>,
    pub endpoint_params: BTreeMap<String, String>,
    pub tls: TlsSettings,
    pub proxy: ProxySettings,
}

/// `tls_config`, or what `[ssl] ca_bundle_path` and `AWS_CA_BUNDLE` come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates to trust instead of the built-in roots (PEM).
    pub ca: Option<Secret>,
    /// Our certificate (PEM).
    pub cert: Option<Secret>,
    /// Its key (PEM).
    pub key: Option<Secret>,
    /// The name to check instead of the URL's host.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// The lowest version to speak: 12 or 13 (older ones do not exist here).
    pub min_version: Option<u8>,
    /// The highest version to speak: 12 or 13.
    pub max_version: Option<u8>,
}

/// Which proxy a request goes through. The environment's variables are read by `config`, never by the HTTP client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For `http://` URLs: `http://[user:password@]host:port`.
    pub http: Option<Secret>,
    /// For `https://` URLs (CONNECT).
    pub https: Option<Secret>,
    /// Hosts that are reached directly, comma separated: names with their subdomains, addresses, networks, `*`. With any entry at
    /// all this machine (`localhost`, loopback) is reached directly too, as in Go; empty: everything goes through the proxy.
    pub no_proxy: String,
    /// `proxy_connect_header`.
    pub connect_headers: Vec<(String, Secret)>,
}

/// Memory for counter baselines where the settings say nothing, in bytes: some 50,000 series.
pub const BASELINE_BYTES: u64 = 8 << 20;

/// How samples become events.
#[derive(Clone, Debug, Default)]
pub struct ConvertSettings {
    /// `log_group_name`; `{JobName}` and its like are replaced per event.
    pub log_group_name: String,
    /// `"promwatch": {"log_stream_name"}`; without it the stream is the event's `JobName` or `job`, as in the agent.
    pub log_stream_name: Option<Template>,
    /// The value of the label `host`; nothing with `omit_hostname`.
    pub host: Option<String>,
    /// `cluster_name`, the label `ClusterName`.
    pub cluster_name: Option<String>,
    /// `"promwatch": {"labels"}`: added to every event that lacks them.
    pub labels: Vec<(String, Template)>,
    /// Embedded metric format.
    pub emf: EmfSettings,
    /// Types beyond the agent's; all off by default.
    pub more: MoreTypes,
    /// `"promwatch": {"counters": {"max_gap"}}`; nothing: the longer of 15 minutes and three intervals.
    pub max_gap_ms: Option<u64>,
    /// Memory for counter baselines; the oldest go first. 0: [`BASELINE_BYTES`].
    pub baseline_bytes: u64,
}

/// A text with `{job}` and `{instance}` left in it; all other placeholders are resolved by `config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(pub String);

/// `emf_processor`, resolved as the agent's translator and exporter do it.
#[derive(Clone, Debug, Default)]
pub enum EmfSettings {
    /// No `emf_processor`, `disable_metric_extraction`, or an `emf_processor` without declarations: no `CloudWatchMetrics`.
    #[default]
    Off,
    /// The declarations that are left.
    Declared {
        /// `metric_namespace`.
        namespace: String,
        /// `metric_unit`, units that CloudWatch does not know left out.
        units: BTreeMap<String, String>,
        /// `metric_declaration`, invalid ones left out, in the file's order.
        declarations: Vec<Declaration>,
    },
    /// Declarations were given and every one was invalid: each event gets one measurement with all labels as its dimensions.
    AllLabels {
        /// `metric_namespace`.
        namespace: String,
        /// `metric_unit`.
        units: BTreeMap<String, String>,
    },
}

/// One `metric_declaration`.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// `source_labels`; their values are joined by `;`.
    pub source_labels: Vec<String>,
    /// `label_matcher`, an unanchored search.
    pub label_matcher: Pattern,
    /// `metric_selectors`, unanchored searches; one match is enough.
    pub metric_selectors: Vec<Pattern>,
    /// `dimensions`: sets of at most 10 names, each sorted and without repetition, no set twice.
    pub dimensions: Vec<Vec<String>>,
}

/// `"promwatch": {"types"}`: what the agent drops and promwatch can send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoreTypes {
    /// Histograms.
    pub histograms: Histograms,
    /// Untyped metrics as gauges.
    pub untyped: bool,
    /// `up` and `scrape_*` as gauges.
    pub scrape_health: bool,
    /// Only events with a measurement.
    pub declared_only: bool,
}

/// How histograms are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// Not at all, as in the agent.
    #[default]
    Drop,
    /// The deltas of `_count` and `_sum`.
    CountAndSum,
    /// Those and the delta of each `_bucket`.
    Buckets,
    /// EMF `Values` and `Counts`.
    Values,
}

/// `"promwatch": {"buffer"}` and the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSettings {
    /// Where segments and baselines lie; nothing: memory only.
    pub state_dir: Option<PathBuf>,
    /// The most that all segments take.
    pub max_bytes: u64,
    /// Older events are dropped.
    pub max_age_ms: u64,
    /// How long after its scrape an unacknowledged event reaches the disk.
    pub sync_interval_ms: u64,
    /// What becomes of events over 14 days old.
    pub expired: Expired,
    /// The most that waits in memory while there is no disk.
    pub memory_bytes: u64,
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self {
            state_dir: None,
            max_bytes: 64 << 20,
            max_age_ms: 14 * 24 * 3_600_000,
            sync_interval_ms: 5_000,
            expired: Expired::Drop,
            memory_bytes: 2 << 20,
        }
    }
}

/// `"promwatch": {"buffer": {"expired"}}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expired {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Sent with the present time; the original one stays in the event.
    Restamp,
    /// Kept for `buffer export`.
    Keep,
}

/// The way to CloudWatch Logs.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// `agent.region`, or what the agent's rules find; nothing: no request can be signed, everything is buffered.
    pub region: Option<String>,
    /// `logs.endpoint_override`, or an environment override.
    pub endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_STS`, or `AWS_ENDPOINT_URL`.
    pub sts_endpoint: Option<String>,
    /// Names our sessions of assumed roles: letters, digits and `_+=,.@-`, from the host's name; nothing: `promwatch`.
    pub role_session_name: Option<String>,
    /// `agent.use_dualstack_endpoint`.
    pub dualstack: bool,
    /// `AWS_USE_FIPS_ENDPOINT`.
    pub fips: bool,
    /// `logs.credentials.role_arn`, or `agent.credentials.role_arn`.
    pub role_arn: Option<String>,
    /// Where base credentials come from.
    pub credentials: CredentialSettings,
    /// `[ssl] ca_bundle_path`, `AWS_CA_BUNDLE`.
    pub tls: TlsSettings,
    /// `[proxy]`, or the environment's.
    pub proxy: ProxySettings,
    /// `agent.user_agent`; nothing: promwatch's own.
    pub user_agent: Option<String>,
    /// gzip bodies where that is smaller.
    pub compress: bool,
    /// `force_flush_interval`: how long live events wait for company.
    pub flush_interval_ms: u64,
    /// `"promwatch": {"upload": {"backlog_requests_per_second"}}`
    pub backlog_requests_per_second: f64,
    /// `"promwatch": {"upload": {"backlog_bytes_per_second"}}`, compressed body bytes.
    pub backlog_bytes_per_second: u64,
    /// `"promwatch": {"upload": {"jitter"}}`: the longest random delay of the backlog after an outage.
    pub jitter_ms: u64,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            sts_endpoint: None,
            role_session_name: None,
            dualstack: false,
            fips: false,
            role_arn: None,
            credentials: CredentialSettings::default(),
            tls: TlsSettings::default(),
            proxy: ProxySettings::default(),
            user_agent: None,
            compress: true,
            flush_interval_ms: 5_000,
            backlog_requests_per_second: 2.0,
            backlog_bytes_per_second: 64 << 10,
            jitter_ms: 60_000,
        }
    }
}

/// Where base credentials come from: the answers of the environment and `common-config.toml`, not the secrets of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// `[credentials] shared_credential_profile`.
    pub profile: Option<String>,
    /// `[credentials] shared_credential_file`, or `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`.
    pub credentials_file: PathBuf,
    /// `AWS_CONFIG_FILE`, or `config` beside the credentials file.
    pub config_file: PathBuf,
    /// `AWS_PROFILE`.
    pub env_profile: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub env_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub env_secret_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub env_session_token: Option<Secret>,
}
