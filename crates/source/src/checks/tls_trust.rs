//! Whose certificates are trusted, and in words why one is not.
//!
//! Invariant: what a server presents is kept also where it is not trusted, so that its end is known before and after
//! it comes.

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

/// How long the machine's authorities are kept before they are read anew: they change with its updates.
const PLATFORM_FOR: Duration = Duration::from_secs(3600);
/// Of a `ca_file`: all authorities of a machine are not half of it.
const MAX_CA_FILE: u64 = 1024 * 1024;
/// Names of a certificate that a message tells.
const NAMES_TOLD: usize = 5;

/// A certificate of any server, read without the checks that only an issuer needs: also of a serial number that RFC 5280
/// forbids the end is known.
type Certificate = CertificateInner<Raw>;

type Judge = Arc<dyn ServerCertVerifier>;

/// What the machine trusts, read when first needed.
#[derive(Default)]
pub(super) struct Trusted(Mutex<Option<(Instant, Judge)>>);

/// The certificate that a server showed, once it did.
#[derive(Clone, Debug, Default)]
pub(super) struct Presented(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl Presented {
    fn get(&self) -> Option<CertificateDer<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last instant it is good at.
    pub fn good_until(&self) -> Option<Timestamp> {
        read(self.get()?.as_ref(), not_after)
    }

    /// What is wrong with the handshake or the certificate.
    pub fn explain(&self, error: &rustls::Error) -> String {
        explain(error, self.get().as_ref())
    }
}

impl Trusted {
    /// How to make one connection. Authorities that cannot be had are told when a certificate is to be judged: a peer
    /// that shows none needs none.
    pub async fn config(&self, trust: &Trust, dir: Option<&Path>) -> (ClientConfig, Presented) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = match trust {
            Trust::Anybody => Ok(None),
            Trust::Platform => self.platform(&provider).map(Some),
            Trust::Authorities(file) => {
                let path = dir.map_or_else(|| file.clone(), |dir| dir.join(file));
                let read = authorities(&path).await.and_then(|roots| by_roots(roots, provider.clone()));
                read.map(Some).map_err(|why| format!("ca_file {}: {why}", file.display()))
            }
        };
        let presented = Presented::default();
        let witness = Witness { judge, provider: provider.clone(), presented: presented.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers of every version of TLS")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(witness))
            .with_no_client_auth();
        (config, presented)
    }

    fn platform(&self, provider: &Arc<CryptoProvider>) -> Result<Judge, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, judge)) = &*kept
            && since.elapsed() < PLATFORM_FOR
        {
            return Ok(judge.clone());
        }
        let judge: Judge = Arc::new(
            rustls_platform_verifier::Verifier::new(provider.clone())
                .map_err(|error| format!("this machine's authorities cannot be read: {}", in_words(&error)))?,
        );
        *kept = Some((Instant::now(), judge.clone()));
        Ok(judge)
    }
}

async fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > MAX_CA_FILE {
        return Err(format!("it has {size} bytes; at most {MAX_CA_FILE} are read"));
    }
    let pem = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("it is no PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| in_words(&error))?;
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

fn by_roots(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Judge, String> {
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    judge.map(|judge| judge as Judge).map_err(|error| error.to_string())
}

/// Keeps what is presented and lets another judge it.
#[derive(Debug)]
struct Witness {
    /// `Ok(None)`: anybody is trusted. `Err`: nobody can be, and why.
    judge: Result<Option<Judge>, String>,
    provider: Arc<CryptoProvider>,
    presented: Presented,
}

impl Witness {
    fn signature(
        &self,
        by_judge: impl FnOnce(&Judge) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.judge {
            Ok(Some(judge)) => by_judge(judge),
            Ok(None) => Ok(HandshakeSignatureValid::assertion()),
            Err(why) => Err(rustls::Error::General(why.clone())),
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.presented.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.clone().into_owned());
        match &self.judge {
            Ok(Some(judge)) => judge.verify_server_cert(certificate, above, name, ocsp, now),
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
        self.signature(|judge| judge.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(|judge| judge.verify_tls13_signature(message, certificate, signed))
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
            format!("the certificate is good only from {}", told(at))
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
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS".to_owned(),
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

/// The names a certificate is for.
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
    let more = names.len().saturating_sub(NAMES_TOLD);
    names.truncate(NAMES_TOLD);
    match (names.is_empty(), more) {
        (true, _) => "no host".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// Certificates know seconds.
pub(super) fn told(at: Timestamp) -> String {
    at.to_string().replace(".000Z", "Z")
}
