//! What the fuzz targets in `fuzz/` call of this room. Builds without debug assertions do not have it.

use super::proxy::Proxy;
use super::url::Url;

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedUrl {
    /// What the request is made with.
    pub uri: String,
    /// Over TLS.
    pub https: bool,
    /// Where the connection goes.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// For people.
    pub shown: String,
}

/// Parses a URL and follows a redirect from there, if one is given. Errors are texts for people.
pub fn url(text: &str, location: Option<&str>) -> Result<ParsedUrl, String> {
    let first = Url::parse(text).map_err(|error| error.text)?;
    let url = match location {
        Some(location) => first.join(location).map_err(|error| error.text)?,
        None => first,
    };
    Ok(ParsedUrl {
        uri: url.uri.to_string(),
        https: url.https,
        shown: url.shown(),
        host: url.host,
        port: url.port,
        credentials: url.credentials,
    })
}

/// Reads the address of a proxy: host and port, or an error for people.
pub fn proxy(text: &str) -> Result<(String, u16), String> {
    Proxy::parse(text).map(|proxy| (proxy.host, proxy.port)).map_err(|error| error.text)
}
