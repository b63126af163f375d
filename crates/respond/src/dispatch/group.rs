//! One group of one receiver: what the receiver was told, what it has to be told, and when.
//!
//! What a message says is the difference between what the receiver was last told of each alert and what is so at the
//! flush. An alert that came and went in between was never told and leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smol_str::SmolStr;

use selfheal_contract::notification::{
    AlertChangeWord, AlertFacts, AlertStatus, FlushReason, GroupStatus, News, NewsKind, Notification, Unwatched,
};
use selfheal_model::{AlertKey, GroupId, Labels, ReceiverName, Severity, Timestamp};
use selfheal_policy::route::Route;

/// A group with nothing to say is remembered so long: late news of a repair joins the thread it belongs to.
const IDLE_KEPT: Duration = Duration::from_secs(10 * 60);

/// A group's news that waits or goes out in one message is at most so much; the oldest gives way and is counted.
const MAX_NEWS: usize = 100;

/// Below this a repeat would be a loop.
const MIN_REPEAT: Duration = Duration::from_secs(1);

/// A group is one receiver's: another receiver at the same place of the tree shares nothing with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct GroupKey {
    pub(super) id: GroupId,
    pub(super) receiver: ReceiverName,
}

/// A route's durations, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Pace {
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
    pub(super) wait_for_repair: Duration,
}

impl Pace {
    pub(super) fn of(route: &Route) -> Self {
        Pace {
            group_wait: route.group_wait,
            group_interval: route.group_interval,
            repeat_interval: route.repeat_interval,
            wait_for_repair: route.wait_for_repair,
        }
    }

    /// Of what no route leads to: at once.
    pub(super) const IMMEDIATE: Pace = Pace {
        group_wait: Duration::ZERO,
        group_interval: Duration::ZERO,
        repeat_interval: Duration::MAX,
        wait_for_repair: Duration::ZERO,
    };
}

/// Why "firing" is not said yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Hold {
    /// A ladder works on it (`wait_for_repair`).
    Repair { until: Timestamp },
    /// A relapse within the cooldown, of which this receiver knows.
    Cooldown { until: Timestamp },
}

impl Hold {
    fn until(self) -> Timestamp {
        match self {
            Hold::Repair { until } | Hold::Cooldown { until } => until,
        }
    }
}

/// One alert, as this receiver knows it and as it is.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Member {
    /// As last known; an alert that ended is asked about no more.
    pub(super) facts: AlertFacts,
    /// The severity the receiver last heard it fire with; `None`: it heard nothing yet.
    pub(super) told: Option<Severity>,
    pub(super) hold: Option<Hold>,
    /// The receiver heard it fire and end before, in this episode.
    pub(super) known: bool,
    /// A silence or an inhibition keeps its firing from being told. Its end is told to whoever heard it fire.
    #[serde(default)]
    pub(super) muted: bool,
    /// Somebody knows of it: it is not repeated.
    #[serde(default)]
    pub(super) acknowledged: bool,
}

impl Member {
    pub(super) fn is_firing(&self) -> bool {
        self.facts.status == AlertStatus::Firing
    }

    /// What there is to say of it, holds or not.
    fn change(&self) -> Option<AlertChangeWord> {
        match (self.told, self.is_firing()) {
            (None, true) if self.known => Some(AlertChangeWord::FiringAgain),
            (None, true) => Some(AlertChangeWord::New),
            (Some(told), true) if told != self.facts.severity => Some(AlertChangeWord::SeverityChanged),
            (Some(_), true) => Some(AlertChangeWord::Same),
            (Some(_), false) => Some(AlertChangeWord::Ended),
            (None, false) => None,
        }
    }

    /// Something changed that may be said now.
    fn has_word(&self) -> bool {
        self.hold.is_none() && !self.is_muted() && self.change().is_some_and(|change| change != AlertChangeWord::Same)
    }

    fn is_muted(&self) -> bool {
        self.muted && self.is_firing()
    }

    /// The receiver knows that it fires, and may be reminded of it.
    fn stands(&self) -> bool {
        self.is_firing() && self.told.is_some() && !self.muted
    }

    fn is_held(&self) -> bool {
        self.hold.is_some() && self.told.is_none() && self.is_firing()
    }
}

/// News that waits for its group's next message.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct WaitingNews {
    pub(super) news: News,
    pub(super) about: Option<AlertKey>,
    /// The facts of `about`, as last known: it may be no member (any more).
    pub(super) facts: Option<AlertFacts>,
}

