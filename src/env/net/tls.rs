//! TLS by rustls with ring: configurations for each set of settings, the time that certificates are judged by, and what
//! a TLS error means to the caller.
//!
//! A configuration is kept, with its sessions for resumption, until a file it was made from changes.

use super::patience::failure;
use super::provider::provider;
use super::secret::{contents, stamp};
use crate::env::clock::wall_ms;
use crate::env::{CertificateTime, NetError, NetErrorKind, Stamp};
use crate::model::settings::TlsSettings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Configurations kept at once; more sets of settings than this are made anew each time round.
const MAX_CONFIGS: usize = 16;
/// Servers whose sessions are remembered, per configuration.
const MAX_SESSIONS: usize = 16;
/// Certificates of a chain may each be out of date in both directions.
const MAX_DATE_TRIES: usize = 16;
/// So many certificates of a CA file may be servers' own.
const MAX_GIVEN: usize = 8;

/// The configurations in use.
pub(super) struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    time: Arc<JudgeTime>,
    kept: Vec<Kept>,
}

struct Kept {
    settings: TlsSettings,
    any_time: bool,
    stamps: [Stamp; 3],
    config: Arc<ClientConfig>,
}

impl TlsConfigs {
    pub(super) fn new() -> Self {
        Self {
            provider: Arc::new(provider()),
            time: Arc::new(JudgeTime(Mutex::new(CertificateTime::Clock))),
            kept: Vec::new(),
        }
    }

    /// The client's side of a new connection to the host of that name.
    pub(super) fn connection(
        &mut self,
        settings: &TlsSettings,
        time: CertificateTime,
        name: &str,
    ) -> Result<ClientConnection, NetError> {
        let server = ServerName::try_from(name.to_string())
            .map_err(|_| failure(NetErrorKind::Config, format!("{name:?} is no name for a certificate")))?;
        *self.time.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
        let config = self.config(settings, time == CertificateTime::AnyTime)?;
        ClientConnection::new(config, server)
            .map_err(|error| failure(NetErrorKind::Tls, format!("TLS with {name}: {error}")))
    }

    fn config(&mut self, settings: &TlsSettings, any_time: bool) -> Result<Arc<ClientConfig>, NetError> {
        let stamps = [&settings.ca, &settings.cert, &settings.key].map(|secret| stamp(secret.as_ref()));
        if let Some(at) = self.kept.iter().position(|kept| kept.any_time == any_time && kept.settings == *settings) {
            let kept = self.kept.remove(at);
            if kept.stamps == stamps {
                let config = Arc::clone(&kept.config);
                self.kept.push(kept);
                return Ok(config);
            }
        }
        let config = Arc::new(self.make(settings, any_time)?);
        if self.kept.len() >= MAX_CONFIGS {
            self.kept.remove(0);
        }
        self.kept.push(Kept { settings: settings.clone(), any_time, stamps, config: Arc::clone(&config) });
        Ok(config)
    }

