//! Mails through a real Postfix: selfheal → Postfix → our own mailbox, so that what people get is what was sent.
//!
//! Postfix starts as root only (`sudo -n` is tried). Without it these tests say that they were skipped; where `CI` is
//! set they fail instead, so that nobody takes the skipping for passing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::harness::until;
use selfheal_contract::notification::{
    AlertChangeWord, AlertFacts, AlertStatus, FlushReason, GroupStatus, Notification,
};
use selfheal_contract::receiver::{EmailDef, Notifier, SmtpDef, SmtpTls};
use selfheal_contract::{Delivery, DeliveryResult};
use selfheal_demo::sinks::SmtpSink;
use selfheal_model::{Labels, Severity, Timestamp};
use selfheal_notify::{Notifiers, NotifiersConfig, Notify};
use selfheal_store::secrets::PolicySecrets;

const AT: Timestamp = Timestamp::from_millis(1_795_016_800_000);

const MASTER: &str = "\
127.0.0.1:@PORT@ inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

const MAIN: &str = "\
compatibility_level = 3.6
queue_directory = @DIR@/queue
data_directory = @DIR@/data
maillog_file = @DIR@/postfix.log
maillog_file_prefixes = @DIR@
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:@SINK@
disable_dns_lookups = yes
smtp_tls_security_level = none
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ gone@example.com=REJECT }, permit_mynetworks, reject
";

/// A Postfix of our own, with its configuration and queue in a temporary folder.
struct Postfix {
    dir: TempDir,
    port: u16,
    mailbox: SmtpSink,
}

