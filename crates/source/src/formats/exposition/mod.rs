//! Text that an exporter shows or a script pushes: Prometheus' text format (0.0.4, and 1.0.0 with quoted names) and
//! OpenMetrics 1.0.
//!
//! Invariant: each line stands for itself; a bad one is named with its number, its reason and its beginning. A text of
//! which not all was read is known as such. Histograms and summaries are plain series here, with `le` and `quantile`
//! labels.

mod sample;

use super::{Foreign, Gather, Quoted, Shared};

/// Which of the two languages a text is in: they differ in the unit of times, in exemplars and in the end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Times are whole milliseconds; the text ends where it ends.
    Prometheus,
    /// Times are seconds with fraction; the text ends with `# EOF`, so that a truncated one is known as such.
    OpenMetrics,
}

impl Dialect {
    /// By the media type; what is not OpenMetrics is taken as Prometheus' text, as Prometheus does by default.
    pub fn of_content_type(content_type: Option<&str>) -> Self {
        let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or("").trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            Dialect::OpenMetrics
        } else {
            Dialect::Prometheus
        }
    }
}

/// What the last `# TYPE` line said its family is, as far as reading depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Counters, histograms and summaries: OpenMetrics gives them a `_created` series beside their values.
    Accumulated,
    Other,
}

/// A comment line, after its `#`.
enum Comment<'a> {
    Type { family: &'a str, kind: Kind },
    End,
    Other,
}

/// Takes a text apart. Memory beyond the samples does not grow with it.
pub fn parse_text(body: &str, dialect: Dialect) -> Foreign {
    let mut gather = Gather::default();
    let mut shared = Shared::default();
    let mut scratch = sample::Scratch::default();
    let mut family = ("", Kind::Other);
    let mut ended = false;
    for (index, line) in body.strip_prefix('\u{feff}').unwrap_or(body).split('\n').enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        if ended {
            gather.cut_short(format!("line {number}: there is text after `# EOF`: {}", Quoted(line)));
            break;
        }
        let read = match line.strip_prefix('#') {
            Some(comment) => comment_line(comment, dialect).map(|comment| match comment {
                Comment::Type { family: name, kind } => family = (name, kind),
                Comment::End => ended = true,
                Comment::Other => {}
            }),
            None => sample::read(line, dialect, &mut shared, &mut scratch)
                .map(|sample| sample.take(family, dialect, &mut gather)),
        };
        if let Err(why) = read {
            gather.refuse(|| format!("line {number}: {why}: {}", Quoted(line)));
        }
    }
    if dialect == Dialect::OpenMetrics && !ended {
        gather.cut_short("the text is truncated: it does not end with `# EOF`".to_owned());
    }
    gather.finish()
}

/// Cuts the first word off; words stand between blanks and tabs.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    match text.find([' ', '\t']) {
        Some(end) => (&text[..end], text[end..].trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}

/// `HELP`, `TYPE`, `UNIT` and `EOF` mean something; any other comment is for people.
fn comment_line(comment: &str, dialect: Dialect) -> Result<Comment<'_>, String> {
    let (keyword, rest) = word(comment);
    match keyword {
        "TYPE" => {}
        "HELP" | "UNIT" if rest.is_empty() => return Err(format!("`# {keyword}` names no metric")),
        "EOF" if dialect == Dialect::OpenMetrics && comment == " EOF" => return Ok(Comment::End),
        _ => return Ok(Comment::Other),
    }
    let (family, kind) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => word(rest),
    };
    let kind = match kind.trim() {
        "counter" | "histogram" | "summary" => Kind::Accumulated,
        "gauge" | "untyped" | "unknown" | "info" | "stateset" | "gaugehistogram" => Kind::Other,
        "" => return Err("`# TYPE` needs the name of a metric and its type".to_owned()),
        other => return Err(format!("{} is no type of metric", Quoted(other))),
    };
    Ok(Comment::Type { family, kind })
}

#[cfg(test)]
mod tests;
