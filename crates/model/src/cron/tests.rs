use std::time::Duration;

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn madrid() -> Zone {
    Zone::named("Europe/Madrid").unwrap_or_else(|| panic!("it is built in"))
}

fn next(cron: &str, after: &str) -> String {
    let cron = Cron::parse(cron).unwrap_or_else(|error| panic!("{cron}: {error}"));
    cron.next_after(at(after), &madrid()).to_string()
}

#[test]
fn a_time_comes_by_the_wall_clock_of_its_zone() {
    for (cron, after, expected) in [
        ("0 3 * * *", "2026-11-29T01:59:59.999Z", "2026-11-29T02:00:00.000Z"),
        ("0 3 * * *", "2026-11-29T02:00:00Z", "2026-11-30T02:00:00.000Z"),
        ("0 3 * * *", "2026-07-01T12:00:00Z", "2026-07-02T01:00:00.000Z"),
        ("*/15 9-17 * * mon-fri", "2026-11-27T16:45:00Z", "2026-11-30T08:00:00.000Z"),
        ("5,35 0 1 jan,jul *", "2026-11-29T00:00:00Z", "2026-12-31T23:05:00.000Z"),
        ("0 12 29 2 *", "2026-11-29T00:00:00Z", "2028-02-29T11:00:00.000Z"),
        ("0 12 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T11:00:00.000Z"),
        // the 13th, and every Friday
        ("0 0 13 * fri", "2026-11-30T00:00:00Z", "2026-12-03T23:00:00.000Z"),
        ("0 0 13 * fri", "2026-12-11T00:00:00Z", "2026-12-12T23:00:00.000Z"),
        // a field that begins with `*` restricts nothing, so both have to hold
        ("0 0 */2 * 7", "2026-11-30T00:00:00Z", "2026-12-12T23:00:00.000Z"),
        ("0 0 * * SUN", "2026-11-30T00:00:00Z", "2026-12-05T23:00:00.000Z"),
        ("0 0 * * 5-7", "2026-11-30T00:00:00Z", "2026-12-03T23:00:00.000Z"),
    ] {
        assert_eq!(next(cron, after), expected, "{cron} after {after}");
    }
}

