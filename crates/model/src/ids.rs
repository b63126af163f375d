//! Names and identities. An id is a domain key: a later binary that folds the same inputs derives the same ids.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use super::labels::Labels;

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(SmolStr::new(text))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

name! {
    /// The thing watched and repaired.
    DeploymentId;
    /// A rule's unique name, shown as `alertname`.
    RuleName;
    PlaybookName;
    ReceiverName;
    AdapterName;
    CheckName;
    MetricName;
    SignalName;
    /// A step's `id` inside its playbook.
    StepId;
    /// An adapter's verb: `restart`, `scale`, …
    Verb;
    /// One execution of a playbook: `<deployment>-<nth run on it>`.
    RunId;
    /// A question to a person: `<run>.<nth question of it>`.
    ApprovalId;
    /// One attempt of one step: `<run>/<step>/<attempt>`.
    StepAttemptId;
    /// One notification to one notifier: `<group>/<receiver>/<notifier>/<instant>.<serial>`, the same on every attempt.
    DeliveryId;
    /// A group of alerts that go out in one notification.
    GroupId;
}

impl RunId {
    pub fn of(deployment: &DeploymentId, ordinal: u64) -> Self {
        RunId(format_smolstr!("{deployment}-{ordinal}"))
    }
}

impl ApprovalId {
    pub fn of(run: &RunId, ordinal: u32) -> Self {
        ApprovalId(format_smolstr!("{run}.{ordinal}"))
    }
}

impl StepAttemptId {
    pub fn of(run: &RunId, step: &str, attempt: u32) -> Self {
        StepAttemptId(format_smolstr!("{run}/{step}/{attempt}"))
    }

    /// The run that has the lease: parts of a step are numbered below it.
    pub fn whole_run(&self) -> &str {
        self.as_str().split('/').next().unwrap_or_default()
    }

    /// Run, step and attempt.
    pub fn parts(&self) -> Option<(&str, &str, &str)> {
        let mut parts = self.as_str().rsplitn(3, '/');
        let (attempt, step) = (parts.next()?, parts.next()?);
        Some((parts.next()?, step, attempt))
    }
}

/// Whose selfheal's own series are, and what a source says of itself where no deployment is named.
pub const OWN_DEPLOYMENT: &str = "selfheal";
/// What an alert is called, among its labels.
pub const ALERTNAME: &str = "alertname";

/// What an alert is, whatever its state: its rule and its scope labels. Severity and texts are no part of it. An alert from
/// elsewhere is all its labels, and no rule here answers for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    pub rule: RuleName,
    /// The labels named by the rule's `per`, e.g. `deployment="checkout"`.
    pub scope: Labels,
}

impl AlertKey {
    /// Of an alert that another system raised.
    pub fn posted(labels: Labels) -> AlertKey {
        AlertKey { rule: labels.get(ALERTNAME).unwrap_or_default().into(), scope: labels }
    }

    /// Raised elsewhere: a rule's scope never names its alert.
    pub fn is_posted(&self) -> bool {
        self.scope.get(ALERTNAME).is_some()
    }

    /// A short stable id for URLs, the command line and webhooks: 16 hex digits of a hash of rule and scope.
    pub fn id(&self) -> SmolStr {
        format_smolstr!(
            "{:016x}",
            fingerprint(
                [self.rule.as_str()].into_iter().chain(self.scope.iter().flat_map(|(name, value)| [name, value]),)
            )
        )
    }

    /// The deployment of the scope, where it has one.
    pub fn deployment(&self) -> Option<DeploymentId> {
        self.scope.get("deployment").map(DeploymentId::from)
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rule, self.scope)
    }
}

impl fmt::Debug for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// FNV-1a over the parts, each closed by a byte that no UTF-8 text holds, so that ("ab","c") and ("a","bc") differ.
/// For identities and jitter, never for security.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.as_bytes().iter().copied().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

/// A position in a policy file, for diagnostics and for `explain`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRef {
    pub file: Arc<str>,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
