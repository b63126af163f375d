//! Verbs that talk to a running engine.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::args::{ListArgs, ReloadArgs, RunsArgs, StatusArgs, TriggerArgs};
use super::client::{Client, encode};
use super::decide::{show_guards, show_maintenance};
use super::exit;
use super::output::{self, text, time, tinted};

/// How often `trigger --wait` looks at its run.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// `name=value` pairs; a value that is JSON (a number, true, a list) is taken as such, else as text.
pub(super) fn pairs(pairs: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut map = Map::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').with_context(|| format!("`{pair}` is not name=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        map.insert(name.to_owned(), value);
    }
    Ok(map)
}

pub async fn status(args: StatusArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    if let Some(id) = &args.deployment {
        let view = client.get(&format!("/api/v1/deployments/{}", encode(id)), &[]).await?;
        if args.json {
            output::json(&view);
        } else {
            show_deployment(&view);
        }
        return Ok(0);
    }
    let status = client.get("/api/v1/status", &[]).await?;
    if args.json {
        output::json(&status);
        return Ok(0);
    }
    let errors = status["policy"]["errors"].as_array().map_or(0, Vec::len);
    anstream::println!(
        "selfheal {}: {} rules, {} playbooks, policy {} live since {}{}",
        text(&status["version"]),
        status["policy"]["rules"],
        status["policy"]["playbooks"],
        text(&status["policy"]["version"]),
        time(&status["policy"]["loaded_at"]),
        if errors > 0 { format!("; the last save has {errors} errors and is not live") } else { String::new() },
    );
    if let Some(paused) = status["paused"].as_object() {
        anstream::println!(
            "{} by {} since {}: {}",
            tinted("waiting").replace("waiting", "paused"),
            text(&paused["by"]),
            time(&paused["since"]),
            text(&paused["reason"])
        );
    }
    show_maintenance(&status);
    let waiting = status["approvals"]["waiting"].as_u64().unwrap_or_default();
    if waiting > 0 {
        anstream::println!("{waiting} waiting for an answer; `selfheal approvals` shows what is asked");
    }
    anstream::println!(
        "{} firing, {} pending; {} runs under way; {} notifications undelivered\n",
        status["alerts"]["firing"],
        status["alerts"]["pending"],
        status["runs"]["running"],
        status["deliveries"]["undelivered"]
    );
    let rows = status["deployments"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|view| {
            let facts = &view["facts"];
            let replicas = match (&facts["ready_replicas"], &facts["replicas"]) {
                (Value::Null, _) | (_, Value::Null) => String::new(),
                (ready, all) => format!("{ready}/{all}"),
            };
            vec![
                text(&view["id"]),
                tinted(&text(&view["health"])),
                replicas,
                text(&facts["version"]),
                text(&view["adapter"]),
                time(&view["last_event_at"]),
            ]
        })
        .collect();
    output::table(&["deployment", "health", "ready", "version", "adapter", "last event"], rows);
    Ok(0)
}

fn show_deployment(view: &Value) {
    anstream::println!("{} is {}", text(&view["id"]), tinted(&text(&view["health"])));
    if let Some(error) = view["observe_error"].as_str() {
        anstream::println!("it could not be observed: {error}");
    }
    let section = |title: &str| anstream::println!("\n{title}");
    section("checks");
    let checks = view["checks"].as_array().into_iter().flatten();
    output::table(
        &["check", "replica", "verdict", "raw", "ms", "message"],
        checks
            .map(|check| {
                vec![
                    text(&check["name"]),
                    text(&check["replica"]),
                    tinted(&text(&check["smoothed"])),
                    text(&check["raw"]),
                    check["latency_ms"].as_f64().map(|ms| format!("{ms:.1}")).unwrap_or_default(),
                    text(&check["message"]),
                ]
            })
            .collect(),
    );
    section("facts");
    let facts = view["facts"].as_object().into_iter().flatten();
    output::table(&["fact", "value"], facts.map(|(name, value)| vec![name.clone(), text(value)]).collect());
    section("metrics");
    let metrics = view["metrics"].as_array().into_iter().flatten();
    output::table(&["metric", "newest"], metrics.map(|pair| vec![text(&pair[0]), text(&pair[1])]).collect());
}