#[test]
fn a_time_that_does_not_exist_is_at_the_change_and_one_that_comes_twice_comes_once() {
    // on 29 March 2026 the clock goes from 02:00 to 03:00, which is 01:00 UTC
    assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00.000Z");
    assert_eq!(next("30 2 * * *", "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00.000Z");
    assert_eq!(next("*/20 2 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00.000Z");
    assert_eq!(next("*/20 2 * * *", "2026-03-29T01:00:00Z"), "2026-03-30T00:00:00.000Z", "all of them at once");
    // on 25 October 2026 it is 02:00 to 03:00 twice, from 00:00 UTC on
    assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00.000Z");
    assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00.000Z");
    assert_eq!(next("0 3 * * *", "2026-10-25T00:30:00Z"), "2026-10-25T02:00:00.000Z");
}

#[test]
fn what_is_no_time_of_cron_says_where_and_what_to_write() {
    for (text, at, part, help) in [
        ("0 3 * *", 0..7, "this has 4", "\"0 3 * * *\""),
        ("0 0 3 * * *", 0..11, "this has 6", "no seconds"),
        ("@daily", 0..6, "this has 1", "\"0 0 * * *\""),
        ("60 3 * * *", 0..2, "`60` is no minute", ""),
        ("0 24 * * *", 2..4, "`24` is no hour", ""),
        ("0 3 0 * *", 4..5, "`0` is no day", ""),
        ("0 3 * 13 *", 6..8, "1 to 12, or jan", ""),
        ("0 3 * * 8", 8..9, "`8` is no weekday", ""),
        ("0 3 * * moon", 8..12, "`moon` is no weekday", ""),
        ("0 3 * * mon,,fri", 12..13, "`` is no weekday", ""),
        ("1-x 3 * * *", 0..3, "`x` is no minute", ""),
        ("5/10 3 * * *", 0..4, "no range", "5-59/10"),
        ("*/0 3 * * *", 0..3, "`0` is no step", ""),
        ("*/61 3 * * *", 0..4, "from 1 to 60", ""),
        ("0 3 * * fri-mon", 8..15, "ends before", "5-7,0-1"),
        ("0 22-6 * * *", 2..6, "ends before", "22-23,0-6"),
        ("-1 3 * * *", 0..2, "`` is no minute", ""),
        ("0 3 30 2 *", 4..8, "never comes", ""),
        ("0 3 31 2,4,6,9,11 *", 4..17, "never comes", ""),
        ("", 0..0, "this has 0", "0 3 * * *"),
    ] {
        let error = Cron::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}");
        assert!(error.message.contains(part), "{text}: {}", error.message);
        assert!(error.help.unwrap_or_default().contains(help), "{text}");
    }
    assert!(Cron::parse("0 3 30 2 mon").is_ok(), "Mondays in February are enough");
}

/// One field: what it takes, and how it is written. `None`: everything.
type Written = (Option<Vec<u32>>, String);

fn field(least: u32, most: u32) -> impl Strategy<Value = Written> {
    let list = |mut numbers: Vec<u32>| {
        numbers.sort_unstable();
        numbers.dedup();
        let text: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        (Some(numbers), text.join(","))
    };
    let range = move |(one, other): (u32, u32), step: u32| {
        let (from, to) = (one.min(other), one.max(other));
        (Some((from..=to).step_by(step as usize).collect()), format!("{from}-{to}/{step}"))
    };
    prop_oneof![
        3 => Just((None, "*".to_owned())),
        2 => proptest::collection::vec(least..=most, 1..4).prop_map(list),
        1 => ((least..=most, least..=most), 1..=5u32).prop_map(move |(ends, step)| range(ends, step)),
    ]
}

/// When the clock shows `matches` for the first time, minute by minute: the slow way that needs no rule for changes.
fn slow(after: Timestamp, minutes: i64, matches: &dyn Fn(DateTime) -> bool) -> Option<Timestamp> {
    let zone = madrid();
    let minute = |number: i64| Timestamp::from_millis(number * 60_000);
    let first = after.as_millis().div_euclid(60_000) + 1;
    // from a day before, so that what was shown already is known
    let mut shown = zone.wall_clock(minute(first - 24 * 60));
    for number in first - 24 * 60 + 1..first + minutes {
        let wall = zone.wall_clock(minute(number));
        if wall <= shown {
            continue;
        }
        let mut any = false;
        while shown < wall {
            shown = shown.checked_add(jiff::Span::new().minutes(1)).expect("years are few");
            any |= matches(shown);
        }
        if any && number >= first {
            return Some(minute(number));
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_the_one_the_clock_shows_next(
        (minute, hour) in (field(0, 59), field(0, 23)),
        (day, month, weekday) in (field(1, 31), field(1, 12), field(0, 7)),
        // days with a change of the clocks, and others
        start in prop_oneof![Just("2026-03-28T00:00:00Z"), Just("2026-10-24T00:00:00Z"), Just("2028-02-27T00:00:00Z")],
        offset in 0..48 * 3_600_000u64,
    ) {
        const MINUTES: i64 = 2 * 24 * 60;
        let after = at(start) + Duration::from_millis(offset);
        let text = [&minute, &hour, &day, &month, &weekday].map(|field| field.1.as_str()).join(" ");
        let Ok(cron) = Cron::parse(&text) else { return Ok(()) };
        let holds = |field: &Written, number: u32| field.0.as_ref().is_none_or(|numbers| numbers.contains(&number));
        let matches = |wall: DateTime| {
            let number = |part: i8| u32::from(part.unsigned_abs());
            let sunday = wall.weekday().to_sunday_zero_offset();
            let by_day = holds(&day, number(wall.day()));
            let by_week = holds(&weekday, number(sunday)) || (sunday == 0 && holds(&weekday, 7));
            let both = day.0.is_some() && weekday.0.is_some();
            holds(&minute, number(wall.minute()))
                && holds(&hour, number(wall.hour()))
                && holds(&month, number(wall.month()))
                && if both { by_day || by_week } else { by_day && by_week }
        };
        let next = cron.next_after(after, &madrid());
        prop_assert!(next > after && next < Timestamp::MAX, "{text} after {after}: {next}");
        match slow(after, MINUTES, &matches) {
            Some(expected) => prop_assert_eq!(next, expected, "{} after {}", text, after),
            None => prop_assert!(next >= after + Duration::from_secs(60) * (MINUTES as u32), "{text} after {after}: {next}"),
        }
    }
}
