//! What people and other rules hear about ladders and runs.

use super::guards::labels_of;
use super::state::{Cause, Judging, Run};
use super::{MAX_DEPTH, Remedy, views};
use crate::guard::Refusal;
use crate::run::{Verdict, Verified};
use crate::turn::{NewsAbout, NewsFor, Turn, Word};
use selfheal_contract::effect::Effect;
use selfheal_contract::notification::{Asked, FlushReason, News, NewsKind};
use selfheal_contract::view::{ApprovalView, Change};
use selfheal_messages::ToDetect;
use selfheal_model::units::format_duration;
use selfheal_model::{
    AlertKey, DeploymentId, Event, EventKind, FailureClass, Labels, Map, Origin, ReceiverName, RunId, SignalName,
    StepId, Value, Verb,
};

/// Deployments that news of a rung names.
const NAMED_IN_NEWS: usize = 10;

impl Remedy {
    /// Shows a run as it is now, and lets its alert follow.
    pub(super) fn show(&self, turn: &mut Turn<'_>, id: &RunId) {
        let root = self.root_of(id);
        let Some(run) = self.runs.get(&root) else { return };
        turn.show(Change::Run(Box::new(self.view(run))));
        if let Some(key) = run.alert() {
            turn.say(Word::RemediationMoved(key.clone()));
        }
    }

    fn news_of(run: &Run, turn: &Turn<'_>, kind: NewsKind, text: String) -> News {
        News {
            kind,
            at: turn.now,
            alert: run.alert().map(AlertKey::id),
            deployment: Some(run.deployment.clone()),
            run: Some(run.id.clone()),
            approval: None,
            text,
        }
    }

    /// About no alert, deployment or run.
    pub(super) fn news_at_large(turn: &Turn<'_>, kind: NewsKind, text: String) -> News {
        News { kind, at: turn.now, alert: None, deployment: None, run: None, approval: None, text }
    }

    fn tell(&self, turn: &mut Turn<'_>, id: &RunId, kind: NewsKind, reason: FlushReason, text: String) {
        let Some(run) = self.runs.get(id) else { return };
        let about = match &run.cause {
            Cause::Alert(key) => NewsAbout::Alert(key.clone()),
            Cause::Operator { .. } | Cause::Schedule(_) => NewsAbout::Labels(hand_labels(turn, run)),
        };
        let news = Remedy::news_of(run, turn, kind, text);
        turn.say(Word::News(NewsFor { about, news, reason }));
    }

    /// A playbook's own word, to its receiver.
    pub(super) fn tell_as_playbook(&self, turn: &mut Turn<'_>, id: &RunId, receiver: ReceiverName, text: String) {
        let Some(run) = self.runs.get(id) else { return };
        let news = Remedy::news_of(run, turn, NewsKind::Started, text);
        turn.say(Word::News(NewsFor { about: NewsAbout::Receiver(receiver), news, reason: FlushReason::Playbook }));
    }

    /// Somebody has to answer: whoever is named is asked, else whoever hears of the alert.
    pub(super) fn tell_approval(&self, turn: &mut Turn<'_>, view: &ApprovalView) {
        let Some(run) = self.runs.get(&view.run) else { return };
        let text = format!(
            "May selfheal {}? Answer by {}, or it counts as no: selfheal approve {id}, or selfheal deny {id}",
            view.what,
            view.expires_at,
            id = view.id
        );
        let mut news = Remedy::news_of(run, turn, NewsKind::Approval, text);
        news.approval = Some(Asked { id: view.id.clone(), expires_at: view.expires_at });
        let about = match (&view.ask, run.alert()) {
            (Some(receiver), _) => NewsAbout::Receiver(receiver.clone()),
            (None, Some(key)) => NewsAbout::Alert(key.clone()),
            (None, None) => NewsAbout::Labels(hand_labels(turn, run)),
        };
        turn.say(Word::News(NewsFor { about, news, reason: FlushReason::Urgent }));
    }

