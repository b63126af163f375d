//! `silence` and `ack`: what keeps people from being told.

use serde_json::{Value, json};

use super::args::{AckArgs, SilenceAddArgs, SilenceArgs, SilenceCommand, SilenceListArgs};
use super::client::{Client, encode};
use super::output::{self, text, time, tinted};
use selfheal_model::units::format_duration;

pub async fn silence(args: SilenceArgs) -> anyhow::Result<u8> {
    match args.command {
        SilenceCommand::Add(args) => add(args).await,
        SilenceCommand::List(args) => list(args).await,
        SilenceCommand::Expire(args) => {
            let path = format!("/api/v1/silences/{}", encode(&args.id));
            Client::new(&args.engine)?.delete(&path).await?.ok()?;
            anstream::println!("{} has expired", args.id);
            Ok(0)
        }
    }
}

async fn add(args: SilenceAddArgs) -> anyhow::Result<u8> {
    let annotations = if args.repair { json!({ "repair": "true" }) } else { json!({}) };
    let body = json!({
        "matchers": args.matchers,
        "for": format_duration(args.for_),
        "comment": args.comment,
        "annotations": annotations,
    });
    let client = Client::new(&args.engine)?;
    let answer = client.post("/api/v1/silences", body.to_string().into_bytes()).await?.ok()?;
    if args.json {
        output::json(&answer);
    } else {
        let repair = if args.repair { "repair goes on" } else { "nothing repairs them either" };
        let id = text(&answer["id"]);
        anstream::println!("{id}: nobody is told of these alerts for {}; {repair}", format_duration(args.for_));
    }
    Ok(0)
}

async fn list(args: SilenceListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    let silences = client.get("/api/v1/silences", &[("state", args.state.as_deref())]).await?;
    if args.json {
        output::json(&silences);
        return Ok(0);
    }
    let words = |list: &Value| list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
    let rows = silences.as_array().into_iter().flatten().map(|view| {
        vec![
            text(&view["id"]),
            tinted(&text(&view["state"])),
            words(&view["matchers"]),
            time(&view["starts_at"]),
            time(&view["ends_at"]),
            text(&view["created_by"]),
            text(&view["annotations"]["repair"]),
            text(&view["comment"]),
        ]
    });
    output::table(&["id", "state", "matchers", "from", "until", "by", "repair", "comment"], rows.collect());
    Ok(0)
}

pub async fn ack(args: AckArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    let path = format!("/api/v1/alerts/{}/ack", encode(&args.alert));
    if args.undo {
        client.delete(&path).await?.ok()?;
        anstream::println!("{} is not acknowledged any more", args.alert);
        return Ok(0);
    }
    let body = json!({ "take": args.take, "comment": args.comment }).to_string().into_bytes();
    client.post(&path, body).await?.ok()?;
    let what = if args.take { "taken over: it is not repeated and nothing repairs it" } else { "it is not repeated" };
    anstream::println!("{}: {what}, until it is over", args.alert);
    Ok(0)
}