    fn make(&self, settings: &TlsSettings, any_time: bool) -> Result<ClientConfig, NetError> {
        let config_error = |text: String| failure(NetErrorKind::Config, text);
        let versions = versions(settings)?;
        let time: Arc<dyn TimeProvider> = Arc::clone(&self.time) as Arc<dyn TimeProvider>;
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&versions)
            .map_err(|error| config_error(format!("TLS versions: {error}")))?;
        let verifier: Arc<dyn ServerCertVerifier> = if settings.insecure_skip_verify {
            Arc::new(AcceptAny(self.provider.signature_verification_algorithms))
        } else {
            let (roots, given) = roots(settings)?;
            Arc::new(DateJudge { roots, algorithms: self.provider.signature_verification_algorithms, given, any_time })
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match (&settings.cert, &settings.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let what = "the client's certificate";
                let chain = certificates(&contents(cert, what)?, what)?;
                let key = PrivateKeyDer::from_pem_slice(&contents(key, "the client's key")?)
                    .map_err(|error| config_error(format!("the client's key is not a PEM key: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| config_error(format!("the client's certificate and key: {error}")))?
            }
            _ => return Err(config_error("a client certificate needs both cert and key".to_string())),
        };
        // A session that was made without regard to dates must not stand in for a proof with them, nor the reverse.
        config.resumption =
            if any_time { Resumption::disabled() } else { Resumption::in_memory_sessions(MAX_SESSIONS) };
        config.enable_early_data = false;
        Ok(config)
    }
}

/// The protocol versions that the settings leave; older ones than 1.2 do not exist here.
fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, NetError> {
    let (lowest, highest) = (settings.min_version.unwrap_or(12), settings.max_version.unwrap_or(13));
    let mut versions = Vec::with_capacity(2);
    if highest >= 13 && lowest <= 13 {
        versions.push(&rustls::version::TLS13);
    }
    if lowest <= 12 && highest >= 12 {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        return Err(failure(NetErrorKind::Config, "no TLS version is left between min_version and max_version"));
    }
    Ok(versions)
}

/// The authorities to trust: the settings', or else Mozilla's. Beside them the settings' certificates as they are.
fn roots(settings: &TlsSettings) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), NetError> {
    let Some(ca) = &settings.ca else {
        return Ok((RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }, Vec::new()));
    };
    let what = "the certificates to trust (CA)";
    let mut store = RootCertStore::empty();
    // A bundle may hold some that rustls cannot use (old versions, odd keys): the others still count, as in OpenSSL and Go.
    let given = certificates(&contents(ca, what)?, what)?;
    let (added, _) = store.add_parsable_certificates(given.iter().cloned());
    if added == 0 {
        return Err(failure(NetErrorKind::Config, format!("{what}: none of them can be used")));
    }
    // A whole bundle of authorities holds no server's own certificate; only a short file is worth the memory.
    let given = if given.len() <= MAX_GIVEN { given } else { Vec::new() };
    Ok((store, given))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(failure(NetErrorKind::Config, format!("{what}: no PEM certificate in it"))),
        Err(error) => Err(failure(NetErrorKind::Config, format!("{what}: not PEM: {error}"))),
    }
}

/// What an error of rustls means to the caller.
pub(super) fn classify(error: &Error, peer: &str) -> NetError {
    let kind = match error {
        Error::InvalidCertificate(error) if bound(error).is_some() => NetErrorKind::CertificateDates,
        _ => NetErrorKind::Tls,
    };
    failure(kind, format!("TLS with {peer}: {error}{}", hint(error)))
}

/// The likely fix.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(error) if bound(error).is_some() => " (is this machine's clock right?)",
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            " (is its authority missing: ca_file, or AWS_CA_BUNDLE for AWS?)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => " (is server_name right?)",
        // CaUsedAsEndEntity, nearly always.
        Error::InvalidCertificate(CertificateError::Other(_)) => {
            " (is it self-signed? then give the certificate as ca_file)"
        }
        Error::InvalidMessage(_) => " (does the server speak TLS on this port?)",
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            " (does it want a client certificate?)"
        }
        _ => "",
    }
}

/// The time nearest to the one judged by at which this certificate is good, if only its dates stand in the way.
fn bound(error: &CertificateError) -> Option<UnixTime> {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => Some(*not_after),
        CertificateError::NotValidYetContext { not_before, .. } => Some(*not_before),
        CertificateError::Expired | CertificateError::NotValidYet => Some(UnixTime::since_unix_epoch(Duration::ZERO)),
        _ => None,
    }
}

/// The time of the running call.
#[derive(Debug)]
struct JudgeTime(Mutex<CertificateTime>);

impl TimeProvider for JudgeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            CertificateTime::Clock | CertificateTime::AnyTime => wall_ms() / 1000,
            CertificateTime::At(seconds) => seconds,
        };
        // A clock before 1970 is possible and must not be more than wrong.
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    }
}

