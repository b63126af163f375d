//! What came of it.

use super::World;
use selfheal_contract::notification::Notification;
use selfheal_contract::view::{AlertView, ApprovalView, RunView, SilenceView};

impl World {
    pub fn told(&self) -> String {
        self.transcript.join("\n")
    }

    /// What the engine says of why, for a rule and a deployment.
    pub fn explain(&self, rule: &str, deployment: &str) -> selfheal_contract::explanation::Explanation {
        let key = self.engine.scope_of(&rule.into(), &deployment.into()).expect("the rule is there");
        self.engine.explain(&key).expect("there is something to say")
    }

    pub fn alert(&self, name: &str) -> Option<&AlertView> {
        self.alerts.values().find(|view| view.alert == name)
    }

    pub fn alerts(&self) -> impl Iterator<Item = &AlertView> {
        self.alerts.values()
    }

    pub fn approvals(&self) -> impl Iterator<Item = &ApprovalView> {
        self.approvals.values()
    }

    pub fn silences(&self) -> impl Iterator<Item = &SilenceView> {
        self.silences.values()
    }

    pub fn is_firing(&self, name: &str) -> bool {
        use selfheal_contract::view::AlertStateWord::Firing;
        self.alerts.values().any(|view| view.alert == name && view.state == Firing)
    }

    /// In order of their start.
    pub fn runs(&self) -> Vec<&RunView> {
        let mut runs: Vec<_> = self.runs.values().collect();
        runs.sort_by_key(|run| (run.started_at, run.id.clone()));
        runs
    }

    /// Verdicts of ended runs, in order of their start: `restart cured`.
    pub fn verdicts(&self) -> Vec<String> {
        let ended = self.runs().into_iter().filter_map(|run| Some((run, run.verdict.as_ref()?)));
        ended.map(|(run, verdict)| format!("{} {verdict}", run.playbook)).collect()
    }

    /// Verbs that were called, in order; reads left out.
    pub fn acted(&self) -> Vec<String> {
        let acting = self.calls.iter().filter(|call| call.verb != "logs" && call.verb != "diagnose");
        acting.map(|call| format!("{} {}", call.deployment, call.verb)).collect()
    }

    /// Subjects of what this receiver got.
    pub fn mails(&self, receiver: &str) -> Vec<String> {
        self.sent.iter().filter(|one| one.receiver.as_str() == receiver).map(Notification::subject).collect()
    }

    /// Everything this receiver was told about remediation, in order.
    pub fn news(&self, receiver: &str) -> Vec<String> {
        let mine = self.sent.iter().filter(|one| one.receiver.as_str() == receiver);
        mine.flat_map(|one| one.news.iter().map(|news| format!("{}: {}", news.kind.as_str(), news.text))).collect()
    }
}
