//! The content of a notification, which mail, chat and webhooks print each in their own format.
//!
//! Invariant: the content is a pure function of the notification's frozen facts, its size is bounded, and it keeps no
//! control character of an event's text, so that nothing a monitored program writes can act on a terminal or a mail
//! reader.

use serde::{Serialize, Serializer};

use selfheal_contract::notification::{
    AlertChangeWord, AlertFacts, AlertStatus, DependentsFacts, FlushReason, News, Notification, RemediationFacts,
    RootFacts, RunFacts, Unwatched,
};
use selfheal_model::units::format_duration;
use selfheal_model::{Severity, Timestamp};

/// Characters of a title, a label's value, a step of a run.
const MAX_SHORT: usize = 300;
/// Characters of a summary, an annotation's value, a run's reason.
const MAX_LONG: usize = 1_000;
/// Characters of one piece of news: the end of a ladder lists all its runs.
const MAX_NEWS: usize = 4_000;
/// Pieces of news in one message; the engine merges far fewer.
const MAX_NEWS_PIECES: usize = 50;
/// Annotations of one alert, runs of one ladder, steps of one run.
const MAX_LIST: usize = 20;
/// Bytes of details in one message. Alerts beyond it are named with their summary only: mail servers and chat APIs
/// refuse what is too large, and a refused notification tells nothing.
const MAX_DETAIL: usize = 64 * 1024;

/// The colour of a part of the content, where colours exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Critical,
    Warning,
    Info,
    /// The alert has resolved.
    Good,
    /// The alert ended without being resolved: no longer watched, or moved to another receiver.
    Neutral,
}

impl Tone {
    /// `#rrggbb`.
    pub fn colour(self) -> &'static str {
        match self {
            Tone::Critical => "#c62828",
            Tone::Warning => "#b26a00",
            Tone::Info => "#1565c0",
            Tone::Good => "#2e7d32",
            Tone::Neutral => "#616161",
        }
    }
}

/// Templates see the colour.
impl Serialize for Tone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.colour())
    }
}