/// Why a flush happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its time came.
    Due,
    Repeat,
    Urgent,
    Playbook,
}

/// Whom a message is for.
#[derive(Clone, Copy)]
pub(super) struct Audience<'a> {
    pub(super) wants: &'a BTreeSet<NewsKind>,
    /// Its route's time intervals let nothing out but what cannot wait.
    pub(super) closed: bool,
    pub(super) external_url: &'a str,
}

/// A group of one receiver.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Group {
    pub(super) labels: Labels,
    /// Its place in the routing tree; `None` for a playbook's own messages.
    pub(super) route: Option<SmolStr>,
    pub(super) pace: Pace,
    /// When the thread began: the first firing, or the first news.
    pub(super) began: Timestamp,
    /// Messages of this thread.
    pub(super) flush: u64,
    /// The last flush, also one that had nothing to say to this receiver. `group_interval` counts from it.
    pub(super) flushed_at: Option<Timestamp>,
    /// When all was last said. `repeat_interval` counts from it.
    pub(super) said_at: Option<Timestamp>,
    pub(super) members: BTreeMap<AlertKey, Member>,
    pub(super) news: Vec<WaitingNews>,
    /// News that gave way since the last message.
    crowded_out: usize,
    /// Not watched, and not told yet.
    unwatched: Option<Unwatched>,
    /// Its route's time intervals let nothing out until then, as of the last look.
    #[serde(default)]
    pub(super) closed_until: Option<Timestamp>,
}

/// What a flush came to.
pub(super) struct Flushed {
    /// `None`: the receiver asked for none of it.
    pub(super) notification: Option<Notification>,
    /// Members that are no more.
    pub(super) left: Vec<AlertKey>,
}

impl Group {
    pub(super) fn new(labels: Labels, route: Option<SmolStr>, pace: Pace, began: Timestamp) -> Self {
        Group {
            labels,
            route,
            pace,
            began,
            flush: 0,
            flushed_at: None,
            said_at: None,
            members: BTreeMap::new(),
            news: Vec::new(),
            crowded_out: 0,
            unwatched: None,
            closed_until: None,
        }
    }

