//! Mail servers: one conversation per mail, over connections that are kept for the next one.
//!
//! Invariant: a connection is taken out of the pool for its conversation and comes back only when that ended well, so a
//! conversation cut off by a timeout never leaves its answers to the next mail.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::sync::Semaphore;

use super::email::{self, MailError};
use super::redact::Redactor;
use super::{NotifiersConfig, permanent, transient};
use selfheal_contract::receiver::{EmailDef, SmtpDef, SmtpTls};
use selfheal_contract::{Delivery, DeliveryResult};
use selfheal_model::units::format_duration;
use selfheal_model::{ResolveSecret, Timestamp};

/// Conversations with one server at a time: more is taken for abuse by many, and one saves no time over few.
const MAX_CONVERSATIONS: usize = 4;
/// Connections kept open per server while there is no mail.
const MAX_IDLE: usize = 2;
/// How long an idle connection is kept; servers close theirs after minutes.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Servers that are remembered; the one used longest ago goes first.
const MAX_SERVERS: usize = 32;
/// Of a file with certificates.
const MAX_CA_FILE: u64 = 1 << 20;

/// The mail servers of a policy.
pub(super) struct Servers {
    secrets: Arc<dyn ResolveSecret>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    policy_dir: PathBuf,
    /// The one used last stands last.
    known: Mutex<VecDeque<Arc<Server>>>,
}

/// One server with the credentials and certificates it was reached with. Other ones make another server.
struct Server {
    access: Access,
    tls: Option<TlsParameters>,
    conversations: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Timestamp)>>,
}

#[derive(PartialEq, Eq)]
struct Access {
    def: SmtpDef,
    password: Option<String>,
    ca: Option<Vec<u8>>,
}

/// How a conversation failed, and whether the mail was already on its way.
enum Trouble {
    /// Before the mail's text was sent: the server has not got it.
    Before(SmtpError),
    /// The text was sent and the answer did not come, or was a no.
    After(SmtpError),
    /// Nobody was accepted: (address, the server's reason).
    NobodyAccepted(Vec<(String, SmtpError)>),
}

impl Servers {
    pub fn new(config: NotifiersConfig) -> Self {
        let NotifiersConfig { secrets, clock, policy_dir } = config;
        Servers { secrets, clock, policy_dir, known: Mutex::new(VecDeque::new()) }
    }

    pub async fn deliver(&self, delivery: &Delivery, def: &EmailDef) -> DeliveryResult {
        let mail = match email::compose(delivery, def) {
            Ok(mail) => mail,
            Err(error @ (MailError::Address { .. } | MailError::Build(_))) => return permanent(error.to_string()),
        };
        let mut redactor = Redactor::default();
        let server = match self.server(&def.smtp, &mut redactor).await {
            Ok(server) => server,
            Err(why) => return transient(redactor.sentence(&why)),
        };
        let Ok(_turn) = server.conversations.acquire().await else {
            return transient("the mail server is no longer used".to_owned());
        };
        let bytes = mail.formatted();
        let conversation = server.send(mail.envelope(), &bytes, (self.clock)());
        let place = format!("{}:{}", def.smtp.host, def.smtp.port);
        let result = match tokio::time::timeout(def.smtp.timeout, conversation).await {
            Err(_) => transient(format!(
                "{place} did not take the mail within {}; if it did, a repeat has the same Message-ID",
                format_duration(def.smtp.timeout)
            )),
            Ok(Err(trouble)) => trouble.result(&place),
            Ok(Ok((connection, refused))) => {
                server.keep(connection, (self.clock)());
                for (address, error) in refused {
                    let why = redactor.sentence(&error.to_string());
                    tracing::warn!(delivery = %delivery.id, %address, %why, "one of the recipients was refused");
                }
                DeliveryResult::Delivered
            }
        };
        redactor.result(result)
    }

    /// The server for these settings as they are now: passwords and certificates change without a new policy.
    async fn server(&self, def: &SmtpDef, redactor: &mut Redactor) -> Result<Arc<Server>, String> {
        let password = match &def.password {
            Some(secret) => Some(self.secrets.resolve(secret).map_err(|error| error.to_string())?),
            None => None,
        };
        if let Some(password) = &password {
            redactor.hide(password);
        }
        let ca = match (&def.ca_file, def.tls) {
            (Some(path), SmtpTls::Starttls | SmtpTls::Tls) => Some(read_ca(&self.policy_dir.join(path)).await?),
            _ => None,
        };
        let access = Access { def: def.clone(), password, ca };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|server| server.access == access);
        let server = match at.and_then(|at| known.remove(at)) {
            Some(server) => server,
            None => Arc::new(Server::new(access)?),
        };
        known.push_back(server.clone());
        if known.len() > MAX_SERVERS {
            known.pop_front();
        }
        Ok(server)
    }
}

