//! A notification's frozen facts. Its text is a pure function of them, the same bytes on every attempt.

use serde::Serialize;
use smol_str::SmolStr;

use crate::model::{DeploymentId, GroupId, Labels, PlaybookName, ReceiverName, RunId, Severity, Timestamp};

/// The kinds of word a receiver may ask for (`send:`), in order of urgency within a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NewsKind {
    Firing,
    Resolved,
    Severity,
    Started,
    Approval,
    Cured,
    NotCured,
    Inconclusive,
    Refused,
    Exhausted,
}

impl NewsKind {
    pub const ALL: [NewsKind; 10] = [
        NewsKind::Firing,
        NewsKind::Resolved,
        NewsKind::Severity,
        NewsKind::Started,
        NewsKind::Approval,
        NewsKind::Cured,
        NewsKind::NotCured,
        NewsKind::Inconclusive,
        NewsKind::Refused,
        NewsKind::Exhausted,
    ];

    /// What a receiver hears without `send:`.
    pub const DEFAULT: [NewsKind; 7] = [
        NewsKind::Firing,
        NewsKind::Resolved,
        NewsKind::Severity,
        NewsKind::Approval,
        NewsKind::NotCured,
        NewsKind::Inconclusive,
        NewsKind::Exhausted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            NewsKind::Firing => "firing",
            NewsKind::Resolved => "resolved",
            NewsKind::Severity => "severity",
            NewsKind::Started => "started",
            NewsKind::Approval => "approval",
            NewsKind::Cured => "cured",
            NewsKind::NotCured => "not_cured",
            NewsKind::Inconclusive => "inconclusive",
            NewsKind::Refused => "refused",
            NewsKind::Exhausted => "exhausted",
        }
    }
}

/// Everything one message says. Built by the engine at the flush, never changed afterwards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notification {
    pub receiver: ReceiverName,
    pub group: GroupId,
    pub group_labels: Labels,
    /// When the group was flushed.
    pub at: Timestamp,
    /// The first flush of this group is 1. A mail's thread is the group's.
    pub flush: u64,
    /// When the group's current thread began (first firing of it).
    pub thread_started: Timestamp,
    pub status: GroupStatus,
    /// Why this message goes out.
    pub reason: FlushReason,
    /// The highest severity among firing alerts, or among all when none fires.
    pub severity: Severity,
    pub alerts: Vec<AlertFacts>,
    /// Alerts beyond [`Notification::MAX_ALERTS`], counted only.
    pub truncated: usize,
    pub news: Vec<News>,
    /// How many flushes are merged in this message because of the receiver's rate; 1 is none.
    pub merged: u32,
    /// After a commit that could not be written: this may repeat an earlier message.
    pub possible_repeat: bool,
    pub external_url: String,
}

impl Notification {
    /// A message lists at most so many alerts: mail clients and chat APIs refuse more.
    pub const MAX_ALERTS: usize = 100;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStatus {
    Firing,
    Resolved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlushReason {
    /// The group's first message.
    New,
    /// Alerts or their severity changed, or there is news.
    Changed,
    /// Nothing changed for `repeat_interval`.
    Repeat,
    /// Word that must not wait (the end of a ladder, inconclusive).
    Urgent,
    /// A playbook's own `notify` step.
    Playbook,
}

/// One alert inside a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertFacts {
    pub id: SmolStr,
    pub alert: String,
    pub deployment: Option<DeploymentId>,
    /// All its labels, `alertname` and `severity` included.
    pub labels: Labels,
    pub summary: String,
    pub annotations: Labels,
    pub severity: Severity,
    pub status: AlertStatus,
    /// Since the last message to this receiver.
    pub change: AlertChangeWord,
    pub value: Option<f64>,
    pub started_at: Timestamp,
    pub fired_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// 0 in the first firing of an episode.
    pub relapse: u32,
    /// The condition has no data at the moment.
    pub without_data: bool,
    pub remediation: Option<RemediationFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    Firing,
    Resolved,
    /// Its rule or scope is gone: "no longer watched", never "resolved".
    NoLongerWatched,
    /// Routed elsewhere since its severity or labels changed.
    Moved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertChangeWord {
    New,
    Same,
    SeverityChanged,
    FiringAgain,
    Ended,
}

/// Where the repair of an alert stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RemediationFacts {
    /// `idle working waiting resting exhausted stopped`, as the API says it.
    pub state: SmolStr,
    pub rung: usize,
    pub rungs: usize,
    pub runs: Vec<RunFacts>,
}

/// One run, in a sentence's worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunFacts {
    pub run: RunId,
    pub playbook: PlaybookName,
    pub deployment: DeploymentId,
    /// `cured`, `not_cured`, … or `running`.
    pub verdict: SmolStr,
    pub why: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// `restart: done in 2.1s`, one per step that ran.
    pub steps: Vec<String>,
}

/// One piece of word about a remediation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct News {
    pub kind: NewsKind,
    pub at: Timestamp,
    /// The alert it is about, if any, as its short id.
    pub alert: Option<SmolStr>,
    pub deployment: Option<DeploymentId>,
    pub run: Option<RunId>,
    /// A sentence or a story, for people.
    pub text: String,
}
