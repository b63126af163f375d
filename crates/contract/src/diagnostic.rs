//! A mistake in a policy file: where, what, why, and what to write instead.

use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
}

/// What `check --json` prints, one per mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// In characters on that line, at least 1: the length of the caret's underline.
    #[serde(skip)]
    pub length: u32,
    pub severity: Level,
    /// Stable, kebab-case: `unknown-key`, `unknown-function`, `not-built-yet`, …
    pub code: String,
    pub message: String,
    pub help: Option<String>,
    /// The source line, for the caret.
    #[serde(skip)]
    pub source_line: String,
}

/// For `#[serde(with)]`: diagnostics with what the caret needs too, which JSON for people leaves out.
pub mod in_full {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Diagnostic, Level};

    #[derive(Serialize, Deserialize)]
    struct Whole(String, u32, u32, u32, Level, String, String, Option<String>, String);

    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(all: &[Diagnostic], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().cloned().map(|one| {
            let Diagnostic { file, line, column, length, severity, code, message, help, source_line } = one;
            Whole(file, line, column, length, severity, code, message, help, source_line)
        }))
    }

    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Diagnostic>, D::Error> {
        let all = Vec::<Whole>::deserialize(deserializer)?;
        let whole = |Whole(file, line, column, length, severity, code, message, help, source_line)| Diagnostic {
            file,
            line,
            column,
            length,
            severity,
            code,
            message,
            help,
            source_line,
        };
        Ok(all.into_iter().map(whole).collect())
    }
}

/// Of a line this much is shown, in characters, so that a minified file does not fill the screen.
const MAX_SHOWN: usize = 160;
/// What stays before the caret of a line that is cut.
const BEFORE_CARET: usize = 60;

/// As people read it: file, line, column, the source line, a caret, the reason and a suggestion; one after the other.
pub fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    diagnostics.iter().map(|one| one.render(colour)).collect()
}

impl Diagnostic {
    fn render(&self, colour: bool) -> String {
        let paint = |style: Style, text: &str| {
            if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
        };
        let (word, loud) = match self.severity {
            Level::Error => ("error", AnsiColor::Red.on_default().bold()),
            Level::Warning => ("warning", AnsiColor::Yellow.on_default().bold()),
        };
        let quiet = AnsiColor::Blue.on_default().bold();
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let bar = paint(quiet, "|");
        let mut text = format!(
            "{}: {}\n{gutter}{} {}:{}:{}\n",
            paint(loud, &format!("{word}[{}]", self.code)),
            printable(&self.message),
            paint(quiet, "-->"),
            self.file,
            self.line,
            self.column
        );
        let (shown, before) = self.shown_line();
        let room = shown.chars().count().saturating_sub(before).max(1);
        let length = (self.length.max(1) as usize).min(room);
        text.push_str(&format!("{gutter} {bar}\n{} {bar} {shown}\n", paint(quiet, &number)));
        text.push_str(&format!("{gutter} {bar} {}{}\n", " ".repeat(before), paint(loud, &"^".repeat(length))));
        if let Some(help) = &self.help {
            text.push_str(&format!("{gutter} {} {}\n", paint(quiet, "= help:"), printable(help)));
        }
        text.push('\n');
        text
    }

    /// The source line without anything a terminal would act on, cut around the caret; and how far in the caret is.
    fn shown_line(&self) -> (String, usize) {
        let letters: Vec<char> = printable(&self.source_line).chars().collect();
        let at = (self.column.max(1) as usize - 1).min(letters.len());
        let from = if letters.len() > MAX_SHOWN { at.saturating_sub(BEFORE_CARET) } else { 0 };
        let shown: String = letters.iter().skip(from).take(MAX_SHOWN).collect();
        (shown.trim_end().to_owned(), at - from)
    }
}

/// One line: tabs and control characters become spaces, so that columns stay and nothing reaches the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// One file of a policy folder, as read. Paths are relative to the folder, with `/`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceFile {
    pub path: String,
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake() -> Diagnostic {
        Diagnostic {
            file: "rules/a.yaml".to_owned(),
            line: 12,
            column: 5,
            length: 7,
            severity: Level::Error,
            code: "unknown-key".to_owned(),
            message: "a rule has no key `severty`".to_owned(),
            help: Some("did you mean `severity`?".to_owned()),
            source_line: "    severty: warning".to_owned(),
        }
    }

    #[test]
    fn a_mistake_is_shown_with_place_line_caret_and_help() {
        let expected = "\
error[unknown-key]: a rule has no key `severty`
  --> rules/a.yaml:12:5
   |
12 |     severty: warning
   |     ^^^^^^^
   = help: did you mean `severity`?

";
        assert_eq!(render(&[mistake()], false), expected);
        assert!(render(&[mistake()], true).contains("\u{1b}["));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret_and_nothing_reaches_the_terminal() {
        let line = format!("{}\u{1b}[31mX{}", "a".repeat(500), "b".repeat(500));
        let shown = render(&[Diagnostic { column: 502, length: 2000, source_line: line, ..mistake() }], false);
        assert!(!shown.contains('\u{1b}'));
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(shown.contains('^'));
    }
}