    pub(super) fn tell_started(&self, turn: &mut Turn<'_>, id: &RunId) {
        let Some(run) = self.runs.get(id).filter(|run| !is_upkeep(turn, run)) else { return };
        let text = match &run.observed {
            None => format!("{} on {} has begun", run.playbook.name, run.deployment),
            Some(observed) => format!(
                "{} on {} has begun, for show only: {}",
                run.playbook.name,
                run.deployment,
                Refusal::Observe(*observed)
            ),
        };
        self.tell(turn, id, NewsKind::Started, FlushReason::Changed, text);
    }

    /// The same refusal is told once per guard and episode.
    pub(super) fn tell_refused(&mut self, turn: &mut Turn<'_>, id: &RunId) {
        let Some(run) = self.runs.get_mut(id).filter(|run| !is_upkeep(turn, run)) else { return };
        let Some(refusal) = run.refusal.as_ref().filter(|refusal| refusal.is_told()) else { return };
        let guard = refusal.guard();
        let text = format!("{} on {} is refused by {guard}: {refusal}", run.playbook.name, run.deployment);
        let ladder = match &run.cause {
            Cause::Alert(key) => self.ladders.get_mut(key).map(|ladder| &mut ladder.told),
            Cause::Operator { .. } | Cause::Schedule(_) => Some(&mut run.told),
        };
        if ladder.is_some_and(|told| told.insert(guard)) {
            self.tell(turn, id, NewsKind::Refused, FlushReason::Changed, text);
        }
    }

    /// An alert that no run can be made for.
    pub(super) fn tell_alert_refused(&mut self, turn: &mut Turn<'_>, key: &AlertKey, refusal: &Refusal) {
        let text = format!("its ladder is refused by {}: {refusal}", refusal.guard());
        self.tell_about_alert(turn, key, NewsKind::Refused, FlushReason::Changed, text);
    }

    /// What came of a rung for several deployments.
    pub(super) fn tell_rung_judged(
        &self,
        turn: &mut Turn<'_>,
        key: &AlertKey,
        judging: Option<&Judging>,
        verified: Verified,
        why: &str,
    ) {
        let upkeep = turn.policy.rule_of(key).is_some_and(|rule| rule.routine);
        if upkeep && verified != Verified::NotKnown {
            return;
        }
        let of = judging.map_or_else(|| "a rung".to_owned(), what_ran);
        let (kind, reason, text) = match verified {
            Verified::Clear => (NewsKind::Cured, FlushReason::Changed, format!("{of} has cured {key}")),
            Verified::StillThere => {
                (NewsKind::NotCured, FlushReason::Changed, format!("{of} has not cured {key}: {why}"))
            }
            Verified::NotKnown => {
                let text = format!("whether {of} has cured {key} is not known: {why}");
                (NewsKind::Inconclusive, FlushReason::Urgent, text)
            }
        };
        self.tell_about_alert(turn, key, kind, reason, text);
    }

    fn tell_about_alert(&self, turn: &mut Turn<'_>, key: &AlertKey, kind: NewsKind, reason: FlushReason, text: String) {
        let news = News {
            kind,
            at: turn.now,
            alert: Some(key.id()),
            deployment: key.deployment(),
            run: None,
            approval: None,
            text,
        };
        turn.say(Word::News(NewsFor { about: NewsAbout::Alert(key.clone()), news, reason }));
    }

    pub(super) fn tell_gave_up(&self, turn: &mut Turn<'_>, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let waited = format_duration(turn.now.since(run.created_at));
        let reason = run.refusal.as_ref().map_or_else(
            || "nothing has allowed it yet".to_owned(),
            |refusal| format!("{}: {refusal}", refusal.guard()),
        );
        let text = format!(
            "{} on {} has been refused for {waited}, last by {reason}; it goes on asking while the alert fires",
            run.playbook.name, run.deployment
        );
        self.tell(turn, id, NewsKind::Refused, FlushReason::Urgent, text);
    }