    /// Nobody watched its alerts for a while: the next message says so, and who knows of a firing one gets one for it.
    pub(super) fn went_unwatched(&mut self, span: Unwatched) {
        if !self.is_idle() {
            self.unwatched = Some(span.with(self.unwatched));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.news.is_empty()
    }

    /// A group whose alerts all ended and were told begins a new thread with the next one.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        if self.began < now {
            self.flush = 0;
        }
        self.began = now;
        self.flushed_at = None;
        self.said_at = None;
    }

    pub(super) fn add_news(&mut self, news: WaitingNews) {
        self.news.push(news);
        if self.news.len() > MAX_NEWS {
            self.news.remove(0);
            self.crowded_out += 1;
        }
    }

    /// Something waits for its time here.
    pub(super) fn is_waiting(&self) -> bool {
        !self.news.is_empty() || self.members.values().any(|member| member.has_word() || member.is_held())
    }

    fn may_say(&self) -> bool {
        self.members.values().any(Member::has_word)
            || self.news.iter().any(|news| !self.is_held_back(news))
            || (self.unwatched.is_some() && self.members.values().any(Member::stands))
    }

    /// News of a repair whose alert is held back: both are one message, or neither is told.
    fn is_held_back(&self, news: &WaitingNews) -> bool {
        let about = news.about.as_ref().and_then(|key| self.members.get(key));
        about.is_some_and(|member| member.is_held() || member.is_muted())
    }

    /// The alert has ended and nobody here ever heard of it: what its repair came to is no news either.
    pub(super) fn forget_news_of(&mut self, alert: &AlertKey) {
        self.news.retain(|news| news.about.as_ref() != Some(alert));
    }

    /// When it next has something to do. An instant in the past means now.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.began + self.pace.group_wait;
        let slot = |wanted: Timestamp| match self.flushed_at {
            None => first.max(wanted),
            Some(last) => tick(last, self.pace.group_interval, wanted),
        };
        let word = self.may_say().then(|| slot(now));
        let held = self.members.values().filter(|member| member.is_held()).filter_map(|member| member.hold);
        let released = held.map(Hold::until).min().map(slot);
        let repeat = self.repeats().then(|| self.repeat_at());
        let forgotten = self.is_idle().then(|| self.flushed_at.unwrap_or(self.began) + IDLE_KEPT);
        let spoken = [word, released, repeat].into_iter().flatten().min();
        let spoken = spoken.map(|at| self.closed_until.map_or(at, |open| at.max(open)));
        [spoken, forgotten].into_iter().flatten().min()
    }

    fn repeat_at(&self) -> Timestamp {
        self.said_at.unwrap_or(self.began) + self.pace.repeat_interval.max(MIN_REPEAT)
    }

    fn repeats(&self) -> bool {
        self.members.values().any(|member| member.stands() && !member.acknowledged)
    }

    /// What its timer, due now, is for.
    pub(super) fn cause_at(&mut self, now: Timestamp) -> Option<Cause> {
        for member in self.members.values_mut() {
            if member.hold.is_some_and(|hold| hold.until() <= now) {
                member.hold = None;
            }
        }
        if self.may_say() {
            Some(Cause::Due)
        } else if self.repeats() && self.repeat_at() <= now {
            Some(Cause::Repeat)
        } else {
            None
        }
    }

    /// Says what there is to say to a receiver that `wants` these kinds, and remembers that it was said. While its route
    /// is `closed` that is the news that cannot wait, with the alert it is about, and nothing else.
    pub(super) fn flush(
        &mut self,
        now: Timestamp,
        key: &GroupKey,
        cause: Cause,
        Audience { wants, closed, external_url }: Audience<'_>,
    ) -> Flushed {
        let news = self.take_news(cause, closed);
        let about: BTreeSet<&AlertKey> = news.iter().filter_map(|news| news.about.as_ref()).collect();
        let mut listed = Vec::new();
        let mut has_word = !news.is_empty();
        for (alert, member) in &self.members {
            let subject = about.contains(alert);
            let passed_over = closed || member.is_muted() || (cause == Cause::Repeat && member.acknowledged);
            if passed_over && !subject {
                continue;
            }
            let Some(change) = listing(member, subject, wants) else { continue };
            has_word |= change != AlertChangeWord::Same;
            listed.push(AlertFacts { change, ..member.facts.clone() });
        }
        let unwatched = if closed { None } else { self.unwatched.take() };
        if cause == Cause::Repeat || unwatched.is_some() {
            has_word |= !listed.is_empty();
        }
        for news in &news {
            let member = news.about.as_ref().is_some_and(|alert| self.members.contains_key(alert));
            if let Some(facts) = news.facts.as_ref().filter(|facts| !member && is_new(&listed, facts)) {
                listed.push(facts.clone());
            }
        }
        let left = self.remember(&about, closed);
        if !closed {
            self.flushed_at = Some(now);
            self.said_at = Some(now);
        }
        if !has_word {
            return Flushed { notification: None, left };
        }
        let reason = self.reason(cause);
        self.flush += 1;
        let mut notification = Notification {
            receiver: key.receiver.clone(),
            group: key.id.clone(),
            group_labels: self.labels.clone(),
            at: now,
            flush: self.flush,
            thread_started: self.began,
            status: GroupStatus::Resolved,
            reason,
            severity: Severity::Info,
            alerts: listed,
            truncated: 0,
            dependents: Vec::new(),
            news: self.worded(news),
            merged: 1,
            possible_repeat: false,
            unwatched,
            external_url: external_url.to_owned(),
        };
        arrange(&mut notification);
        Flushed { notification: Some(notification), left }
    }

    /// Takes the news that may go now. What is urgent comes last and takes along what waits about the same alert.
    fn take_news(&mut self, cause: Cause, closed: bool) -> Vec<WaitingNews> {
        let mut all = std::mem::take(&mut self.news);
        let urgent = match cause {
            Cause::Urgent | Cause::Playbook => all.last().and_then(|news| news.about.clone()),
            Cause::Due | Cause::Repeat => None,
        };
        let first = if closed { all.pop() } else { None };
        let (held, mut free): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|news| (closed || self.is_held_back(news)) && (news.about != urgent || urgent.is_none()));
        self.news = held;
        free.extend(first);
        free
    }

    /// Every member that may be spoken of is told by now; those that ended are no more.
    fn remember(&mut self, about: &BTreeSet<&AlertKey>, closed: bool) -> Vec<AlertKey> {
        let mut left = Vec::new();
        for (alert, member) in &mut self.members {
            let subject = about.contains(alert);
            if closed && !subject {
                continue;
            }
            if !member.is_firing() {
                left.push(alert.clone());
            } else if (member.hold.is_none() && !member.muted) || subject {
                member.told = Some(member.facts.severity);
                member.hold = None;
            }
        }
        for alert in &left {
            self.members.remove(alert);
        }
        left
    }

    fn reason(&self, cause: Cause) -> FlushReason {
        match cause {
            Cause::Due if self.flush == 0 => FlushReason::New,
            Cause::Due => FlushReason::Changed,
            Cause::Repeat => FlushReason::Repeat,
            Cause::Urgent => FlushReason::Urgent,
            Cause::Playbook => FlushReason::Playbook,
        }
    }

    fn worded(&mut self, news: Vec<WaitingNews>) -> Vec<News> {
        let mut news: Vec<News> = news.into_iter().map(|waiting| waiting.news).collect();
        let crowded_out = std::mem::take(&mut self.crowded_out);
        if let Some(first) = news.first_mut().filter(|_| crowded_out > 0) {
            first.text = format!("({crowded_out} earlier pieces of news are left out) {}", first.text);
        }
        news
    }
}

