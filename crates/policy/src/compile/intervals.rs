//! `time_intervals:`, as Alertmanager writes them.

use std::ops::RangeInclusive;

use smol_str::SmolStr;

use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::{Kind, Node};
use crate::TimeIntervals;
use crate::schema;
use selfheal_model::{TimeInterval, Zone};

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Of all lists: Alertmanager's old name of the section is understood, too.
pub(crate) fn read(reader: &Reader<'_>, lists: [Option<&Node>; 2]) -> TimeIntervals {
    let mut names = Defined::default();
    let mut read = TimeIntervals::new();
    for node in lists.into_iter().flatten().flat_map(|node| reader.list(node, "a list of named time intervals")) {
        let Some(one) = named(reader, node) else { continue };
        let span = node.get("name").map_or(node.span, |node| node.span);
        if names.add(reader, "time interval", &one.name, span) {
            read.insert(one.name, one.times);
        }
    }
    read
}

/// Times under a name; any of them may hold.
pub(crate) struct Named {
    pub name: SmolStr,
    pub times: Vec<TimeInterval>,
}

/// `{ name: nights, time_intervals: [ … ] }`
pub(crate) fn named(reader: &Reader<'_>, node: &Node) -> Option<Named> {
    let keys = Keys::of(reader, &schema::TIME_INTERVAL, node)?;
    let name = keys.name("name");
    let items = keys.get("time_intervals").map(|node| reader.list(node, "a list of times")).unwrap_or_default();
    let times = items.iter().filter_map(|item| interval(reader, item)).collect();
    Some(Named { name: SmolStr::new(name?), times })
}

fn interval(reader: &Reader<'_>, node: &Node) -> Option<TimeInterval> {
    let keys = Keys::of(reader, &schema::TIMES, node)?;
    let times = list(reader, &keys, "times", "a list of times", time);
    let day = |reader: &Reader<'_>, node: &Node| {
        range(reader, node, "a weekday such as monday, or monday:friday", |word| place(&WEEKDAYS, word))
    };
    let weekdays = list(reader, &keys, "weekdays", "a list of weekdays", day);
    let day_of_month = |reader: &Reader<'_>, node: &Node| {
        let one = |word: &str| word.parse().ok().filter(|day: &i8| (1..=31).contains(&day.abs()));
        days(reader, node, one)
    };
    let days_of_month = list(reader, &keys, "days_of_month", "a list of days", day_of_month);
    let month = |reader: &Reader<'_>, node: &Node| {
        let one = |word: &str| place(&MONTHS, word).map(|place| place + 1).or_else(|| word.parse().ok());
        range(reader, node, "a month such as january, 1 or 1:3", |word| {
            one(word).filter(|month| (1..=12).contains(month))
        })
    };
    let months = list(reader, &keys, "months", "a list of months", month);
    let year = |reader: &Reader<'_>, node: &Node| {
        range(reader, node, "a year such as 2026, or 2026:2028", |word| word.parse().ok())
    };
    let years = list(reader, &keys, "years", "a list of years", year);
    let location = keys.get("location").and_then(|node| zone(reader, node));
    Some(TimeInterval { times, weekdays, days_of_month, months, years, location: location.unwrap_or_else(Zone::utc) })
}

pub(crate) fn zone(reader: &Reader<'_>, node: &Node) -> Option<Zone> {
    let name = reader.text(node)?;
    let zone = Zone::named(&name);
    if zone.is_none() {
        let message = format!("there is no time zone `{name}`; write for example Europe/Madrid");
        reader.error(node.span, "wrong-value", message);
    }
    zone
}

fn list<T>(
    reader: &Reader<'_>,
    keys: &Keys<'_>,
    key: &'static str,
    what: &'static str,
    one: impl Fn(&Reader<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    let items = keys.section(key).map(|node| reader.list(node, what)).unwrap_or_default();
    items.iter().filter_map(|item| one(reader, item)).collect()
}

/// `{ start_time: "09:00", end_time: "17:00" }`, in minutes.
fn time(reader: &Reader<'_>, node: &Node) -> Option<(u16, u16)> {
    let keys = Keys::of(reader, &schema::TIME, node)?;
    let read = |key| keys.get(key).and_then(|node| minutes(reader, node));
    let (start, end) = (read("start_time"), read("end_time"));
    let (start, end) = (start?, end?);
    if start >= end {
        let message = "`end_time` must be later than `start_time`; over midnight write two times";
        reader.error(node.span, "out-of-range", message);
        return None;
    }
    Some((start, end))
}

/// `09:30`, up to `24:00`.
fn minutes(reader: &Reader<'_>, node: &Node) -> Option<u16> {
    let text = reader.text(node)?;
    let read = text.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let is_written_out = text.len() == 5 && minutes < 60;
        Some(hours * 60 + minutes).filter(|all| is_written_out && hours <= 24 && *all <= 24 * 60)
    });
    if read.is_none() {
        reader.wrong_type(node, "a time of day such as \"09:00\"");
    }
    read
}

/// One word, or two with `:` between them, in order.
fn range<T: Copy + PartialOrd>(
    reader: &Reader<'_>,
    node: &Node,
    expected: &str,
    one: impl Fn(&str) -> Option<T>,
) -> Option<RangeInclusive<T>> {
    let text = word_of(reader, node)?;
    let (from, to) = text.split_once(':').unwrap_or((&text, &text));
    let read = one(from.trim()).zip(one(to.trim())).filter(|(from, to)| from <= to);
    if read.is_none() {
        reader.wrong_type(node, expected);
    }
    read.map(|(from, to)| from..=to)
}

/// Days of a month, also from its end: those may only be compared with their like.
fn days(reader: &Reader<'_>, node: &Node, one: impl Fn(&str) -> Option<i8>) -> Option<RangeInclusive<i8>> {
    let text = word_of(reader, node)?;
    let (from, to) = text.split_once(':').unwrap_or((&text, &text));
    let in_order = |(from, to): &(i8, i8)| (*from < 0) != (*to < 0) || from <= to;
    let read = one(from.trim()).zip(one(to.trim())).filter(in_order).filter(|(from, to)| !(*from < 0 && *to > 0));
    if read.is_none() {
        reader.wrong_type(node, "days such as 1, 1:5 or -3:-1");
    }
    read.map(|(from, to)| from..=to)
}

fn word_of(reader: &Reader<'_>, node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Scalar { .. } => node.scalar().map(str::to_lowercase),
        _ => reader.text(node),
    }
}

fn place(words: &[&str], word: &str) -> Option<u8> {
    words.iter().position(|own| *own == word).and_then(|place| u8::try_from(place).ok())
}
