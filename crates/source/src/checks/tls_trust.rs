//! Which server certificates a check trusts, and why one is not trusted, as a sentence.
//!
//! Invariant: the certificate that a server presents is kept even when it is not trusted, so that its expiry is known
//! before and after it has expired.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::time::Instant;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use selfheal_model::{Timestamp, Trust};

/// How long the certificate authorities of this machine are cached: they change with system updates.
const PLATFORM_FOR: Duration = Duration::from_secs(3600);
/// The largest `ca_file` that is read, in bytes: all authorities of a machine take less than half of it.
const MAX_CA_FILE: u64 = 1024 * 1024;
/// At most so many names of a certificate are listed in a message.
const MAX_NAMES_LISTED: usize = 5;

/// A certificate of any server, read without the checks that only an issuer needs: also of a serial number that RFC 5280
/// forbids the end is known.
type Certificate = CertificateInner<Raw>;

type Verifier = Arc<dyn ServerCertVerifier>;

/// The certificate authorities of this machine, read on first use.
#[derive(Default)]
pub(super) struct Trusted(Mutex<Option<(Instant, Verifier)>>);

/// The certificate that a server presented, once the handshake got that far.
#[derive(Clone, Debug, Default)]
pub(super) struct Presented(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl Presented {
    fn get(&self) -> Option<CertificateDer<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The end of the certificate's validity; `None` before it was presented, or if it cannot be parsed.
    pub fn expires_at(&self) -> Option<Timestamp> {
        read(self.get()?.as_ref(), not_after)
    }

    /// Describes a failed handshake, or what is wrong with the certificate, as a sentence.
    pub fn explain(&self, error: &rustls::Error) -> String {
        explain(error, self.get().as_ref())
    }
}

impl Trusted {
    /// The TLS configuration of one connection. Authorities that cannot be read are an error only when a certificate has
    /// to be verified: a peer that presents none needs none.
    pub async fn config(&self, trust: &Trust, dir: Option<&Path>) -> (ClientConfig, Presented) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match trust {
            Trust::Anybody => Ok(None),
            Trust::Platform => self.platform(&provider).map(Some),
            Trust::Authorities(file) => {
                let path = dir.map_or_else(|| file.clone(), |dir| dir.join(file));
                let read = authorities(&path).await.and_then(|roots| by_roots(roots, provider.clone()));
                read.map(Some).map_err(|why| format!("ca_file {}: {why}", file.display()))
            }
        };
        let presented = Presented::default();
        let recording = RecordingVerifier { verifier, provider: provider.clone(), presented: presented.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers of every version of TLS")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(recording))
            .with_no_client_auth();
        (config, presented)
    }

    fn platform(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, verifier)) = &*kept
            && since.elapsed() < PLATFORM_FOR
        {
            return Ok(verifier.clone());
        }
        let verifier: Verifier =
            Arc::new(rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| {
                format!("the certificate authorities of this machine cannot be read: {}", in_words(&error))
            })?);
        *kept = Some((Instant::now(), verifier.clone()));
        Ok(verifier)
    }
}

async fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > MAX_CA_FILE {
        return Err(format!("the file has {size} bytes; the limit is {MAX_CA_FILE}"));
    }
    let pem = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("it is not a PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| in_words(&error))?;
    }
    if roots.is_empty() { Err("the file has no certificate".to_owned()) } else { Ok(roots) }
}

fn by_roots(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Verifier, String> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map(|verifier| verifier as Verifier).map_err(|error| error.to_string())
}

/// Keeps the certificate that is presented and has another verifier verify it.
#[derive(Debug)]
struct RecordingVerifier {
    /// `Ok(None)`: every certificate is trusted. `Err`: none can be verified, and why.
    verifier: Result<Option<Verifier>, String>,
    provider: Arc<CryptoProvider>,
    presented: Presented,
}

impl RecordingVerifier {
    fn signature(
        &self,
        by_verifier: impl FnOnce(&Verifier) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.verifier {
            Ok(Some(verifier)) => by_verifier(verifier),
            Ok(None) => Ok(HandshakeSignatureValid::assertion()),
            Err(why) => Err(rustls::Error::General(why.clone())),
        }
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.presented.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.clone().into_owned());
        match &self.verifier {
            Ok(Some(verifier)) => verifier.verify_server_cert(certificate, above, name, ocsp, now),
            Ok(None) => Ok(ServerCertVerified::assertion()),
            Err(why) => Err(rustls::Error::General(why.clone())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(|verifier| verifier.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(|verifier| verifier.verify_tls13_signature(message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn explain(error: &rustls::Error, presented: Option<&CertificateDer<'static>>) -> String {
    let read = |what: fn(&Certificate) -> String| presented.and_then(|one| read(one, what)).unwrap_or_default();
    let rustls::Error::InvalidCertificate(wrong) = error else { return in_words(error) };
    match wrong {
        CertificateError::ExpiredContext { not_after, .. } => {
            let at = instant(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX));
            let own = presented.and_then(|one| self::read(one, self::not_after));
            let which = if own == Some(at) { "the certificate" } else { "a certificate above the server's" };
            format!("{which} has expired, on {}", told(at))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let at = instant(i64::try_from(not_before.as_secs()).unwrap_or(i64::MAX));
            format!("the certificate is not valid before {}", told(at))
        }
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("the certificate is not for {}; it is for {}", expected.to_str(), read(names))
        }
        CertificateError::UnknownIssuer => {
            format!(
                "the certificate's issuer is not trusted: {}",
                read(|one| one.tbs_certificate().issuer().to_string())
            )
        }
        CertificateError::BadSignature => "the certificate is not signed by the issuer it names".to_owned(),
        CertificateError::Revoked => "the certificate has been revoked".to_owned(),
        other => format!("the certificate is not trusted: {other}"),
    }
}

fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(why) => why.clone(),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("the server ended the handshake: {alert:?}"),
        other => other.to_string(),
    }
}

fn read<T>(certificate: &[u8], what: impl FnOnce(&Certificate) -> T) -> Option<T> {
    Certificate::from_der(certificate).ok().map(|certificate| what(&certificate))
}

fn not_after(certificate: &Certificate) -> Timestamp {
    let since_1970 = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    instant(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// The DNS names and addresses that a certificate is valid for, as text.
fn names(certificate: &Certificate) -> String {
    let Ok(Some((_, found))) = certificate.tbs_certificate().get_extension::<SubjectAltName>() else {
        return "no name at all".to_owned();
    };
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let four = <[u8; 4]>::try_from(bytes.as_bytes()).map(std::net::IpAddr::from);
            let six = <[u8; 16]>::try_from(bytes.as_bytes()).map(std::net::IpAddr::from);
            four.or(six).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    let mut names: Vec<String> = found.0.iter().filter_map(name).collect();
    let more = names.len().saturating_sub(MAX_NAMES_LISTED);
    names.truncate(MAX_NAMES_LISTED);
    match (names.is_empty(), more) {
        (true, _) => "no host".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// A time in a certificate as text: to the second, as certificates have it.
pub(super) fn told(at: Timestamp) -> String {
    at.to_string().replace(".000Z", "Z")
}
