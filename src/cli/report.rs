//! `selfheal report`: what playbooks and rules have come to, as tables.

use serde_json::Value;

use super::args::ReportArgs;
use super::client::Client;
use super::history::instant;
use super::output::{self, text, time};

pub async fn report(args: ReportArgs) -> anyhow::Result<u8> {
    let (since, until) = (instant(args.since), instant(args.until));
    let query = [("since", since.as_deref()), ("until", until.as_deref())];
    let report = Client::new(&args.engine)?.get("/api/v1/report", &query).await?;
    if args.json {
        output::json(&report);
        return Ok(0);
    }
    let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    output::table(
        &[
            "playbook",
            "runs",
            "cured",
            "not cured",
            "inconclusive",
            "denied",
            "refused",
            "median to cure",
            "recurrences",
        ],
        rows("playbooks").iter().map(playbook).collect(),
    );
    anstream::println!();
    output::table(
        &["rule", "fired", "relapses", "lapsed", "runs", "cured"],
        rows("rules")
            .iter()
            .map(|rule| ["rule", "fired", "relapses", "lapsed", "runs", "cured"].map(|name| text(&rule[name])).to_vec())
            .collect(),
    );
    if report["cut_short"] == true {
        anstream::eprintln!("there is more than one report takes: only the newest was counted");
    }
    for gap in rows("gaps") {
        anstream::eprintln!("history has a gap until {}: {}", time(&gap["to"]), text(&gap["message"]));
    }
    Ok(0)
}

fn playbook(row: &Value) -> Vec<String> {
    let refused = row["refused"].as_object().into_iter().flatten();
    let refused: Vec<String> = refused.map(|(guard, count)| format!("{guard} {count}")).collect();
    let cured = match row["eased"].as_u64().unwrap_or_default() {
        0 => text(&row["cured"]),
        eased => format!("{} ({eased} eased)", text(&row["cured"])),
    };
    vec![
        text(&row["playbook"]),
        text(&row["runs"]),
        cured,
        text(&row["not_cured"]),
        text(&row["inconclusive"]),
        text(&row["denied"]),
        refused.join(", "),
        row["median_seconds_to_cure"].as_f64().map(|seconds| format!("{seconds:.0}s")).unwrap_or_default(),
        text(&row["recurrences"]),
    ]
}