    pub(super) fn tell_clean_up_failed(&self, turn: &mut Turn<'_>, id: &RunId, step: &StepId, message: &str) {
        let Some(run) = self.runs.get(id) else { return };
        let text = format!("cleaning up after {} on {}: step {step}: {message}", run.playbook.name, run.deployment);
        self.tell(turn, id, NewsKind::NotCured, FlushReason::Changed, text);
    }

    /// The end of a run, where people care.
    pub(super) fn tell_ended(&self, turn: &mut Turn<'_>, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get(id) else { return };
        let by_hand = run.alert().is_none();
        if is_upkeep(turn, run) && verdict != Verdict::Inconclusive && !run.course.failed() {
            return;
        }
        let (kind, reason) = match verdict {
            Verdict::Cured | Verdict::Eased => (NewsKind::Cured, FlushReason::Changed),
            Verdict::NotCured => (NewsKind::NotCured, FlushReason::Changed),
            // the policy has changed under a run that had not begun: nobody has to go on with anything
            Verdict::Cancelled if run.begun_at.is_none() && self.has_no_rung(turn, run) => return,
            // the ladder stops here: somebody has to go on
            Verdict::Inconclusive | Verdict::Denied | Verdict::Cancelled => {
                (NewsKind::Inconclusive, FlushReason::Urgent)
            }
            Verdict::Refused if by_hand => (NewsKind::Refused, FlushReason::Urgent),
            Verdict::Refused if run.observed.is_some() => (NewsKind::Refused, FlushReason::Changed),
            // told when it was refused; the others are counted nowhere
            Verdict::Refused | Verdict::WentAway | Verdict::Done => return,
        };
        let text = views::sentence(run);
        self.tell(turn, id, kind, reason, text);
    }

    fn has_no_rung(&self, turn: &Turn<'_>, run: &Run) -> bool {
        run.alert().is_some_and(|key| self.rung_of(&turn.policy, key).is_none())
    }

    /// The end of a ladder goes at once, with the whole story.
    pub(super) fn tell_exhausted(&self, turn: &mut Turn<'_>, key: &AlertKey) {
        let Some(ladder) = self.ladders.get(key) else { return };
        let tried = ladder.runs.iter().filter_map(|id| self.runs.get(id));
        let mut lines = vec![format!("No rung is left for {key}; a person is needed. What was tried:")];
        lines.extend(tried.enumerate().map(|(index, run)| format!("{}. {}", index + 1, views::sentence(run))));
        lines.extend(ladder.untried.iter().cloned());
        if lines.len() == 1 {
            lines.push("nothing: no rung could be tried".to_owned());
        }
        self.tell_about_alert(turn, key, NewsKind::Exhausted, FlushReason::Urgent, lines.join("\n"));
    }

    /// A word for one receiver, about nothing in particular.
    pub(super) fn tell_receiver(turn: &mut Turn<'_>, receiver: ReceiverName, text: String) {
        let news = Remedy::news_at_large(turn, NewsKind::Started, text);
        turn.say(Word::News(NewsFor { about: NewsAbout::Receiver(receiver), news, reason: FlushReason::Playbook }));
    }

    /// Something about selfheal itself, for everyone and at once, routed under this name.
    pub(super) fn tell_all(turn: &mut Turn<'_>, name: &str, text: String) {
        let labels: Labels = [("alertname", name), ("severity", "warning")].into_iter().collect();
        let news = Remedy::news_at_large(turn, NewsKind::Refused, text);
        turn.say(Word::News(NewsFor { about: NewsAbout::Labels(labels), news, reason: FlushReason::Urgent }));
    }

    /// An event of a run's own, taken in like any other.
    ///
    /// # Errors
    /// The chain of runs that set each other off is too long already.
    pub(super) fn emit(&mut self, turn: &mut Turn<'_>, id: &RunId, name: &str, fields: Map) -> Result<(), String> {
        let Some(run) = self.runs.get(id) else { return Ok(()) };
        let event = Event {
            deployment: run.deployment.clone(),
            time: turn.now,
            kind: EventKind::Signal { name: SignalName::new(name), fields },
            origin: Origin::default(),
        };
        self.send(turn, id, event)
    }

