//! How the delivery stands, for `status` and for the caller's own decisions.

/// What keeps events from being delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The network, a proxy, TLS or the service fails.
    Offline,
    /// As [`Trouble::Offline`], because time ran out: a smaller batch may get through.
    TimedOut,
    /// The service asks for fewer requests.
    Throttled,
    /// AWS refuses keys, signatures or requests; a person has to act.
    Refused,
    /// A policy or a quota forbids one or several streams; the others are delivered.
    StreamRefused,
    /// No credentials were found, or their profile is unusable.
    NoCredentials,
    /// No region, or an endpoint that is no URL.
    NoEndpoint,
}

impl Trouble {
    /// One word for it, for the status file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::TimedOut => "timed_out",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::StreamRefused => "stream_refused",
            Self::NoCredentials => "no_credentials",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// How the delivery stands. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadStatus {
    /// What is wrong now; nothing when the last attempt went well, or before the first.
    pub trouble: Option<Trouble>,
    /// The last error, kept after it is over.
    pub last_error: Option<String>,
    /// When it was, by the service's clock as far as it is known, milliseconds since 1970.
    pub last_error_ms: Option<i64>,
    /// When a batch was last delivered, on the same clock.
    pub delivered_ms: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
    /// When the first of them was, milliseconds since boot.
    pub outage_since_boot_ms: Option<u64>,
    /// Where the credentials come from.
    pub credentials: Option<String>,
    /// When they expire, milliseconds since 1970; nothing for keys that do not.
    pub credentials_expire_ms: Option<i64>,
    /// How far the service's clock is ahead of wall time.
    pub skew_ms: Option<i64>,
    /// Streams that wait by themselves.
    pub held_streams: u32,
    /// Where requests go.
    pub endpoint: Option<String>,
}
