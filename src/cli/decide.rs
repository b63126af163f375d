//! Verbs of people who decide: answers to questions, ladders that go on, and what is left alone for a while.

use anyhow::bail;
use serde_json::{Value, json};

use super::args::{AnswerArgs, ApprovalsArgs, PauseArgs, ResumeArgs, RetryArgs};
use super::client::{Client, encode};
use super::explain::guards;
use super::output::{self, text, time, tinted};
use selfheal_model::units::format_duration;

pub async fn approvals(args: ApprovalsArgs) -> anyhow::Result<u8> {
    let state = if args.all { None } else { Some("waiting") };
    let approvals = Client::new(&args.engine)?.get("/api/v1/approvals", &[("state", state)]).await?;
    if args.json {
        output::json(&approvals);
        return Ok(0);
    }
    let rows = approvals
        .as_array()
        .into_iter()
        .flatten()
        .map(|view| {
            vec![
                text(&view["id"]),
                tinted(&text(&view["state"])),
                text(&view["what"]),
                text(&view["alert_name"]),
                time(&view["expires_at"]),
                text(&view["answered_by"]),
            ]
        })
        .collect();
    output::table(&["approval", "state", "may selfheal", "alert", "expires", "answered by"], rows);
    Ok(0)
}

pub async fn approve(args: AnswerArgs) -> anyhow::Result<u8> {
    answer(args, "approve").await
}

pub async fn deny(args: AnswerArgs) -> anyhow::Result<u8> {
    answer(args, "deny").await
}

async fn answer(args: AnswerArgs, word: &str) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    let open = client.get("/api/v1/approvals", &[("state", Some("waiting"))]).await?;
    let approval = approval_of(&args.approval, &open)?;
    let body = json!({ "reason": args.reason }).to_string().into_bytes();
    let answer = client.post(&format!("/api/v1/approvals/{}/{word}", encode(approval)), body).await?.ok()?;
    if args.json {
        output::json(&answer);
    } else {
        let done = if word == "approve" { "approved" } else { "denied" };
        let run = text(&answer["run"]);
        anstream::println!("{approval} is {done}; `selfheal runs {run}` shows the run");
    }
    Ok(0)
}

/// The approval with this id, or the only open one of the run with this id. One that is not open is left to the engine,
/// which says what is.
fn approval_of<'a>(asked: &'a str, open: &'a Value) -> anyhow::Result<&'a str> {
    let open: Vec<&Value> = open.as_array().into_iter().flatten().collect();
    if open.iter().any(|view| view["id"] == asked) {
        return Ok(asked);
    }
    let of_run = open.iter().filter(|view| is_of(view, asked)).filter_map(|view| view["id"].as_str());
    match of_run.collect::<Vec<_>>().as_slice() {
        [] => Ok(asked),
        [one] => Ok(*one),
        several => bail!("{asked} waits for several answers: {}; name one", several.join(", ")),
    }
}

/// Whether an approval is asked for by this run, or by a run within it.
fn is_of(view: &Value, run: &str) -> bool {
    let whole = view["id"].as_str().and_then(|id| id.rsplit_once('.')).map(|(whole, _)| whole);
    view["run"] == run || whole == Some(run)
}

pub async fn retry(args: RetryArgs) -> anyhow::Result<u8> {
    let body = json!({ "reason": args.reason }).to_string().into_bytes();
    let path = format!("/api/v1/alerts/{}/retry", encode(&args.alert));
    let answer = Client::new(&args.engine)?.post(&path, body).await?.ok()?;
    if args.json {
        output::json(&answer);
    } else {
        anstream::println!("the ladder of {} goes on, under every guard", args.alert);
    }
    Ok(0)
}

pub async fn pause(args: PauseArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    let Some(span) = args.for_.map(format_duration) else {
        let body = json!({ "reason": args.reason }).to_string().into_bytes();
        client.post("/api/v1/pause", body).await?.ok()?;
        anstream::println!("paused: alerts go on, nothing is repaired until `selfheal resume`");
        return Ok(0);
    };
    let body = json!({ "matchers": args.select, "for": span, "reason": args.reason }).to_string().into_bytes();
    let answer = client.post("/api/v1/maintenance", body).await?.ok()?;
    let id = text(&answer["id"]);
    anstream::println!(
        "{id}: deployments with {} are not repaired for {span}; `selfheal resume --maintenance {id}` ends it before",
        args.select.join(" ")
    );
    Ok(0)
}

pub async fn resume(args: ResumeArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    if let Some(id) = &args.maintenance {
        client.delete(&format!("/api/v1/maintenance/{}", encode(id))).await?.ok()?;
        anstream::println!("{id} is ended: its deployments are repaired again");
        return Ok(0);
    }
    let body = json!({ "reason": args.reason }).to_string().into_bytes();
    if let Some(playbook) = &args.playbook {
        client.post(&format!("/api/v1/playbooks/{}/reset", encode(playbook)), body).await?.ok()?;
        anstream::println!("{playbook} is back in service");
        return Ok(0);
    }
    client.post("/api/v1/resume", body).await?.ok()?;
    anstream::println!("resumed: ladders ask their guards again");
    Ok(0)
}

/// The times in which deployments are left alone, for `status`.
pub(super) fn show_maintenance(status: &Value) {
    for one in status["maintenance"].as_array().into_iter().flatten() {
        let matchers: Vec<String> = one["matchers"].as_array().into_iter().flatten().map(text).collect();
        anstream::println!(
            "{}: no repair of {} until {}, by {}: {}",
            text(&one["id"]),
            matchers.join(" "),
            time(&one["until"]),
            text(&one["by"]),
            text(&one["reason"])
        );
    }
}

/// What a run waits for, and what every guard said of it.
pub(super) fn show_guards(run: &Value) {
    if let Some(approval) = run["approval"].as_str() {
        anstream::println!(
            "waits for an answer: `selfheal approve {approval}` or `selfheal deny {approval}`; `selfheal approvals` shows what is asked"
        );
    }
    if let Some(by) = run["approved_by"].as_str() {
        anstream::println!("approved by {by}");
    }
    let rows = guards(&run["guards"]);
    if !rows.is_empty() {
        anstream::println!("\nguards");
        output::table(&["guard", "of", "says", "figures"], rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stands_for_its_only_question() {
        let open = json!([
            { "id": "shop-1.1", "run": "shop-1" },
            { "id": "shop-2.1", "run": "shop-2" },
            { "id": "shop-2.2", "run": "shop-2+one" },
        ]);
        for (asked, expected) in
            [("shop-1.1", "shop-1.1"), ("shop-1", "shop-1.1"), ("shop-2+one", "shop-2.2"), ("shop-9", "shop-9")]
        {
            assert_eq!(approval_of(asked, &open).unwrap(), expected);
        }
        let error = approval_of("shop-2", &open).unwrap_err().to_string();
        assert!(error.contains("shop-2.1, shop-2.2"), "{error}");
    }
}