    /// An event a verb found out.
    pub(super) fn pass_on(&mut self, turn: &mut Turn<'_>, id: &RunId, event: Event) {
        if let Err(why) = self.send(turn, id, event) {
            self.note(id, why);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>, id: &RunId, mut event: Event) -> Result<(), String> {
        let Some(run) = self.runs.get(id) else { return Ok(()) };
        if run.depth > MAX_DEPTH {
            return Err(format!("nothing is signalled: {MAX_DEPTH} runs in a row have set each other off"));
        }
        event.origin = Origin::Run { run: id.clone(), rule: run.alert().map(|key| key.rule.clone()), depth: run.depth };
        let chain = &mut self.places.at(&event.deployment).chain;
        let depth = run.depth.max(chain.filter(|(at, _)| *at == turn.now).map_or(0, |(_, depth)| depth));
        *chain = Some((turn.now, depth));
        turn.send(ToDetect::Emit(event.clone()));
        turn.effects.push(Effect::Emitted(event));
        Ok(())
    }

    /// A signal of the engine's own about a run, with its usual fields.
    pub(super) fn emit_about(
        &mut self,
        turn: &mut Turn<'_>,
        id: &RunId,
        name: &str,
        class: Option<FailureClass>,
        message: &str,
    ) {
        let Some(run) = self.runs.get(id) else { return };
        let step = run.steps.last().map(|step| step.id.clone()).unwrap_or_default();
        let message = if message.is_empty() { run.why.join("; ") } else { message.to_owned() };
        let fields = fields(run, &step, class, &message);
        if let Err(why) = self.emit(turn, id, name, fields) {
            self.note(id, why);
        }
    }

    /// `VERB_failed`
    pub(super) fn emit_failed(
        &mut self,
        turn: &mut Turn<'_>,
        id: &RunId,
        verb: &Verb,
        step: &StepId,
        class: Option<FailureClass>,
        message: &str,
    ) {
        let Some(run) = self.runs.get(id) else { return };
        let fields = fields(run, step.as_str(), class, message);
        if let Err(why) = self.emit(turn, id, &format!("{verb}_failed"), fields) {
            self.note(id, why);
        }
    }
}

/// Of upkeep nobody is told unless a run fails, is in doubt, or is refused for long.
/// `restart on cart, checkout`
fn what_ran(judging: &Judging) -> String {
    let names: Vec<&str> = judging.acted_on.iter().take(NAMED_IN_NEWS).map(DeploymentId::as_str).collect();
    let more = match judging.acted_on.len().saturating_sub(NAMED_IN_NEWS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} on {}{more}", judging.playbook, names.join(", "))
}

fn is_upkeep(turn: &Turn<'_>, run: &Run) -> bool {
    run.alert().and_then(|key| turn.policy.rule_of(key)).is_some_and(|rule| rule.routine)
}

fn fields(run: &Run, step: &str, class: Option<FailureClass>, message: &str) -> Map {
    let class = class.map_or(Value::Null, |class| Value::from(class.as_str()));
    Map::from_iter([
        ("playbook".to_owned(), Value::from(run.playbook.name.as_str())),
        ("step".to_owned(), Value::from(step)),
        ("class".to_owned(), class),
        ("message".to_owned(), Value::from(message)),
        ("run".to_owned(), Value::from(run.id.as_str())),
    ])
}

/// Labels a run asked for by hand is routed by.
fn hand_labels(turn: &Turn<'_>, run: &Run) -> Labels {
    let own = turn.policy.deployments.get(&run.deployment).map(|deployment| labels_of(deployment)).unwrap_or_default();
    let name = if matches!(run.cause, Cause::Schedule(_)) { "ScheduledRun" } else { "RunByHand" };
    own.with_label("alertname", name)
        .with_label("deployment", run.deployment.as_str())
        .with_label("playbook", run.playbook.name.as_str())
        .with_label("severity", "warning")
}
