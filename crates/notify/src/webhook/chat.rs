//! The bodies that chat services read: Slack, Discord, Microsoft Teams.
//!
//! Invariant: a text of an event cannot call people (`@everyone`, `<!channel>`) nor become a link with another name.

use serde_json::json;

use crate::text::{NotificationContent, Tone, clean, content, is_link, plain};
use selfheal_contract::notification::Notification;
use selfheal_model::Value;

/// Slack shows less of an attachment and refuses more than 40,000.
const MAX_SLACK: usize = 8_000;
/// Discord's own limits.
const MAX_DISCORD_TITLE: usize = 250;
const MAX_DISCORD_TEXT: usize = 4_000;
/// Teams refuses a message over 28 KB; a line costs its markup too.
const MAX_TEAMS_LINES: usize = 80;
const MAX_TEAMS_LINE: usize = 200;
const MAX_TEAMS_LINK: usize = 1_000;

/// The content without its first line, which chat services show as a title.
fn below_the_title(content: &NotificationContent) -> String {
    let text = plain(content);
    text.split_once('\n').map_or(String::new(), |(_, rest)| rest.trim().to_owned())
}

/// An incoming webhook of Slack (Mattermost and Rocket.Chat read it too).
pub fn slack(notification: &Notification) -> Value {
    let content = content(notification);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut attachment = json!({
        "color": content.tone.colour(),
        "fallback": escape(&content.subject),
        "text": escape(&clean(&below_the_title(&content), MAX_SLACK)),
        "footer": "selfheal",
        "ts": notification.at.as_millis().div_euclid(1_000),
    });
    if let (Some(link), Some(attachment)) = (&content.link, attachment.as_object_mut()) {
        attachment.insert("title".to_owned(), json!("selfheal"));
        attachment.insert("title_link".to_owned(), json!(link));
    }
    json!({ "text": escape(&content.subject), "attachments": [attachment] })
}

/// A webhook of Discord.
pub fn discord(notification: &Notification) -> Value {
    let content = content(notification);
    let text = escape_markdown(&clean(&below_the_title(&content), MAX_DISCORD_TEXT / 2));
    let mut embed = json!({
        "title": clean(&content.subject, MAX_DISCORD_TITLE),
        "description": clean(&text, MAX_DISCORD_TEXT),
        "color": colour_number(content.tone),
        "timestamp": notification.at,
    });
    if let (Some(link), Some(embed)) = (&content.link, embed.as_object_mut()) {
        embed.insert("url".to_owned(), json!(link));
    }
    json!({ "username": "selfheal", "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\*_~`|>[]()#".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn colour_number(tone: Tone) -> u32 {
    u32::from_str_radix(tone.colour().trim_start_matches('#'), 16).unwrap_or(0)
}

/// A Teams workflow's webhook: an adaptive card. Its `TextBlock` reads Markdown, its `RichTextBlock` does not, so
/// foreign text stands in the latter.
pub fn teams(notification: &Notification) -> Value {
    let content = content(notification);
    let style = match content.tone {
        Tone::Critical => "attention",
        Tone::Warning => "warning",
        Tone::Good => "good",
        Tone::Info | Tone::Neutral => "default",
    };
    let run = |text: &str, more: Value| {
        let mut run = json!({ "type": "TextRun", "text": clean(text, MAX_TEAMS_LINE) });
        // half an address is none
        if is_link(text) && text.len() <= MAX_TEAMS_LINK {
            run = json!({ "type": "TextRun", "text": text, "selectAction": { "type": "Action.OpenUrl", "url": text } });
        }
        if let (Some(run), Value::Object(more)) = (run.as_object_mut(), more) {
            run.extend(more);
        }
        json!({ "type": "RichTextBlock", "inlines": [run] })
    };
    let mut body = vec![run(&content.subject, json!({ "weight": "bolder", "size": "medium", "color": style }))];
    let text = below_the_title(&content);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    // leading spaces are dropped by clients; an indented line starts with a middle dot instead
    let shown = |line: &str| {
        if is_link(line.trim()) {
            line.trim().to_owned()
        } else if line.starts_with(' ') {
            format!("· {}", line.trim())
        } else {
            line.to_owned()
        }
    };
    body.extend(lines.by_ref().take(MAX_TEAMS_LINES).map(|line| run(&shown(line), json!({}))));
    if lines.next().is_some() {
        body.push(run("… more on the page", json!({})));
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    });
    if let (Some(link), Some(card)) = (&content.link, card.as_object_mut()) {
        card.insert("actions".to_owned(), json!([{ "type": "Action.OpenUrl", "title": "Open selfheal", "url": link }]));
    }
    json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "content": card }],
    })
}