pub async fn alerts(args: ListArgs) -> anyhow::Result<u8> {
    let query = [("deployment", args.deployment.as_deref()), ("state", args.state.as_deref())];
    let alerts = Client::new(&args.engine)?.get("/api/v1/alerts", &query).await?;
    if args.json {
        output::json(&alerts);
        return Ok(0);
    }
    let rows = alerts
        .as_array()
        .into_iter()
        .flatten()
        .map(|view| {
            let repair = match view["remediation"].as_object() {
                Some(facts) => {
                    let rungs = facts["rungs"].as_u64().unwrap_or_default();
                    // counted from 0 in the API, from 1 for people; behind the last one when none is left
                    let rung = (facts["rung"].as_u64().unwrap_or_default() + 1).min(rungs);
                    format!("{} (rung {rung} of {rungs})", text(&facts["state"]))
                }
                None => String::new(),
            };
            vec![
                text(&view["id"]),
                text(&view["alert"]),
                text(&view["labels"]["deployment"]),
                tinted(&text(&view["state"])),
                text(&view["suppressed"]),
                tinted(&text(&view["severity"])),
                time(&view["started_at"]),
                repair,
                text(&view["summary"]),
            ]
        })
        .collect();
    output::table(&["id", "alert", "deployment", "state", "held by", "severity", "since", "repair", "summary"], rows);
    Ok(0)
}

pub async fn runs(args: RunsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    if let Some(id) = &args.run {
        let view = client.get(&format!("/api/v1/runs/{}", encode(id)), &[]).await?;
        if args.json {
            output::json(&view);
        } else {
            show_run(&view);
        }
        return Ok(0);
    }
    let runs = client.get("/api/v1/runs", &[("deployment", args.deployment.as_deref())]).await?;
    if args.json {
        output::json(&runs);
        return Ok(0);
    }
    let rows = runs
        .as_array()
        .into_iter()
        .flatten()
        .map(|view| {
            let verdict = if view["verdict"].is_null() { text(&view["state"]) } else { text(&view["verdict"]) };
            vec![
                text(&view["id"]),
                text(&view["playbook"]),
                text(&view["deployment"]),
                text(&view["cause"]),
                tinted(&verdict),
                time(&view["started_at"]),
                text(&view["why"]),
            ]
        })
        .collect();
    output::table(&["run", "playbook", "deployment", "cause", "verdict", "started", "why"], rows);
    Ok(0)
}

pub(super) fn show_run(view: &Value) {
    let verdict = if view["verdict"].is_null() { text(&view["state"]) } else { text(&view["verdict"]) };
    anstream::println!(
        "{}: {} on {}, for {}: {}",
        text(&view["id"]),
        text(&view["playbook"]),
        text(&view["deployment"]),
        text(&view["cause"]),
        tinted(&verdict)
    );
    if let Some(why) = view["why"].as_str() {
        anstream::println!("{why}");
    }
    if let Some(refused) = view["refused"].as_object() {
        anstream::println!("refused by {}: {}", text(&refused["guard"]), text(&refused["figures"]));
    }
    show_guards(view);
    for step in view["steps"].as_array().into_iter().flatten() {
        let seconds = step["seconds"].as_f64().map(|seconds| format!(" in {seconds:.1}s")).unwrap_or_default();
        anstream::println!(
            "\n{} ({}): {}{seconds}",
            text(&step["id"]),
            text(&step["action"]),
            tinted(&text(&step["outcome"]))
        );
        for part in [&step["message"], &step["output"], &step["log"]] {
            for line in text(part).lines() {
                anstream::println!("    {line}");
            }
        }
    }
}

pub async fn trigger(args: TriggerArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    let body = json!({
        "playbook": args.playbook,
        "deployment": args.deployment,
        "with": pairs(&args.with)?,
        "override": args.overrides,
        "reason": args.reason,
    });
    let answer = client.post("/api/v1/runs", body.to_string().into_bytes()).await?.ok()?;
    let run = text(&answer["run"]);
    if !args.wait {
        if args.json {
            output::json(&answer);
        } else {
            anstream::println!("{run} is asked for; `selfheal runs {run}` shows what becomes of it");
        }
        return Ok(0);
    }
    loop {
        let view = client.get(&format!("/api/v1/runs/{}", encode(&run)), &[]).await?;
        if view["ended_at"].is_null() {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        if args.json {
            output::json(&view);
        } else {
            show_run(&view);
        }
        let good = matches!(view["verdict"].as_str(), Some("cured" | "done"));
        return Ok(if good { 0 } else { exit::FAILED });
    }
}

pub async fn reload(args: ReloadArgs) -> anyhow::Result<u8> {
    let answer = Client::new(&args.engine)?.post("/-/reload", Vec::new()).await?;
    let refused = answer.body["diagnostics"].as_array().cloned();
    if args.json {
        output::json(&answer.body);
    } else if let Some(diagnostics) = &refused {
        for one in diagnostics {
            anstream::eprintln!(
                "{}:{}:{}: {}: {}",
                text(&one["file"]),
                one["line"],
                one["column"],
                text(&one["severity"]),
                text(&one["message"])
            );
        }
        anstream::eprintln!("the old policy stays live");
    } else {
        let body = answer.ok()?;
        anstream::println!("{}: policy {}", text(&body["result"]), text(&body["version"]));
        return Ok(0);
    }
    Ok(if refused.is_some() { exit::FAILED } else { 0 })
}