impl Postfix {
    /// `None`: it cannot run here, and that was said.
    async fn start(more_settings: impl FnOnce(&Path) -> String) -> Option<Postfix> {
        if let Err(reason) = can_run() {
            assert!(std::env::var_os("CI").is_none(), "this test must not be skipped in CI: {reason}");
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        let dir = TempDir::new().expect("a temporary folder");
        // Postfix' programs run as other users
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
        let mailbox = SmtpSink::start().await.expect("the mailbox starts");
        let port = free_port();
        let fill = |text: &str| {
            text.replace("@PORT@", &port.to_string())
                .replace("@SINK@", &mailbox.address().port().to_string())
                .replace("@DIR@", &dir.path().display().to_string())
        };
        fs::write(dir.path().join("master.cf"), fill(MASTER)).expect("written");
        let settings = fill(MAIN) + more_settings(dir.path()).as_str();
        fs::write(dir.path().join("main.cf"), settings).expect("written");
        fs::create_dir(dir.path().join("queue")).expect("made");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("made");
        said(as_root("chown").args([Path::new("postfix"), data.as_path()]));
        // it has read its configuration and listens when this returns
        said(as_root("postfix").arg("-c").arg(dir.path()).arg("start"));
        Some(Postfix { dir, port, mailbox })
    }

    fn email(&self, to: &[&str]) -> EmailDef {
        EmailDef {
            to: to.iter().map(|&address| address.to_owned()).collect(),
            from: "selfheal <selfheal@example.com>".to_owned(),
            smtp: SmtpDef {
                host: "127.0.0.1".to_owned(),
                port: self.port,
                tls: SmtpTls::None,
                username: None,
                password: None,
                ca_file: None,
                timeout: Duration::from_secs(30),
            },
            template: None,
        }
    }

    async fn send(&self, def: EmailDef) -> DeliveryResult {
        let policy_dir = self.dir.path().to_owned();
        let notifiers = Notifiers::new(NotifiersConfig {
            secrets: Arc::new(PolicySecrets { policy_dir: policy_dir.clone() }),
            clock: Arc::new(|| AT),
            policy_dir,
        });
        notifiers.deliver(&delivery(def)).await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("postfix.log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // what is left after a failed stop dies with the folder it runs from; there is nothing better to do here
        let _ = as_root("postfix").arg("-c").arg(self.dir.path()).arg("stop").output();
        // files of other users
        let _ = as_root("chown")
            .arg("-R")
            .arg(rustix::process::getuid().as_raw().to_string())
            .arg(self.dir.path())
            .output();
    }
}

fn can_run() -> Result<(), String> {
    let find = |name: &str| {
        ["/usr/sbin", "/usr/local/sbin", "/sbin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
    };
    if find("postfix").is_none() {
        return Err("Postfix is not installed (Debian: apt-get install postfix)".to_owned());
    }
    match as_root("true").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("Postfix starts as root only, and `sudo -n` does not work here".to_owned()),
    }
}

fn as_root(program: &str) -> Command {
    let mut command = if rustix::process::getuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        sudo
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn said(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().expect("it can be started");
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{text}");
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn delivery(def: EmailDef) -> Delivery {
    let labels: Labels = [("alertname", "HighCpu"), ("deployment", "checkout")].into_iter().collect();
    let alert = AlertFacts {
        id: "00c0ffee00c0ffee".into(),
        alert: "HighCpu".to_owned(),
        deployment: Some("checkout".into()),
        labels: labels.clone(),
        // a line that starts with a dot, letters beyond ASCII, and a line longer than SMTP allows
        summary: format!("Überlast bei 97 %\n.hidden\n{}", "x".repeat(900)),
        annotations: Labels::default(),
        severity: Severity::Critical,
        status: AlertStatus::Firing,
        change: AlertChangeWord::New,
        value: Some(97.5),
        started_at: AT,
        fired_at: AT,
        ended_at: None,
        relapse: 0,
        without_data: false,
        generator_url: String::new(),
        remediation: None,
        dependency: None,
    };
    let notification = Notification {
        receiver: "oncall".into(),
        group: "0:checkout".into(),
        group_labels: labels,
        at: AT,
        flush: 1,
        thread_started: AT,
        status: GroupStatus::Firing,
        reason: FlushReason::New,
        severity: Severity::Critical,
        alerts: vec![alert],
        truncated: 0,
        dependents: Vec::new(),
        news: Vec::new(),
        merged: 1,
        possible_repeat: false,
        unwatched: None,
        external_url: "http://127.0.0.1:9494".to_owned(),
    };
    Delivery {
        id: "0:checkout/oncall/0/1".into(),
        attempt: 1,
        receiver: "oncall".into(),
        notifier: Notifier::Email(Arc::new(def)),
        notification: Arc::new(notification),
    }
}

/// A certificate authority, and a certificate by it for 127.0.0.1: (authority, certificate, key) as PEM.
fn certificates() -> (String, String, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("it signs itself").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &issuer))
        .expect("it is signed");
    (authority_pem, certificate.pem(), key.serialize_pem())
}

/// The settings that make Postfix use them and take nothing in the clear.
fn write_certificates(dir: &Path, authority: &str, certificate: &str, key: &str) -> String {
    for (name, text) in [("ca.pem", authority), ("cert.pem", certificate), ("key.pem", key)] {
        fs::write(dir.join(name), text).expect("written");
    }
    let dir = dir.display();
    format!(
        "smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_whole_and_a_repeat_is_recognisable() {
    let Some(postfix) = Postfix::start(|_| String::new()).await else { return };
    for _ in 0..2 {
        let result = postfix.send(postfix.email(&["oncall@example.com"])).await;
        assert_eq!(result, DeliveryResult::Delivered, "{}", postfix.log());
    }
    until("two mails", || postfix.mailbox.mails().len() == 2).await;
    let mails = postfix.mailbox.mails();
    for mail in &mails {
        let subject = mail.subject();
        assert!(subject.contains("FIRING") && subject.contains("HighCpu"), "{subject}");
        let text = mail.text();
        assert!(text.contains("Überlast bei 97 %\n  .hidden\n") && text.contains(&"x".repeat(900)), "{text}");
        assert_eq!(mail.recipients, ["oncall@example.com"]);
        assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
        assert_eq!(mail.header("Date").as_deref(), Some("Wed, 18 Nov 2026 15:46:40 +0000"));
    }
    assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    assert!(mails[0].header("References").is_some_and(|thread| thread.ends_with("@example.com>")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_postfix_refuses_is_final_and_the_others_hear_it() {
    let Some(postfix) = Postfix::start(|_| String::new()).await else { return };
    let result = postfix.send(postfix.email(&["gone@example.com"])).await;
    assert!(
        matches!(&result, DeliveryResult::Permanent { why } if why.contains("gone@example.com") && why.contains("554")),
        "{result:?}"
    );
    let result = postfix.send(postfix.email(&["gone@example.com", "ana@example.com"])).await;
    assert_eq!(result, DeliveryResult::Delivered, "{}", postfix.log());
    until("a mail", || !postfix.mailbox.mails().is_empty()).await;
    assert_eq!(postfix.mailbox.mails()[0].recipients, ["ana@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_holds_the_server_to_the_own_authority() {
    let (authority, certificate, key) = certificates();
    let (other_authority, _, _) = certificates();
    let settings = |dir: &Path| {
        fs::write(dir.join("other.pem"), &other_authority).expect("written");
        write_certificates(dir, &authority, &certificate, &key)
    };
    let Some(postfix) = Postfix::start(settings).await else { return };
    let with = |tls: SmtpTls, ca_file: Option<&str>| {
        let mut def = postfix.email(&["oncall@example.com"]);
        def.smtp.tls = tls;
        def.smtp.ca_file = ca_file.map(PathBuf::from);
        def
    };
    // the server wants encryption and says so
    let result = postfix.send(with(SmtpTls::None, None)).await;
    assert!(matches!(&result, DeliveryResult::Permanent { why } if why.contains("STARTTLS")), "{result:?}");
    for stranger in [Some("other.pem"), None] {
        let result = postfix.send(with(SmtpTls::Starttls, stranger)).await;
        assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("certificate")), "{result:?}");
    }
    assert!(postfix.mailbox.mails().is_empty());
    // the server takes nothing in the clear: what arrives came over TLS
    let result = postfix.send(with(SmtpTls::Starttls, Some("ca.pem"))).await;
    assert_eq!(result, DeliveryResult::Delivered, "{}", postfix.log());
    until("a mail", || !postfix.mailbox.mails().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_encrypted_from_the_start() {
    let (authority, certificate, key) = certificates();
    let settings =
        |dir: &Path| write_certificates(dir, &authority, &certificate, &key) + "smtpd_tls_wrappermode = yes\n";
    let Some(postfix) = Postfix::start(settings).await else { return };
    let mut def = postfix.email(&["oncall@example.com"]);
    def.smtp.tls = SmtpTls::Tls;
    def.smtp.ca_file = Some("ca.pem".into());
    assert_eq!(postfix.send(def).await, DeliveryResult::Delivered, "{}", postfix.log());
    until("a mail", || !postfix.mailbox.mails().is_empty()).await;
}
