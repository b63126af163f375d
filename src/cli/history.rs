//! `selfheal history`: what happened, as tables.

use serde_json::Value;

use super::args::{HistoryArgs, HistoryKind, When};
use super::client::Client;
use super::output::{self, text, time, tinted};
use crate::app::clock::Clock;

pub async fn history(args: HistoryArgs) -> anyhow::Result<u8> {
    let (since, until, limit) = (instant(args.since), instant(args.until), args.limit.to_string());
    let query = [
        ("kind", Some(args.kind.word())),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
        ("deployment", args.deployment.as_deref()),
        ("rule", args.rule.as_deref()),
        ("state", args.state.as_deref()),
        ("alert", args.alert.as_deref()),
        ("limit", Some(limit.as_str())),
        ("cursor", args.cursor.as_deref()),
    ];
    let page = Client::new(&args.engine)?.get("/api/v1/history", &query).await?;
    if args.json {
        output::json(&page);
        return Ok(0);
    }
    let rows = page["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (head, row) = table_of(args.kind);
    output::table(head, rows.iter().map(row).collect());
    if args.kind == HistoryKind::Alerts && args.alert.is_some() {
        rows.iter().for_each(show_transitions);
    }
    show_gaps(&page["gaps"]);
    if let Some(next) = page["next"].as_str() {
        anstream::eprintln!("there is more: --cursor {next}");
    }
    Ok(0)
}

/// An instant as the API reads it.
pub(super) fn instant(when: Option<When>) -> Option<String> {
    when.map(|when| match when {
        When::Ago(span) => (Clock::start().now() - span).to_string(),
        When::At(at) => at.to_string(),
    })
}

/// Where history misses something.
pub(super) fn show_gaps(gaps: &Value) {
    for gap in gaps.as_array().into_iter().flatten() {
        let from = if gap["from"].is_null() { "its beginning".to_owned() } else { time(&gap["from"]) };
        anstream::eprintln!("history has a gap from {from} to {}: {}", time(&gap["to"]), text(&gap["message"]));
    }
}

type Row = fn(&Value) -> Vec<String>;

pub(super) fn table_of(kind: HistoryKind) -> (&'static [&'static str], Row) {
    match kind {
        HistoryKind::Alerts => (
            &["id", "alert", "deployment", "state", "severity", "began", "fired", "ended", "relapses", "summary"],
            |row| {
                vec![
                    text(&row["id"]),
                    text(&row["alert"]),
                    text(&row["deployment"]),
                    tinted(&text(&row["state"])),
                    tinted(&text(&row["severity"])),
                    time(&row["started_at"]),
                    time(&row["fired_at"]),
                    time(&row["ended_at"]),
                    text(&row["relapse"]),
                    text(&row["summary"]),
                ]
            },
        ),
        HistoryKind::Runs => {
            (&["run", "playbook", "deployment", "cause", "verdict", "started", "ended", "why"], |row| {
                let refused = [&row["refused"]["guard"], &row["refused"]["figures"]].map(text).join(": ");
                let why = if row["refused"].is_null() { text(&row["why"]) } else { refused };
                vec![
                    text(&row["id"]),
                    text(&row["playbook"]),
                    text(&row["deployment"]),
                    text(&row["cause"]),
                    tinted(&text(if row["verdict"].is_null() { &row["state"] } else { &row["verdict"] })),
                    time(&row["started_at"]),
                    time(&row["ended_at"]),
                    why,
                ]
            })
        }
        HistoryKind::Deliveries => {
            (&["receiver", "notifier", "state", "attempts", "created", "ended", "subject", "error"], |row| {
                vec![
                    text(&row["receiver"]),
                    text(&row["notifier"]),
                    tinted(&text(&row["state"])),
                    text(&row["attempts"]),
                    time(&row["created_at"]),
                    time(&row["ended_at"]),
                    text(&row["subject"]),
                    text(&row["error"]),
                ]
            })
        }
        HistoryKind::Audit => {
            (&["at", "who", "what"], |row| vec![time(&row["at"]), text(&row["who"]), text(&row["what"])])
        }
        HistoryKind::Policies => (&["version", "live", "until", "rules", "playbooks", "mode"], |row| {
            vec![
                text(&row["version"]),
                time(&row["live_at"]),
                time(&row["until"]),
                text(&row["rules"]),
                text(&row["playbooks"]),
                text(&row["mode"]),
            ]
        }),
        HistoryKind::Gaps => (&["from", "to", "dropped", "why"], |row| {
            vec![time(&row["from"]), time(&row["to"]), text(&row["dropped"]), text(&row["message"])]
        }),
    }
}

pub(super) fn show_transitions(row: &Value) {
    anstream::println!("\n{} since {}", text(&row["alert"]), time(&row["started_at"]));
    if let Some(earlier @ 1..) = row["earlier_transitions"].as_u64() {
        anstream::println!("    {earlier} earlier ones are not shown");
    }
    for step in row["transitions"].as_array().into_iter().flatten() {
        let value = if step["value"].is_null() { String::new() } else { format!(" at {}", text(&step["value"])) };
        anstream::println!("    {}  {}{value}: {}", time(&step["at"]), tinted(&text(&step["to"])), text(&step["why"]));
    }
}
