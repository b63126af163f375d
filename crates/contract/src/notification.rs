//! A notification's frozen facts. Its text is a pure function of them, the same bytes on every attempt.

use serde::Serialize;
use smol_str::SmolStr;

use selfheal_model::{
    ApprovalId, DeploymentId, GroupId, Labels, PlaybookName, ReceiverName, RunId, Severity, Timestamp,
};

/// The kinds of word a receiver may ask for (`send:`), in order of urgency within a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
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
    /// Who is sick and not told of because something this message is about is out.
    #[serde(default)]
    pub dependents: Vec<DependentsFacts>,
    pub news: Vec<News>,
    /// How many flushes are merged in this message because of the receiver's rate; 1 is none.
    pub merged: u32,
    /// After a commit that could not be written: this may repeat an earlier message.
    pub possible_repeat: bool,
    /// selfheal did not watch for a while since the last message.
    pub unwatched: Option<Unwatched>,
    pub external_url: String,
}

/// A span in which selfheal saw nothing: what happened then nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Unwatched {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Unwatched {
    /// Of several, all of it.
    pub fn with(self, other: Option<Unwatched>) -> Unwatched {
        match other {
            Some(other) => Unwatched { from: self.from.min(other.from), to: self.to.max(other.to) },
            None => self,
        }
    }
}

impl Notification {
    /// A message lists at most so many alerts: mail clients and chat APIs refuse more.
    pub const MAX_ALERTS: usize = 100;

    /// One line for a mail's subject or a chat message's head: status, names, deployments, and what is new.
    /// A pure function of the frozen facts; one line whatever the texts hold.
    /// Of its alerts and its news.
    pub fn deployments(&self) -> impl Iterator<Item = &DeploymentId> {
        let of_alerts = self.alerts.iter().filter_map(|alert| alert.deployment.as_ref());
        of_alerts.chain(self.news.iter().filter_map(|news| news.deployment.as_ref()))
    }

    pub fn subject(&self) -> String {
        let firing: Vec<&AlertFacts> = self.alerts.iter().filter(|alert| alert.status == AlertStatus::Firing).collect();
        let line = if !firing.is_empty() && self.status == GroupStatus::Firing {
            let more = if firing.len() == self.alerts.len() { self.truncated } else { 0 };
            let head = format!("[FIRING:{}] {} ({})", firing.len() + more, subject_of(&firing), self.severity);
            self.with_news(head)
        } else if !self.alerts.is_empty() {
            self.subject_of_the_end()
        } else {
            self.subject_of_news()
        };
        one_line(&line)
    }

    fn subject_of_the_end(&self) -> String {
        let all: Vec<&AlertFacts> = self.alerts.iter().collect();
        let about = subject_of(&all);
        let only = |status: AlertStatus| all.iter().all(|alert| alert.status == status);
        let cured = self.news.iter().any(|news| news.kind == NewsKind::Cured);
        // nobody was told that it fired: one word about all of it
        let unheard = all.iter().all(|alert| alert.change != AlertChangeWord::Ended);
        if only(AlertStatus::Moved) {
            format!("[MOVED] {about}")
        } else if only(AlertStatus::NoLongerWatched) {
            format!("[ENDED] {about}: no longer watched")
        } else if cured && unheard {
            format!("[REPAIRED] {about}")
        } else {
            self.with_news(format!("[RESOLVED] {about}"))
        }
    }

    fn subject_of_news(&self) -> String {
        let Some(first) = self.news.iter().max_by_key(|news| news.kind) else {
            return format!("[{}] {}", self.status.as_str().to_uppercase(), self.group_labels);
        };
        let is_of_selfheal = first.alert.is_none() && first.deployment.is_none() && first.run.is_none();
        let head = if is_of_selfheal { "selfheal" } else { first.kind.as_str() };
        let head = head.replace('_', " ").to_uppercase();
        let text = first.text.lines().next().unwrap_or_default();
        match &first.deployment {
            Some(deployment) if !text.contains(deployment.as_str()) => format!("[{head}] {deployment}: {text}"),
            _ => format!("[{head}] {text}"),
        }
    }

    /// The gravest piece of news behind the head.
    fn with_news(&self, head: String) -> String {
        match self.news.iter().map(|news| news.kind).max() {
            Some(NewsKind::Cured) => format!("{head}: repaired"),
            Some(kind) => format!("{head}: {}", kind.as_str().replace('_', " ")),
            None => head,
        }
    }
}

/// A subject names at most so many alerts and deployments each.
const MAX_SUBJECT_NAMES: usize = 3;
/// Mail servers fold or refuse longer headers; a chat shows no more either.
const MAX_SUBJECT_CHARS: usize = 200;

/// `HighCpu checkout`, in order of first mention.
fn subject_of(alerts: &[&AlertFacts]) -> String {
    let names = some_of(alerts.iter().map(|alert| alert.alert.as_str()));
    let deployments = some_of(alerts.iter().filter_map(|alert| alert.deployment.as_ref().map(DeploymentId::as_str)));
    if deployments.is_empty() { names } else { format!("{names} {deployments}") }
}

fn some_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for word in words {
        if !distinct.contains(&word) {
            distinct.push(word);
        }
    }
    let shown = distinct[..distinct.len().min(MAX_SUBJECT_NAMES)].join(", ");
    match distinct.len().saturating_sub(MAX_SUBJECT_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SUBJECT_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStatus {
    Firing,
    Resolved,
}

impl GroupStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            GroupStatus::Firing => "firing",
            GroupStatus::Resolved => "resolved",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
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
    /// Of one from elsewhere: where whoever raised it shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
    pub remediation: Option<RemediationFacts>,
    /// What it depends on and is out: it is not repaired before that is back.
    #[serde(default)]
    pub dependency: Option<RootFacts>,
}