impl Server {
    fn new(access: Access) -> Result<Self, String> {
        let tls = match access.def.tls {
            SmtpTls::None => None,
            SmtpTls::Starttls | SmtpTls::Tls => Some(tls_parameters(&access)?),
        };
        Ok(Server { access, tls, conversations: Semaphore::new(MAX_CONVERSATIONS), idle: Mutex::new(Vec::new()) })
    }

    /// One mail to all who are accepted. Gives back the connection, good for another mail, and who was refused.
    async fn send(
        &self,
        envelope: &Envelope,
        mail: &[u8],
        now: Timestamp,
    ) -> Result<(AsyncSmtpConnection, Vec<(String, SmtpError)>), Trouble> {
        let mut connection = self.connection(now).await.map_err(Trouble::Before)?;
        let mut options = Vec::new();
        let info = connection.server_info();
        let plain_addresses =
            envelope.to().iter().chain(envelope.from()).all(|address| AsRef::<str>::as_ref(address).is_ascii());
        if !plain_addresses && info.supports_feature(Extension::SmtpUtfEight) {
            options.push(MailParameter::SmtpUtfEight);
        }
        if !mail.is_ascii() && info.supports_feature(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        connection.command(Mail::new(envelope.from().cloned(), options)).await.map_err(Trouble::Before)?;
        let mut refused = Vec::new();
        for address in envelope.to() {
            match connection.command(Rcpt::new(address.clone(), Vec::new())).await {
                Ok(_) => {}
                // one who is gone keeps nobody else from hearing it
                Err(error) if error.is_permanent() => refused.push((address.to_string(), error)),
                Err(error) => return Err(Trouble::Before(error)),
            }
        }
        if refused.len() == envelope.to().len() {
            return Err(Trouble::NobodyAccepted(refused));
        }
        connection.command(Data).await.map_err(Trouble::Before)?;
        connection.message(mail).await.map_err(Trouble::After)?;
        Ok((connection, refused))
    }

    async fn connection(&self, now: Timestamp) -> Result<AsyncSmtpConnection, SmtpError> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match kept {
                Some((mut connection, since)) => {
                    if now.since(since) <= IDLE_FOR && connection.test_connected().await {
                        return Ok(connection);
                    }
                }
                None => return self.connect().await,
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let def = &self.access.def;
        let hello = ClientId::default();
        let wrapped = if def.tls == SmtpTls::Tls { self.tls.clone() } else { None };
        let place = (def.host.as_str(), def.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, Some(def.timeout), &hello, wrapped, None).await?;
        if let (SmtpTls::Starttls, Some(tls)) = (def.tls, &self.tls) {
            // an error where the server does not offer it: nothing is sent in the clear instead
            connection.starttls(tls.clone(), &hello).await?;
        }
        if let Some(username) = &def.username {
            let credentials = Credentials::new(username.clone(), self.access.password.clone().unwrap_or_default());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection, now: Timestamp) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.has_broken() {
            idle.push((connection, now));
        }
    }
}

impl Trouble {
    fn result(self, place: &str) -> DeliveryResult {
        match self {
            Trouble::Before(error) if error.is_permanent() => permanent(format!("{place} refused: {error}")),
            Trouble::Before(error) => transient(format!("{place}: {}", sentence(&error))),
            Trouble::After(error) if error.is_permanent() => permanent(format!("{place} refused the mail: {error}")),
            Trouble::After(error) if error.is_transient() => transient(format!("{place}: {error}")),
            Trouble::After(error) => transient(format!(
                "{place} broke off after the mail was sent, it may have taken it ({}); a repeat has the same Message-ID",
                sentence(&error)
            )),
            Trouble::NobodyAccepted(refused) => {
                let refused: Vec<String> =
                    refused.iter().map(|(address, error)| format!("{address}: {error}")).collect();
                permanent(format!("{place} accepts none of the recipients: {}", refused.join("; ")))
            }
        }
    }
}

fn sentence(error: &SmtpError) -> String {
    // what an ended stream looks like to the client
    if error.is_response() {
        format!("the server closed the connection or spoke no SMTP ({error})")
    } else {
        error.to_string()
    }
}

fn tls_parameters(access: &Access) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(access.def.host.clone());
    if let Some(pem) = &access.ca {
        let certificate = Certificate::from_pem(pem)
            .map_err(|error| format!("the `ca_file` of {} holds no certificate: {error}", access.def.host))?;
        // whoever names an authority means that one, not also every public one
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("TLS for {} cannot be set up: {error}", access.def.host))
}

async fn read_ca(path: &Path) -> Result<Vec<u8>, String> {
    use tokio::io::AsyncReadExt;
    let wrong = |reason: String| format!("cannot read `ca_file` {}: {reason}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(|error| wrong(error.to_string()))?;
    let mut pem = Vec::new();
    file.take(MAX_CA_FILE + 1).read_to_end(&mut pem).await.map_err(|error| wrong(error.to_string()))?;
    if pem.len() as u64 > MAX_CA_FILE {
        return Err(wrong("it is too large for certificates".to_owned()));
    }
    Ok(pem)
}