/// The ordinary rules, as rustls' own verifier has them (which is not used: it brings certificate revocation lists, and nobody gives
/// any), and beside them: an error is about dates only when nothing but dates stands in the way, and with `any_time`
/// such a certificate passes; a server's own certificate may be given as its authority.
#[derive(Debug)]
struct DateJudge {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    given: Vec<CertificateDer<'static>>,
    any_time: bool,
}

impl DateJudge {
    fn judge(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let cert = ParsedCertificate::try_from(cert)?;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, intermediates, now, self.algorithms.all)?;
        verify_server_name(&cert, name)
    }

    /// `openssl req -x509`, with which many exporters are set up, makes a certificate that is its own authority. webpki accepts none
    /// as a server's; Go and OpenSSL do when it is trusted itself, and so must we.
    fn judge_given(&self, cert: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        if !self.given.iter().any(|given| given.as_ref() == cert.as_ref()) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        verify_server_name(&ParsedCertificate::try_from(cert)?, name)?;
        let (not_before, not_after) = validity(cert).ok_or(CertificateError::BadEncoding)?;
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for DateJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = |time| match self.judge_given(end_entity, server_name, time) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                self.judge(end_entity, intermediates, server_name, time)
            }
            outcome => outcome,
        };
        let mut outcome = judge(now);
        let mut by_dates = None;
        for _ in 0..MAX_DATE_TRIES {
            let Err(Error::InvalidCertificate(error)) = &outcome else { break };
            let Some(time) = bound(error) else { break };
            by_dates.get_or_insert_with(|| error.clone());
            outcome = judge(time);
        }
        match (outcome, by_dates) {
            (Ok(_), Some(error)) if !self.any_time => Err(Error::InvalidCertificate(error)),
            (outcome, _) => outcome.map(|()| ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The dates of a certificate (RFC 5280, section 4.1): the fourth or fifth field of its first field.
fn validity(cert: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let (_, cert, _) = der(cert)?;
    let (_, mut rest, _) = der(cert)?;
    // The version is optional; then serial number, algorithm, issuer.
    let skipped = if rest.first() == Some(&0xa0) { 4 } else { 3 };
    for _ in 0..skipped {
        rest = der(rest)?.2;
    }
    let (_, dates, _) = der(rest)?;
    let (kind, not_before, rest) = der(dates)?;
    let not_before = date(kind, not_before)?;
    let (kind, not_after, _) = der(rest)?;
    Some((not_before, date(kind, not_after)?))
}

/// Tag, content and what follows of a DER element.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn date(kind: u8, text: &[u8]) -> Option<UnixTime> {
    let text = text.strip_suffix(b"Z")?;
    let mut digits = text.iter().map(|&byte| char::from(byte).to_digit(10).map(i64::from));
    let mut pair = || Some(digits.next()?? * 10 + digits.next()??);
    let year = match kind {
        0x17 => match pair()? {
            year @ 50.. => 1900 + year,
            year => 2000 + year,
        },
        0x18 => pair()? * 100 + pair()?,
        _ => return None,
    };
    let (month, day, hour, minute, second) = (pair()?, pair()?, pair()?, pair()?, pair()?);
    // Days since 1970 in the Gregorian calendar, years beginning in March so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    // Before 1970 is before everything.
    Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

/// `insecure_skip_verify`: any certificate, but the other side must hold its key.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_certificates_are_read() {
        let seconds = |kind, text: &str| date(kind, text.as_bytes()).map(|time| time.as_secs());
        assert_eq!(seconds(0x17, "700101000000Z"), Some(0));
        assert_eq!(seconds(0x17, "000229123456Z"), Some(951_827_696));
        assert_eq!(seconds(0x17, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(0x18, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(0x18, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(seconds(0x17, "500101000000Z"), Some(0));
        for bad in ["", "Z", "7001010000Z", "700101000000", "7x0101000000Z"] {
            assert_eq!(seconds(0x17, bad), None, "{bad}");
        }
        assert_eq!(validity(&[0x30, 0x82, 0xff]), None);
        assert_eq!(validity(&[]), None);
    }
}
