//! Tables and colours on a terminal, plain text in a pipe.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::Value;

/// Prints one JSON document.
pub fn json(value: &Value) {
    // `{:#}` of a JSON value cannot fail; a closed stdout ends the program quietly elsewhere
    anstream::println!("{value:#}");
}

/// Prints rows under a head: aligned, cut to the terminal's width, without lines in a pipe.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let arrangement = match std::io::stdout().is_terminal() {
        true => ContentArrangement::Dynamic,
        false => ContentArrangement::Disabled,
    };
    for line in lines(head, rows, arrangement) {
        anstream::println!("{line}");
    }
}

fn lines(head: &[&str], rows: Vec<Vec<String>>, arrangement: ContentArrangement) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().map(|title| title.to_uppercase()));
    table.set_content_arrangement(arrangement);
    // colours are always written; `anstream` strips them where they are not wanted
    table.enforce_styling().style_text_only();
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A cell of a table. Escape sequences would count as width, so a coloured word becomes a cell with that colour.
fn cell(text: &str) -> Cell {
    let plain = anstream::adapter::strip_str(text).to_string();
    match colour_of(&plain).filter(|_| plain != text) {
        Some(AnsiColor::Red) => Cell::new(plain).fg(Color::DarkRed),
        Some(AnsiColor::Yellow) => Cell::new(plain).fg(Color::DarkYellow),
        Some(_) => Cell::new(plain).fg(Color::DarkGreen),
        None => Cell::new(plain),
    }
}

/// Colours a word by what it means; `anstream` strips it where colour is not wanted.
pub fn tinted(word: &str) -> String {
    let Some(colour) = colour_of(word) else { return word.to_owned() };
    let style = Style::new().fg_color(Some(colour.into()));
    format!("{style}{word}{style:#}")
}

fn colour_of(word: &str) -> Option<AnsiColor> {
    Some(match word {
        "firing" | "unhealthy" | "not_cured" | "failed" | "undelivered" | "critical" | "error" => AnsiColor::Red,
        "pending" | "running" | "verifying" | "waiting" | "unknown" | "lost" | "inconclusive" | "refused"
        | "warning" => AnsiColor::Yellow,
        "resolved" | "healthy" | "cured" | "done" | "delivered" => AnsiColor::Green,
        _ => return None,
    })
}

/// A text out of a JSON value: no quotes around text, nothing for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `2026-11-23T20:00:05.123Z` as `2026-11-23 20:00:05`, for tables.
pub fn time(value: &Value) -> String {
    let text = text(value);
    match text.split_once('T') {
        Some((day, clock)) => format!("{day} {}", clock.get(..8).unwrap_or(clock)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_takes_no_room_in_a_column() {
        let rows = vec![vec![tinted("firing"), "one".to_owned()], vec!["plain".to_owned(), "two".to_owned()]];
        let shown = lines(&["state", "who"], rows, ContentArrangement::Disabled);
        let plain: Vec<String> = shown.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        let columns: Vec<_> = plain.iter().zip(["WHO", "one", "two"]).map(|(line, word)| line.find(word)).collect();
        assert!(columns[0].is_some() && columns.iter().all(|column| *column == columns[0]), "{plain:#?}");
        assert_ne!(shown[1], plain[1], "the coloured word lost its colour");
    }
}
