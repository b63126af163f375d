//! A deployment as the policy lists it, and what an adapter last saw of it.

// plain addresses: what can be done with them is the edges'
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::health::Confidence;
use super::ids::{AdapterName, CheckName, DeploymentId, SourceRef};
use super::labels::{Labels, Selector};
use super::secret::Secret;
use super::{Map, Value};

/// The thing watched and repaired.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub id: DeploymentId,
    /// `None`: watched only; every action on it is refused (`empty_target`).
    pub adapter: Option<AdapterName>,
    /// As written; the label `deployment` is added where labels are matched.
    pub labels: Labels,
    /// All of these exist and form no cycle.
    pub depends_on: Vec<Dependency>,
    /// The adapter's own fields, checked against its [`AdapterSpec`](super::adapter::AdapterSpec). Durations, sizes
    /// and port ranges stay texts; secret fields stay as written.
    pub target: Map,
    pub checks: Vec<Check>,
    pub healthy_when: HealthyWhen,
    pub auth: Option<AuthDef>,
    /// `settings:` of the deployment, over the policy's key by key.
    pub settings: Map,
    pub source: Option<SourceRef>,
}

/// A deployment that another one cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub on: DeploymentId,
    /// It also counts as out while an alert on it that these take fires.
    pub when: Option<Selector>,
}

impl From<&str> for Dependency {
    fn from(on: &str) -> Self {
        Dependency { on: on.into(), when: None }
    }
}

/// How many replicas must be healthy for the deployment to be.
#[derive(Clone, Copy, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub enum HealthyWhen {
    #[default]
    All,
    Any,
    /// At least this part of them, 0 to 1.
    Ratio(f64),
}

/// An active check that selfheal runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: CheckName,
    pub kind: CheckKind,
    /// From the beginning of one run to the beginning of the next.
    pub every: Duration,
    /// For one try, all of it.
    pub timeout: Duration,
    pub connect_timeout: Option<Duration>,
    /// More tries inside one run before it counts as unhealthy.
    pub retries: u32,
    pub retry_delay: Duration,
    /// Equal raw verdicts in a row that turn the smoothed one. At least 1.
    pub failure_threshold: u32,
    pub success_threshold: u32,
    /// After a replica's start (or the deployment's first sight) failures do not count yet.
    pub start_period: Duration,
    /// A verdict that is less sure shows, and does not turn the smoothed one.
    pub min_confidence: Confidence,
}

/// What a check asks. Texts may hold `{{ port }}` and `{{ replica }}`; then the check runs for every replica.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    Http {
        url: String,
        method: String,
        headers: Vec<(String, String)>,
        body: Option<String>,
        /// Accepted status codes; empty: any 2xx.
        status: Vec<u16>,
        /// A regular expression the body must match.
        body_matches: Option<String>,
        /// `false`: a 3xx is judged as the status it is.
        follow_redirects: bool,
        trust: Trust,
        reach: Reach,
    },
    Tcp {
        address: String,
        reach: Reach,
    },
    /// Healthy when the handshake ends and the certificate is trusted.
    Tls {
        address: String,
        /// Asked for and looked for in the certificate; `None`: the host of `address`.
        server_name: Option<String>,
        trust: Trust,
        reach: Reach,
    },
    /// Healthy when every name server gives answers, those expected among them.
    Dns {
        name: String,
        record: DnsRecord,
        expect: Vec<String>,
        /// Each is asked by itself; empty: the machine's, where the first that answers is enough.
        servers: Vec<SocketAddr>,
    },
    /// Exit 0 is healthy; `{status, confidence, message}` as JSON on stdout is read.
    Command {
        command: Vec<String>,
    },
}

/// How a peer is found by its name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reach {
    /// Connected to instead of resolving: an IP address, with a port where it is another one.
    pub address: Option<String>,
    /// Name servers to resolve by, in order; empty: as the machine does.
    pub servers: Vec<SocketAddr>,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those the machine trusts.
    #[default]
    Platform,
    /// Those signed by a certificate of this PEM file and by nobody else; a relative path is beside the policy.
    Authorities(PathBuf),
    /// Anybody's: shown as a warning.
    Anybody,
}