/// Everything that one message says, in reading order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotificationContent {
    pub subject: String,
    pub tone: Tone,
    /// What the reader should know about the message itself: it may be a repeat, it is several in one.
    pub notices: Vec<String>,
    pub alerts: Vec<AlertContent>,
    /// How many alerts are left out; `None`: none are.
    pub more: Option<String>,
    pub news: Vec<NewsContent>,
    /// The address of the engine that sends the message, if it is a valid link.
    pub link: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertContent {
    /// `FIRING`, `RESOLVED`, `NO LONGER WATCHED`, `MOVED`.
    pub status: &'static str,
    pub tone: Tone,
    /// `HighCpu on checkout (critical)`.
    pub title: String,
    pub summary: String,
    /// Name and text of each fact: since, value, labels, annotations.
    pub facts: Vec<(String, String)>,
    pub repair: Option<RepairContent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairContent {
    pub state: String,
    pub runs: Vec<RunContent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunContent {
    /// `restart on checkout: cured after 12s`.
    pub head: String,
    pub steps: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewsContent {
    /// `2026-11-23 20:00:03 UTC, not cured`.
    pub head: String,
    pub text: String,
}

/// The whole content of a notification.
pub fn content(notification: &Notification) -> NotificationContent {
    let mut room = MAX_DETAIL;
    // those of a root stand with its first alert
    let mut dependents: Vec<&DependentsFacts> = notification.dependents.iter().collect();
    let alerts = notification
        .alerts
        .iter()
        .take(Notification::MAX_ALERTS)
        .map(|facts| {
            let is_firing = facts.status == AlertStatus::Firing;
            let own = |of: &&DependentsFacts| is_firing && facts.deployment.as_ref() == Some(&of.root);
            let place = dependents.iter().position(own);
            let alert = alert_content(facts, place.map(|place| dependents.remove(place)));
            let size = alert.size();
            if size <= room {
                room -= size;
                alert
            } else {
                alert.without_details()
            }
        })
        .collect();
    let untold = notification.truncated + notification.alerts.len().saturating_sub(Notification::MAX_ALERTS);
    NotificationContent {
        subject: short(&notification.subject()),
        tone: tone_of(notification),
        notices: notices(notification),
        alerts,
        more: (untold > 0).then(|| format!("and {untold} more {}", if untold == 1 { "alert" } else { "alerts" })),
        news: notification.news.iter().take(MAX_NEWS_PIECES).map(news_content).collect(),
        link: Some(notification.external_url.as_str()).filter(|url| is_link(url)).map(short),
    }
}

impl AlertContent {
    fn size(&self) -> usize {
        let facts: usize = self.facts.iter().map(|(what, text)| what.len() + text.len()).sum();
        let repair = self.repair.as_ref().map_or(0, |repair| {
            let runs = repair.runs.iter().map(|run| run.head.len() + run.steps.iter().map(String::len).sum::<usize>());
            repair.state.len() + runs.sum::<usize>()
        });
        facts + repair
    }

    fn without_details(mut self) -> Self {
        self.facts = vec![("details".to_owned(), "left out, this message is long enough".to_owned())];
        self.repair = None;
        self
    }
}

fn tone_of(notification: &Notification) -> Tone {
    let firing = notification.alerts.iter().any(|alert| alert.status == AlertStatus::Firing);
    if firing || notification.alerts.is_empty() {
        tone_of_severity(notification.severity)
    } else if notification.alerts.iter().any(|alert| alert.status == AlertStatus::Resolved) {
        Tone::Good
    } else {
        Tone::Neutral
    }
}

fn tone_of_severity(severity: Severity) -> Tone {
    match severity {
        Severity::Critical => Tone::Critical,
        Severity::Warning => Tone::Warning,
        Severity::Info => Tone::Info,
    }
}

fn notices(notification: &Notification) -> Vec<String> {
    let mut notices = Vec::new();
    if notification.possible_repeat {
        notices.push(
            "Possible repeat: the engine could not write down that it sent this, so you may have seen it before."
                .to_owned(),
        );
    }
    if let Some(Unwatched { from, to }) = notification.unwatched {
        let span = format_duration(to.since(from));
        notices.push(format!(
            "selfheal did not watch for {span}, from {from} to {to}: what happened in between is not known."
        ));
    }
    if notification.merged > 1 {
        notices.push(format!(
            "{} notifications are merged in this one, because the receiver's rate was reached.",
            notification.merged
        ));
    }
    if notification.reason == FlushReason::Repeat {
        notices.push("A reminder: nothing has changed since the last message.".to_owned());
    }
    notices
}

fn alert_content(facts: &AlertFacts, dependents: Option<&DependentsFacts>) -> AlertContent {
    let (status, tone) = match facts.status {
        AlertStatus::Firing => ("FIRING", tone_of_severity(facts.severity)),
        AlertStatus::Resolved => ("RESOLVED", Tone::Good),
        AlertStatus::NoLongerWatched => ("NO LONGER WATCHED", Tone::Neutral),
        AlertStatus::Moved => ("MOVED", Tone::Neutral),
    };
    let place = facts.deployment.as_ref().map(|deployment| format!(" on {deployment}")).unwrap_or_default();
    AlertContent {
        status,
        tone,
        title: short(&format!("{}{place} ({})", facts.alert, facts.severity)),
        summary: long(&facts.summary),
        facts: fact_lines(facts, dependents),
        repair: facts.remediation.as_ref().and_then(repair_content),
    }
}

fn fact_lines(facts: &AlertFacts, dependents: Option<&DependentsFacts>) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut line = |what: &str, text: String| lines.push((what.to_owned(), text));
    line("since", since(facts));
    if let Some(value) = facts.value {
        line("value", number(value));
    }
    let change = match facts.change {
        AlertChangeWord::SeverityChanged => Some(format!("its severity changed, it is now {}", facts.severity)),
        AlertChangeWord::FiringAgain if facts.relapse == 0 => Some("firing again".to_owned()),
        AlertChangeWord::FiringAgain => Some(format!("firing again, relapse {}", facts.relapse)),
        AlertChangeWord::New | AlertChangeWord::Same | AlertChangeWord::Ended => None,
    };
    match change {
        Some(change) => line("changed", change),
        None if facts.relapse > 0 => line("relapse", facts.relapse.to_string()),
        None => {}
    }
    if facts.without_data {
        line("note", "without data at the moment".to_owned());
    }
    match facts.status {
        AlertStatus::NoLongerWatched => {
            line("note", "no longer watched: its rule or scope is gone; nobody knows whether it is well".to_owned());
        }
        AlertStatus::Moved => line("note", "moved: it is told to another receiver from now on".to_owned()),
        AlertStatus::Firing | AlertStatus::Resolved => {}
    }
    if let Some(root) = &facts.dependency {
        let RootFacts { deployment, why, since } = root;
        let since = clock_time(*since);
        line(
            "depends on",
            long(&format!("{deployment}, which {why} since {since}; it is not repaired before that is back")),
        );
    }
    if let Some(DependentsFacts { sick, more, .. }) = dependents {
        let names = sick.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
        let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
        line("dependents", format!("sick because of it, and held back: {}{more}", long(&names)));
    }
    // what the title already says is not said again
    let own = |name: &str, value: &str| match name {
        "alertname" | "severity" => false,
        "deployment" => facts.deployment.as_ref().is_none_or(|id| id.as_str() != value),
        _ => true,
    };
    let labels: Vec<String> = facts
        .labels
        .iter()
        .filter(|(name, value)| own(name, value))
        .take(MAX_LIST)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !labels.is_empty() {
        line("labels", long(&labels.join(" ")));
    }
    for (name, value) in facts.annotations.iter().filter(|(name, _)| *name != "summary").take(MAX_LIST) {
        line(&short(name), long(value));
    }
    lines
}

/// `2026-11-23 20:00:00 UTC`, with how long it lasted where it ended.
fn since(facts: &AlertFacts) -> String {
    let began = clock_time(facts.started_at);
    match facts.ended_at {
        Some(ended) => {
            format!("{began} until {}, {}", clock_time(ended), rough_span(ended.since(facts.started_at)))
        }
        None if facts.fired_at > facts.started_at => format!("{began}, firing since {}", clock_time(facts.fired_at)),
        None => began,
    }
}

fn repair_content(facts: &RemediationFacts) -> Option<RepairContent> {
    if facts.rungs == 0 && facts.runs.is_empty() {
        return None;
    }
    let at = if facts.rungs == 0 {
        String::new()
    } else {
        format!(", playbook {} of {}", (facts.rung + 1).min(facts.rungs), facts.rungs)
    };
    let state = match facts.state.as_str() {
        "idle" => "nothing done yet",
        "working" => "under way",
        "waiting" => "waiting",
        "resting" => "done",
        "exhausted" => "every playbook was tried",
        "stopped" => "stopped, it needs a person",
        other => other,
    };
    // the newest runs matter most
    let from = facts.runs.len().saturating_sub(MAX_LIST);
    Some(RepairContent {
        state: short(&format!("{state}{at}")),
        runs: facts.runs[from..].iter().map(run_content).collect(),
    })
}

fn run_content(run: &RunFacts) -> RunContent {
    let took = match run.ended_at {
        Some(ended) => format!(" after {}", rough_span(ended.since(run.started_at))),
        None => format!(" since {}", clock_time(run.started_at)),
    };
    let why = if run.why.is_empty() { String::new() } else { format!("; {}", run.why) };
    let verdict = run.verdict.replace('_', " ");
    RunContent {
        head: long(&format!("{} on {}: {verdict}{took}{why}", run.playbook, run.deployment)),
        steps: run.steps.iter().take(MAX_LIST).map(|step| short(step)).collect(),
    }
}

fn news_content(news: &News) -> NewsContent {
    let place = news.deployment.as_ref().map(|deployment| format!(", {deployment}")).unwrap_or_default();
    NewsContent {
        head: short(&format!("{}{place}, {}", clock_time(news.at), news.kind.as_str().replace('_', " "))),
        text: clean(&news.text, MAX_NEWS),
    }
}

/// Plain text, lines ended by LF.
pub fn plain(content: &NotificationContent) -> String {
    let mut text = format!("{}\n", content.subject);
    for notice in &content.notices {
        text.push_str(&format!("\n{notice}\n"));
    }
    for alert in &content.alerts {
        text.push_str(&format!("\n{}  {}\n", alert.status, alert.title));
        if !alert.summary.is_empty() {
            text.push_str(&format!("  {}\n", indent(&alert.summary, 2)));
        }
        for (what, fact) in &alert.facts {
            text.push_str(&format!("  {what}: {}\n", indent(fact, 4)));
        }
        if let Some(repair) = &alert.repair {
            text.push_str(&format!("  repair: {}\n", repair.state));
            for run in &repair.runs {
                text.push_str(&format!("    {}\n", indent(&run.head, 6)));
                for step in &run.steps {
                    text.push_str(&format!("      {}\n", indent(step, 8)));
                }
            }
        }
    }
    if let Some(more) = &content.more {
        text.push_str(&format!("\n{more}\n"));
    }
    if !content.news.is_empty() {
        text.push_str("\nNews\n");
    }
    for news in &content.news {
        text.push_str(&format!("  {}\n    {}\n", news.head, indent(&news.text, 4)));
    }
    if let Some(link) = &content.link {
        text.push_str(&format!("\n{link}\n"));
    }
    text
}

/// Further lines of a text start where the first one does.
fn indent(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}

/// `https://…` or `http://…` in one word.
pub fn is_link(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'<>`".contains(c)))
}

/// `2026-11-23 20:00:00 UTC`.
fn clock_time(at: Timestamp) -> String {
    let text = at.to_string();
    let to_the_second = text.split('.').next().unwrap_or(&text);
    format!("{} UTC", to_the_second.trim_end_matches('Z').replace('T', " "))
}

/// To the second from a second on.
fn rough_span(span: std::time::Duration) -> String {
    if span.as_secs() > 0 {
        format_duration(std::time::Duration::from_secs(span.as_secs()))
    } else {
        format_duration(span)
    }
}

/// Whole numbers without a fraction, others with at most three digits of it.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

fn short(text: &str) -> String {
    clean(text, MAX_SHORT)
}

fn long(text: &str) -> String {
    clean(text, MAX_LONG)
}

/// At most `max` characters, without what acts instead of being read: control characters, and marks that turn the
/// direction of writing and so make a text look like another one.
pub fn clean(text: &str, max: usize) -> String {
    let acts = |letter: char| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut cleaned = String::new();
    for (count, letter) in
        text.trim().replace("\r\n", "\n").replace('\t', " ").chars().filter(|c| !acts(*c)).enumerate()
    {
        if count == max {
            cleaned.push('…');
            break;
        }
        cleaned.push(letter);
    }
    cleaned
}
