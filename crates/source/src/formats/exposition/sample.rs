//! One line with a sample: `name{label="value",…} value [time]`, or the name quoted as the first thing in the braces.

use std::borrow::Cow;

use smol_str::SmolStr;

use super::{Dialect, Kind, word};
use crate::formats::{ForeignLabels, Gather, MAX_LABELS, NAME_LABEL, Quoted, Shared, sort_labels};
use selfheal_model::Timestamp;

/// What is used again from line to line, so that a line costs no allocation of its own.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of the last line: most lines have the same as the one before.
    name: SmolStr,
    labels: ForeignLabels,
}

/// A line that was read.
pub(super) struct Sample<'a> {
    name: &'a SmolStr,
    labels: &'a [(SmolStr, SmolStr)],
    value: f64,
    time: Option<Timestamp>,
    exemplar: Exemplar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exemplar {
    None,
    Ignored,
}

impl Sample<'_> {
    /// Hands the sample over, unless it says when a counter began: no value of its own.
    pub fn take(self, family: (&str, Kind), dialect: Dialect, gather: &mut Gather) {
        gather.ignore(usize::from(self.exemplar == Exemplar::Ignored));
        let creation = dialect == Dialect::OpenMetrics
            && family.1 == Kind::Accumulated
            && self.name.strip_suffix("_created") == Some(family.0);
        if creation {
            gather.ignore(1);
        } else {
            gather.number(self.name, self.labels, self.value, self.time);
        }
    }
}

pub(super) fn read<'s>(
    line: &str,
    dialect: Dialect,
    shared: &mut Shared,
    scratch: &'s mut Scratch,
) -> Result<Sample<'s>, String> {
    scratch.labels.clear();
    let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (bare, mut rest) = line.split_at(end);
    let mut named = !bare.is_empty();
    if named {
        if !is_name(bare) {
            return Err(format!(
                "{} is no metric name; a name with other characters is quoted in braces",
                Quoted(bare)
            ));
        }
        scratch.set_name(bare, shared);
    }
    rest = rest.trim_start_matches([' ', '\t']);
    if let Some(block) = rest.strip_prefix('{') {
        rest = label_block(block, &mut named, shared, scratch)?;
    }
    if !named {
        return Err("there is no metric name".to_owned());
    }
    sort_labels(&mut scratch.labels)?;
    let (value, time, exemplar) = value_and_time(rest, dialect)?;
    Ok(Sample { name: &scratch.name, labels: &scratch.labels, value, time, exemplar })
}

impl Scratch {
    fn set_name(&mut self, name: &str, shared: &mut Shared) {
        if self.name != name {
            self.name = shared.get(name);
        }
    }
}

/// The characters of a name that needs no quotes.
fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// Reads what stands behind `{` into `scratch`, and gives what stands behind `}`.
fn label_block<'a>(
    block: &'a str,
    named: &mut bool,
    shared: &mut Shared,
    scratch: &mut Scratch,
) -> Result<&'a str, String> {
    let mut rest = block.trim_start_matches([' ', '\t']);
    let mut read = 0;
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (key, after) = key(rest)?;
        let after = after.trim_start_matches([' ', '\t']);
        let (name, value, after) = match after.strip_prefix('=') {
            Some(value) => {
                let value = value.trim_start_matches([' ', '\t']);
                let value = value
                    .strip_prefix('"')
                    .ok_or_else(|| format!("the value of label {} is not quoted", Quoted(&key)))?;
                let (value, after) = quoted(value)?;
                (key, value, after)
            }
            // Only a name in quotes may stand without a value: it is the metric's.
            None if rest.starts_with('"') => (Cow::Borrowed(NAME_LABEL), key, after),
            None => return Err(format!("label {} has no value", Quoted(&key))),
        };
        read += 1;
        if read > MAX_LABELS {
            return Err(format!("there are over {MAX_LABELS} labels"));
        }
        if name == NAME_LABEL {
            if std::mem::replace(named, true) {
                return Err("there are two metric names".to_owned());
            }
            if value.is_empty() {
                return Err("the metric name is empty".to_owned());
            }
            scratch.set_name(&value, shared);
        } else if !value.is_empty() {
            scratch.labels.push((shared.get(&name), shared.get(&value)));
        }
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if rest.starts_with('}') => {}
            None if rest.is_empty() => return Err("the braces are not closed".to_owned()),
            None => return Err("between two labels there is no comma".to_owned()),
        }
    }
}

/// The name of a label, or the metric's in quotes.
fn key(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    if let Some(inner) = text.strip_prefix('"') {
        let (name, after) = quoted(inner)?;
        return if name.is_empty() { Err("a name is empty".to_owned()) } else { Ok((name, after)) };
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() && after.is_empty() {
        return Err("the braces are not closed".to_owned());
    }
    if name.is_empty() || !is_name(name) {
        return Err("a label has no valid name; one with other characters is quoted".to_owned());
    }
    Ok((Cow::Borrowed(name), after))
}

/// Reads up to the closing quote. A backslash before anything but `\`, `"` and `n` is kept as it stands, as Prometheus
/// does: Windows paths come unescaped often enough.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let unclosed = || "a quote is not closed".to_owned();
    let first = text.find(['"', '\\']).ok_or_else(unclosed)?;
    if text.as_bytes()[first] == b'"' {
        return Ok((Cow::Borrowed(&text[..first]), &text[first + 1..]));
    }
    let mut plain = String::from(&text[..first]);
    let mut rest = &text[first..];
    loop {
        let next = rest.find(['"', '\\']).ok_or_else(unclosed)?;
        plain.push_str(&rest[..next]);
        let mark = rest.as_bytes()[next];
        rest = &rest[next + 1..];
        if mark == b'"' {
            return Ok((Cow::Owned(plain), rest));
        }
        let escaped = rest.chars().next().ok_or_else(unclosed)?;
        match escaped {
            'n' => plain.push('\n'),
            '"' | '\\' => plain.push(escaped),
            other => plain.extend(['\\', other]),
        }
        rest = &rest[escaped.len_utf8()..];
    }
}

fn value_and_time(text: &str, dialect: Dialect) -> Result<(f64, Option<Timestamp>, Exemplar), String> {
    let (value, rest) = word(text);
    if value.is_empty() {
        return Err("there is no value".to_owned());
    }
    let value = value.parse::<f64>().map_err(|_| format!("{} is no number", Quoted(value)))?;
    let (time, exemplar) = match rest.split_once('#') {
        Some((time, _)) if dialect == Dialect::OpenMetrics => (time, Exemplar::Ignored),
        _ => (rest, Exemplar::None),
    };
    let (time, beyond) = word(time);
    if !beyond.is_empty() {
        return Err(format!("there is more than a value and a time: {}", Quoted(beyond)));
    }
    let time = if time.is_empty() { None } else { Some(instant(time, dialect)?) };
    Ok((value, time, exemplar))
}

fn instant(text: &str, dialect: Dialect) -> Result<Timestamp, String> {
    /// In seconds, some 30,000 years: beyond it a float no longer has milliseconds.
    const FARTHEST: f64 = 1e12;
    match dialect {
        Dialect::Prometheus => text
            .parse::<i64>()
            .map(Timestamp::from_millis)
            .map_err(|_| format!("{} is no time in whole milliseconds", Quoted(text))),
        Dialect::OpenMetrics => match text.parse::<f64>() {
            Ok(seconds) if seconds.abs() <= FARTHEST => Ok(Timestamp::from_millis((seconds * 1000.0).round() as i64)),
            _ => Err(format!("{} is no time in seconds", Quoted(text))),
        },
    }
}