/// How a member stands in a message for a receiver that `wants` these kinds; `None`: not at all.
fn listing(member: &Member, is_subject: bool, wants: &BTreeSet<NewsKind>) -> Option<AlertChangeWord> {
    if member.hold.is_some() && !is_subject {
        return None;
    }
    let change = member.change();
    let asked = match change {
        Some(AlertChangeWord::New | AlertChangeWord::FiringAgain) => wants.contains(&NewsKind::Firing),
        Some(AlertChangeWord::SeverityChanged) => wants.contains(&NewsKind::Severity),
        Some(AlertChangeWord::Ended) => wants.contains(&NewsKind::Resolved),
        Some(AlertChangeWord::Same) | None => false,
    };
    if asked {
        return change;
    }
    let stands = member.is_firing() && member.told.is_some() && wants.contains(&NewsKind::Firing);
    (stands || is_subject).then_some(AlertChangeWord::Same)
}

fn is_new(listed: &[AlertFacts], facts: &AlertFacts) -> bool {
    listed.iter().all(|other| other.id != facts.id)
}

/// Sorts, bounds and sums up what a message lists: what changed first, then what fires, the worst first.
pub(super) fn arrange(notification: &mut Notification) {
    notification.alerts.sort_by(|a, b| {
        let rank = |alert: &AlertFacts| {
            (
                alert.change == AlertChangeWord::Same,
                alert.status != AlertStatus::Firing,
                std::cmp::Reverse(alert.severity),
            )
        };
        rank(a).cmp(&rank(b)).then_with(|| (&a.alert, &a.labels).cmp(&(&b.alert, &b.labels)))
    });
    let alerts = &notification.alerts;
    let firing = alerts.iter().filter(|alert| alert.status == AlertStatus::Firing);
    let worst_firing = firing.map(|alert| alert.severity).max();
    let calls = |news: &News| {
        matches!(
            news.kind,
            NewsKind::Approval | NewsKind::NotCured | NewsKind::Inconclusive | NewsKind::Refused | NewsKind::Exhausted
        )
    };
    let asks_for_people = alerts.is_empty() && notification.news.iter().any(calls);
    notification.status = match worst_firing {
        Some(_) => GroupStatus::Firing,
        None if asks_for_people => GroupStatus::Firing,
        None => GroupStatus::Resolved,
    };
    let of_news = if asks_for_people { Severity::Warning } else { Severity::Info };
    notification.severity = worst_firing.or_else(|| alerts.iter().map(|alert| alert.severity).max()).unwrap_or(of_news);
    let beyond = notification.alerts.len().saturating_sub(Notification::MAX_ALERTS);
    notification.truncated += beyond;
    notification.alerts.truncate(Notification::MAX_ALERTS);
}

/// The first instant at or after `wanted` that is whole intervals from `last`, at least one.
fn tick(last: Timestamp, interval: Duration, wanted: Timestamp) -> Timestamp {
    let step = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    if step == 0 {
        return last.max(wanted);
    }
    let waited = u64::try_from(wanted.since(last).as_millis()).unwrap_or(u64::MAX);
    last + Duration::from_millis(waited.div_ceil(step).max(1).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_whole_intervals_from_the_last_flush() {
        let at = Timestamp::from_millis;
        let five = Duration::from_millis(5);
        for (wanted, expected) in [(0, 105), (100, 105), (101, 105), (105, 105), (106, 110), (131, 135)] {
            assert_eq!(tick(at(100), five, at(wanted)), at(expected), "{wanted}");
        }
        assert_eq!(tick(at(100), Duration::ZERO, at(103)), at(103));
        assert_eq!(tick(at(100), Duration::MAX, at(103)), Timestamp::MAX);
    }
}