/// A deployment whose outage explains an alert of one that depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RootFacts {
    pub deployment: DeploymentId,
    /// `is unhealthy`
    pub why: String,
    pub since: Timestamp,
}

/// The sick deployments of which nobody is told because one that they depend on is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct DependentsFacts {
    pub root: DeploymentId,
    /// In order of id, at most [`DependentsFacts::MAX_NAMED`].
    pub sick: Vec<DeploymentId>,
    /// Those beyond, counted only.
    pub more: usize,
}

impl DependentsFacts {
    /// People look at the root; more names would bury it.
    pub const MAX_NAMED: usize = 20;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    Firing,
    Resolved,
    /// Its rule or scope is gone: "no longer watched", never "resolved".
    NoLongerWatched,
    /// Routed elsewhere since its severity or labels changed.
    Moved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertChangeWord {
    New,
    Same,
    SeverityChanged,
    FiringAgain,
    Ended,
}

/// Where the repair of an alert stands.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct RemediationFacts {
    /// `idle working waiting resting exhausted stopped`, as the API says it.
    pub state: SmolStr,
    pub rung: usize,
    pub rungs: usize,
    pub runs: Vec<RunFacts>,
}

/// One run, in a sentence's worth.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct News {
    pub kind: NewsKind,
    pub at: Timestamp,
    /// The alert it is about, if any, as its short id.
    pub alert: Option<SmolStr>,
    pub deployment: Option<DeploymentId>,
    pub run: Option<RunId>,
    /// The question that waits for an answer.
    pub approval: Option<Asked>,
    /// A sentence or a story, for people.
    pub text: String,
}

/// A question that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Asked {
    pub id: ApprovalId,
    /// Unanswered by then is a no.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(alert: &str, deployment: &str, status: AlertStatus, change: AlertChangeWord) -> AlertFacts {
        AlertFacts {
            id: SmolStr::new("0"),
            alert: alert.to_owned(),
            deployment: Some(DeploymentId::from(deployment)),
            labels: Labels::default(),
            summary: String::new(),
            annotations: Labels::default(),
            severity: Severity::Critical,
            status,
            change,
            value: None,
            started_at: Timestamp::MIN,
            fired_at: Timestamp::MIN,
            ended_at: None,
            relapse: 0,
            without_data: false,
            generator_url: String::new(),
            remediation: None,
            dependency: None,
        }
    }

    fn news(kind: NewsKind, text: &str) -> News {
        News {
            kind,
            at: Timestamp::MIN,
            alert: None,
            deployment: Some("shop".into()),
            run: None,
            approval: None,
            text: text.to_owned(),
        }
    }

    fn message(status: GroupStatus, alerts: Vec<AlertFacts>, news: Vec<News>) -> Notification {
        Notification {
            receiver: "oncall".into(),
            group: "0".into(),
            group_labels: Labels::default(),
            at: Timestamp::MIN,
            flush: 1,
            thread_started: Timestamp::MIN,
            status,
            reason: FlushReason::New,
            severity: Severity::Critical,
            alerts,
            truncated: 0,
            dependents: vec![],
            news,
            merged: 1,
            possible_repeat: false,
            unwatched: None,
            external_url: String::new(),
        }
    }

    #[test]
    fn a_subject_says_status_names_and_what_is_new() {
        use AlertChangeWord::{Ended, New, Same};
        let firing = |name, on| fact(name, on, AlertStatus::Firing, New);
        for (message, expected) in [
            (
                message(GroupStatus::Firing, vec![firing("HighCpu", "shop"), firing("Slow", "shop")], vec![]),
                "[FIRING:2] HighCpu, Slow shop (critical)",
            ),
            (
                message(GroupStatus::Firing, vec![firing("HighCpu", "shop")], vec![news(NewsKind::NotCured, "x")]),
                "[FIRING:1] HighCpu shop (critical): not cured",
            ),
            (
                message(GroupStatus::Resolved, vec![fact("HighCpu", "shop", AlertStatus::Resolved, Ended)], vec![]),
                "[RESOLVED] HighCpu shop",
            ),
            (
                message(
                    GroupStatus::Resolved,
                    vec![fact("HighCpu", "shop", AlertStatus::Resolved, Same)],
                    vec![news(NewsKind::Cured, "x")],
                ),
                "[REPAIRED] HighCpu shop",
            ),
            (
                message(GroupStatus::Resolved, vec![fact("HighCpu", "shop", AlertStatus::Moved, Ended)], vec![]),
                "[MOVED] HighCpu shop",
            ),
            (
                message(GroupStatus::Firing, vec![], vec![news(NewsKind::Inconclusive, "nobody knows\nmore")]),
                "[INCONCLUSIVE] shop: nobody knows",
            ),
        ] {
            assert_eq!(message.subject(), expected);
        }
    }

    #[test]
    fn a_subject_is_one_bounded_line_whatever_the_names() {
        let long = format!("Bad\r\nBcc: x {}", "y".repeat(500));
        let subject = message(
            GroupStatus::Firing,
            (0..5).map(|n| fact(&format!("{n}{long}"), "shop", AlertStatus::Firing, AlertChangeWord::New)).collect(),
            vec![],
        )
        .subject();
        assert!(!subject.contains(['\r', '\n']), "{subject}");
        assert!(subject.chars().count() <= MAX_SUBJECT_CHARS + 1, "{subject}");
    }
}
