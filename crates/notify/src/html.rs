//! A story as the HTML part of a mail. Invariant: every text of a story is escaped; the markup is ours alone.

use super::text::{AlertStory, RepairStory, Story, is_link};

/// Mail readers know no style sheets worth the name: everything is inline.
const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";

/// The whole page.
pub fn page(story: &Story) -> String {
    let mut body = format!(
        "<h1 style=\"font-size:18px;margin:0 0 12px;color:{}\">{}</h1>\n",
        story.tone.colour(),
        escape(&story.subject)
    );
    for notice in &story.notices {
        body.push_str(&format!("<p style=\"margin:0 0 12px\"><em>{}</em></p>\n", escape(notice)));
    }
    for alert in &story.alerts {
        body.push_str(&alert_block(alert));
    }
    if let Some(more) = &story.more {
        body.push_str(&format!("<p>{}</p>\n", escape(more)));
    }
    if !story.news.is_empty() {
        body.push_str("<h2 style=\"font-size:15px\">News</h2>\n");
    }
    for news in &story.news {
        body.push_str(&format!("<p><strong>{}</strong><br>{}</p>\n", escape(&news.head), news_lines(&news.text)));
    }
    if let Some(link) = &story.link {
        body.push_str(&format!("<p>{}</p>\n", linked(link)));
    }
    frame(&story.subject, &body)
}

/// A text that somebody else wrote (a template's), in our frame.
pub fn page_of_text(subject: &str, text: &str) -> String {
    frame(subject, &format!("<div style=\"white-space:pre-wrap\">{}</div>\n", escape(text)))
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title></head>\n\
         <body style=\"{FONT};font-size:14px;line-height:1.4;color:#212121\">\n{body}</body></html>\n",
        escape(title)
    )
}

fn alert_block(alert: &AlertStory) -> String {
    let colour = alert.tone.colour();
    let mut block = format!(
        "<div style=\"border-left:4px solid {colour};padding:2px 12px;margin:0 0 16px\">\n\
         <p style=\"margin:0\"><strong style=\"color:{colour}\">{}</strong> <strong>{}</strong></p>\n",
        escape(alert.status),
        escape(&alert.title)
    );
    if !alert.summary.is_empty() {
        block.push_str(&format!("<p style=\"margin:4px 0\">{}</p>\n", lines(&alert.summary)));
    }
    block.push_str("<table style=\"border-collapse:collapse;font-size:13px\">\n");
    for (what, fact) in &alert.facts {
        let fact = if is_link(fact) { linked(fact) } else { lines(fact) };
        block.push_str(&format!(
            "<tr><td style=\"padding:1px 12px 1px 0;color:#616161;vertical-align:top\">{}</td><td>{fact}</td></tr>\n",
            escape(what)
        ));
    }
    block.push_str("</table>\n");
    if let Some(repair) = &alert.repair {
        block.push_str(&repair_block(repair));
    }
    block.push_str("</div>\n");
    block
}

fn repair_block(repair: &RepairStory) -> String {
    let mut block =
        format!("<p style=\"margin:8px 0 4px\">Repair: {}</p>\n<ul style=\"margin:0\">\n", escape(&repair.state));
    for run in &repair.runs {
        block.push_str(&format!("<li>{}", lines(&run.head)));
        if !run.steps.is_empty() {
            let steps: String = run.steps.iter().map(|step| format!("<li>{}</li>", lines(step))).collect();
            block.push_str(&format!("\n<ul>{steps}</ul>\n"));
        }
        block.push_str("</li>\n");
    }
    block.push_str("</ul>\n");
    block
}

fn linked(url: &str) -> String {
    let url = escape(url);
    format!("<a href=\"{url}\">{url}</a>")
}

fn lines(text: &str) -> String {
    escape(text).replace('\n', "<br>\n")
}

/// A line that is an address can be followed.
fn news_lines(text: &str) -> String {
    let line = |line: &str| if is_link(line) { linked(line) } else { escape(line) };
    text.split('\n').map(line).collect::<Vec<_>>().join("<br>\n")
}

/// For element content and for attributes in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
