//! `selfheal explain`: an explanation as text.

use serde_json::Value;

use super::args::{ExplainArgs, HistoryKind};
use super::client::Client;
use super::history::{instant, show_gaps, show_transitions, table_of};
use super::output::{self, text, time, tinted};
use super::verbs::show_run;

pub async fn explain(args: ExplainArgs) -> anyhow::Result<u8> {
    let at = instant(args.at);
    let mut query = match &args.deployment {
        Some(deployment) => vec![("rule", Some(args.what.as_str())), ("deployment", Some(deployment.as_str()))],
        None => vec![("alert", Some(args.what.as_str()))],
    };
    query.push(("at", at.as_deref()));
    let explained = Client::new(&args.engine)?.get("/api/v1/explain", &query).await?;
    if args.json {
        output::json(&explained);
    } else {
        show(&explained);
    }
    Ok(0)
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn part(part: &Value) -> String {
    format!("{}  is {}", text(&part["text"]), tinted(&text(&part["comes_to"])))
}

fn show(explained: &Value) {
    let scope = explained["scope"].as_object().into_iter().flatten();
    let scope: Vec<String> = scope.map(|(name, value)| format!("{name}={}", text(value))).collect();
    let source = explained["source"].as_str().map(|source| format!("  ({source})")).unwrap_or_default();
    anstream::println!("{} {{{}}}{source}", text(&explained["rule"]), scope.join(", "));
    if let Some(teller) = teller(&explained["told"]) {
        anstream::println!("{teller}");
    }
    anstream::println!();
    for sentence in rows(&explained["because"]) {
        anstream::println!("- {}", text(sentence));
    }
    for level in rows(&explained["levels"]) {
        anstream::println!("\n{}: {}", text(&level["severity"]), part(&level["when"]));
        for one in rows(&level["parts"]) {
            anstream::println!("    {}", part(one));
        }
        if level["clear_when"].is_object() {
            anstream::println!("  clear when {}", part(&level["clear_when"]));
        }
    }
    let reads: Vec<_> =
        rows(&explained["reads"]).map(|read| vec![text(&read["text"]), text(&read["comes_to"])]).collect();
    if !reads.is_empty() {
        anstream::println!();
        let when = if explained["told"]["by"] == "engine" { "now" } else { "then" };
        output::table(&["reads", when], reads);
    }
    let timers: Vec<_> = rows(&explained["timers"]).map(|one| vec![time(&one["at"]), text(&one["what"])]).collect();
    if !timers.is_empty() {
        anstream::println!();
        output::table(&["at", "what happens by itself"], timers);
    }
    show_ladder(&explained["ladder"]);
    if explained["told"]["by"] == "history" {
        show_remembered(&explained["told"]);
    }
}

/// Who says it, where that is not the running engine.
fn teller(told: &Value) -> Option<String> {
    match told["by"].as_str() {
        Some("journal") => {
            let beginning = match told["snapshot"].as_u64() {
                Some(sequence) => format!("the snapshot after batch {sequence}"),
                None => "the journal's beginning".to_owned(),
            };
            let batches = told["batches"].as_u64().unwrap_or_default();
            Some(format!("as it was at {}, made anew from {beginning} and {batches} batches", time(&told["asked_at"])))
        }
        Some("history") if told["asked_at"].is_null() => Some("as history has it".to_owned()),
        Some("history") => Some(format!("as history has it of {}", time(&told["asked_at"]))),
        _ => None,
    }
}

/// What history has: the episode with every move, what was done about it, and what people were told.
fn show_remembered(told: &Value) {
    rows(&told["alerts"]).for_each(show_transitions);
    for run in rows(&told["runs"]) {
        anstream::println!();
        show_run(run);
    }
    let (head, row) = table_of(HistoryKind::Deliveries);
    let deliveries: Vec<_> = rows(&told["deliveries"]).map(row).collect();
    if !deliveries.is_empty() {
        anstream::println!();
        output::table(head, deliveries);
    }
    show_gaps(&told["gaps"]);
}

fn show_ladder(ladder: &Value) {
    if !ladder.is_object() {
        return;
    }
    anstream::println!("\nladder ({})", text(&ladder["state"]));
    for (index, rung) in rows(&ladder["rungs"]).enumerate() {
        let mark = if rung["current"] == true { ">" } else { " " };
        anstream::println!("{mark} {}. {}", index + 1, text(&rung["playbook"]));
        for run in rows(&rung["runs"]) {
            let verdict = if run["verdict"].is_null() { &run["state"] } else { &run["verdict"] };
            let refused = run["refused"]
                .as_object()
                .map(|no| format!(", refused by {}: {}", text(&no["guard"]), text(&no["figures"])));
            let why = run["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            anstream::println!(
                "     {} {}{}{why}",
                text(&run["id"]),
                tinted(&text(verdict)),
                refused.unwrap_or_default()
            );
        }
    }
    anstream::println!();
    output::table(&["guard", "of", "says", "figures"], guards(&ladder["guards"]));
}

/// What the guards said, a row each.
pub(super) fn guards(guards: &Value) -> Vec<Vec<String>> {
    let row = |guard: &Value| {
        let says = match (guard["overridden"] == true, guard["allows"] == true) {
            (true, _) => "overruled",
            (false, true) => "yes",
            (false, false) => "no",
        };
        vec![text(&guard["guard"]), text(&guard["of"]), says.to_owned(), text(&guard["figures"])]
    };
    rows(guards).map(row).collect()
}