/// What a dns check asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DnsRecord {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Txt,
    Ns,
    Srv,
    Ptr,
    Soa,
}

impl DnsRecord {
    pub const ALL: [DnsRecord; 9] = [
        DnsRecord::A,
        DnsRecord::Aaaa,
        DnsRecord::Cname,
        DnsRecord::Mx,
        DnsRecord::Txt,
        DnsRecord::Ns,
        DnsRecord::Srv,
        DnsRecord::Ptr,
        DnsRecord::Soa,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DnsRecord::A => "A",
            DnsRecord::Aaaa => "AAAA",
            DnsRecord::Cname => "CNAME",
            DnsRecord::Mx => "MX",
            DnsRecord::Txt => "TXT",
            DnsRecord::Ns => "NS",
            DnsRecord::Srv => "SRV",
            DnsRecord::Ptr => "PTR",
            DnsRecord::Soa => "SOA",
        }
    }
}

impl CheckKind {
    /// The key that a check of this kind is written with.
    pub fn as_str(&self) -> &'static str {
        match self {
            CheckKind::Http { .. } => "http",
            CheckKind::Tcp { .. } => "tcp",
            CheckKind::Tls { .. } => "tls",
            CheckKind::Dns { .. } => "dns",
            CheckKind::Command { .. } => "command",
        }
    }
}

impl Check {
    /// Whether the check is run once for each replica.
    pub fn per_replica(&self) -> bool {
        let mentions = |text: &str| text.contains("{{");
        match &self.kind {
            CheckKind::Http { url, headers, body, reach, .. } => {
                mentions(url)
                    || reach.address.as_deref().is_some_and(mentions)
                    || body.as_deref().is_some_and(mentions)
                    || headers.iter().any(|(_, value)| mentions(value))
            }
            CheckKind::Tcp { address, reach } => mentions(address) || reach.address.as_deref().is_some_and(mentions),
            CheckKind::Tls { address, server_name, reach, .. } => {
                let others = [server_name.as_deref(), reach.address.as_deref()];
                mentions(address) || others.into_iter().flatten().any(mentions)
            }
            CheckKind::Dns { name, expect, .. } => mentions(name) || expect.iter().any(|text| mentions(text)),
            CheckKind::Command { command } => command.iter().any(|part| mentions(part)),
        }
    }
}

/// How a deployment's credential is fetched and delivered (SPEC §6.3).
#[derive(Clone, Debug, PartialEq)]
pub struct AuthDef {
    pub fetch: AuthFetch,
    /// Where the credential is written: atomically, mode 0600.
    pub deliver_to: PathBuf,
    pub format: AuthFormat,
    pub then: AuthThen,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AuthFetch {
    ClientCredentials {
        token_url: String,
        client_id: String,
        client_secret: Secret,
        scopes: Vec<String>,
    },
    /// `refresh_token` is the first one; a rotated one is kept in the data folder.
    RefreshToken {
        token_url: String,
        client_id: String,
        client_secret: Option<Secret>,
        refresh_token: Secret,
    },
    /// Stdout is the token, or JSON `{access_token, expires_in}`.
    Command {
        command: Vec<String>,
    },
    /// The answer is JSON `{access_token, expires_in}` or the token as text.
    Http {
        url: String,
        method: String,
        headers: Vec<(String, Secret)>,
    },
}

/// What the delivered file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuthFormat {
    /// The bare token.
    #[default]
    Token,
    /// `{"access_token": …, "expires_at": …}`
    Json,
}

/// What happens to the deployment after its credential changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuthThen {
    #[default]
    Nothing,
    /// SIGHUP to every replica (process adapter).
    Reload,
    Restart,
}

/// What an adapter observed: `replicas`, `ready_replicas`, `version`, … Sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(pub BTreeMap<SmolStr, Value>);

impl Facts {
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// One instance of a deployment, as its adapter sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub index: u32,
    pub port: Option<u16>,
    pub pid: Option<u32>,
    /// Running, as far as the adapter can tell.
    pub up: bool,
    /// Which start of this replica it is; a new one begins `start_period` and forgets old verdicts.
    pub incarnation: u64,
}
