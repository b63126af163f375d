//! One turn of the judging half: what its parts say to each other, to detect and to the world.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::queries::{Purpose, Request};
use selfheal_contract::BuiltInAlert;
use selfheal_contract::effect::Effect;
use selfheal_contract::notification::{FlushReason, News};
use selfheal_contract::view::Change;
use selfheal_messages::{Context, QueryKind, ToDetect, WatchId, WatchSubject};
use selfheal_model::{AlertKey, DeploymentId, Labels, ReceiverName, Severity, Timestamp};
use selfheal_policy::Policy;

/// Collects what a turn brings about.
pub struct Turn<'a> {
    pub now: Timestamp,
    pub policy: Arc<Policy>,
    pub effects: &'a mut Vec<Effect>,
    /// What the components want of detect, in order.
    pub requests: Vec<Request>,
    pub words: VecDeque<Word>,
}

impl<'a> Turn<'a> {
    pub fn new(now: Timestamp, policy: Arc<Policy>, effects: &'a mut Vec<Effect>) -> Self {
        Turn { now, policy, effects, requests: Vec::new(), words: VecDeque::new() }
    }

    /// Asks detect; the answer comes later, to whoever has this purpose.
    pub fn query(&mut self, purpose: Purpose, context: Context, kind: QueryKind) {
        self.requests.push(Request::Query { purpose, context, kind });
    }

    /// Lets detect report a condition until [`Turn::unwatch`].
    pub fn watch(&mut self, id: WatchId, context: Context, subject: WatchSubject) {
        self.requests.push(Request::Watch { id, context, subject });
    }

    pub fn unwatch(&mut self, id: WatchId) {
        self.requests.push(Request::Unwatch(id));
    }

    /// Sends detect a message that needs no answer.
    pub fn send(&mut self, message: ToDetect) {
        self.requests.push(Request::Send(message));
    }

    pub fn show(&mut self, change: Change) {
        self.effects.push(Effect::Show(change));
    }

    pub fn say(&mut self, word: Word) {
        self.words.push_back(word);
    }
}

/// From one part of judge to those after it.
#[derive(Clone, Debug)]
pub enum Word {
    Alert(AlertChange),
    News(NewsFor),
    /// A built-in alert about runs.
    Said(Said),
    /// The ladder or a run of this alert moved: its view and held-back messages follow.
    RemediationMoved(AlertKey),
    /// What holds this alert back may be something else now.
    HeldChanged(AlertKey),
    /// A deployment that others depend on is out, or is back.
    OutageMoved(DeploymentId),
    /// A playbook's step does not want people told of its alert for a while.
    SilenceForRepair {
        key: AlertKey,
        span: Duration,
        by: String,
    },
}

/// What the runs say of themselves as a built-in alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub name: BuiltInAlert,
    pub scope: Labels,
    /// `None`: it is over.
    pub summary: Option<String>,
}

/// What happened to an alert. Never said of shadow alerts: they exist for views and `explain` only.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    pub key: AlertKey,
    pub kind: AlertChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AlertChangeKind {
    /// Firing for the first time in an episode.
    Fired,
    /// Firing again within the episode's cooldown.
    Relapsed,
    SeverityChanged {
        from: Severity,
        to: Severity,
    },
    /// Its labels changed (a policy edit), so it may be routed elsewhere.
    Relabelled,
    /// Firing, and its condition went from data to none, or back.
    DataLost,
    DataBack,
    Resolved,
    /// Resolved and the cooldown over: the next firing is a new episode.
    EpisodeOver,
    /// Its rule or scope is gone: "no longer watched".
    Ended,
}

/// Word about a remediation on its way to people.
#[derive(Clone, Debug)]
pub struct NewsFor {
    pub about: NewsAbout,
    pub news: News,
    /// `Changed` joins the group's next message; `Urgent` goes at once.
    pub reason: FlushReason,
}

#[derive(Clone, Debug)]
pub enum NewsAbout {
    /// Routed as this alert is.
    Alert(AlertKey),
    /// Routed as an alert with these labels would be (a run asked for by hand, the kill switch).
    Labels(Labels),
    /// A playbook's `notify` step: to this receiver, whatever the routes say.
    Receiver(ReceiverName),
}
