//! Wall-clock time in a time zone, and the intervals of it that policies name.
//!
//! Invariant: the zones are those built in, never the machine's: the same instant reads the same everywhere.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{ToSpan, Zoned};

use super::time::Timestamp;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Minutes of a day; an interval's end may be this, `24:00`.
const DAY_MINUTES: u16 = 24 * 60;

/// A time zone such as `Europe/Madrid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// `None`: there is no such zone.
    pub fn named(name: &str) -> Option<Zone> {
        match name {
            "UTC" => Some(Zone::utc()),
            name => ZONES.get(name).ok().map(Zone),
        }
    }

    fn read(&self, at: Timestamp) -> Zoned {
        at.to_jiff().to_zoned(self.0.clone())
    }

    pub(super) fn wall_clock(&self, at: Timestamp) -> DateTime {
        self.read(at).datetime()
    }

    /// When the clock shows this: the first time where it does so twice, and at the change that leaves it out where it
    /// never does. `None`: beyond all time.
    pub(super) fn instant(&self, shown: DateTime) -> Option<Timestamp> {
        let at = match self.0.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown),
            // read by the clock of after the change it lies before it
            AmbiguousOffset::Gap { after, .. } => after
                .to_timestamp(shown)
                .map(|before| self.0.following(before).next().map_or(before, |it| it.timestamp())),
        };
        at.ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
    }

    /// 0 to 23.
    pub fn hour(&self, at: Timestamp) -> u8 {
        self.read(at).hour().unsigned_abs()
    }

    /// 1 is Monday, 7 is Sunday.
    pub fn weekday(&self, at: Timestamp) -> u8 {
        self.read(at).weekday().to_monday_one_offset().unsigned_abs()
    }

    /// When another hour begins, at the latest when the clocks change.
    pub fn next_hour(&self, at: Timestamp) -> Timestamp {
        let now = self.read(at);
        let next = now.checked_add(1.hour()).and_then(|later| {
            later.round(jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc))
        });
        self.not_past_a_change(at, next.ok())
    }

    /// When another day begins, at the latest when the clocks change.
    pub fn next_day(&self, at: Timestamp) -> Timestamp {
        let next = self.read(at).tomorrow().and_then(|tomorrow| tomorrow.start_of_day());
        self.not_past_a_change(at, next.ok())
    }

    fn not_past_a_change(&self, at: Timestamp, next: Option<Zoned>) -> Timestamp {
        let change = self.0.following(at.to_jiff()).next().map(|change| change.timestamp().as_millisecond());
        let next = next.map(|next| next.timestamp().as_millisecond());
        [next, change].into_iter().flatten().min().map_or(Timestamp::MAX, Timestamp::from_millis)
    }
}

/// Times as Alertmanager's `time_intervals` say them: everything listed has to hold, and of each list one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeInterval {
    /// Minutes of the day, from and up to but without.
    pub times: Vec<(u16, u16)>,
    /// 0 is Sunday.
    pub weekdays: Vec<RangeInclusive<u8>>,
    /// Below zero from the month's end.
    pub days_of_month: Vec<RangeInclusive<i8>>,
    pub months: Vec<RangeInclusive<u8>>,
    pub years: Vec<RangeInclusive<i16>>,
    pub location: Zone,
}

impl TimeInterval {
    pub fn contains(&self, at: Timestamp) -> bool {
        let now = self.location.read(at);
        let minute = minute_of(now.time());
        let weekday = now.weekday().to_sunday_zero_offset().unsigned_abs();
        let length = now.days_in_month();
        let in_month = |days: &RangeInclusive<i8>| {
            let place = |day: i8| if day < 0 { (length + 1 + day).max(1) } else { day };
            (place(*days.start())..=place(*days.end())).contains(&now.day())
        };
        let holds = |empty: bool, any: bool| empty || any;
        holds(self.times.is_empty(), self.times.iter().any(|(from, to)| (*from..*to).contains(&minute)))
            && holds(self.weekdays.is_empty(), self.weekdays.iter().any(|days| days.contains(&weekday)))
            && holds(self.days_of_month.is_empty(), self.days_of_month.iter().any(in_month))
            && holds(
                self.months.is_empty(),
                self.months.iter().any(|months| months.contains(&now.month().unsigned_abs())),
            )
            && holds(self.years.is_empty(), self.years.iter().any(|years| years.contains(&now.year())))
    }

    /// When it may begin or end next; it does neither before.
    pub fn next_boundary(&self, at: Timestamp) -> Timestamp {
        let now = self.location.read(at);
        let minute = minute_of(now.time());
        let edges = self.times.iter().flat_map(|(from, to)| [*from, *to]);
        let next = edges.filter(|edge| *edge > minute && *edge < DAY_MINUTES).min();
        let today = next.and_then(|edge| {
            let time = Time::new((edge / 60) as i8, (edge % 60) as i8, 0, 0).ok()?;
            now.with().time(time).build().ok()
        });
        let midnight = self.location.next_day(at);
        self.location.not_past_a_change(at, today).min(midnight)
    }
}

fn minute_of(time: Time) -> u16 {
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn always() -> TimeInterval {
        let location = zone("Europe/Madrid");
        TimeInterval { times: vec![], weekdays: vec![], days_of_month: vec![], months: vec![], years: vec![], location }
    }

    #[test]
    fn an_instant_reads_by_the_zone_it_is_asked_in() {
        let instant = at("2026-11-29T23:30:00Z");
        assert_eq!((Zone::utc().hour(instant), Zone::utc().weekday(instant)), (23, 7));
        let madrid = zone("Europe/Madrid");
        assert_eq!((madrid.hour(instant), madrid.weekday(instant)), (0, 1), "Monday there already");
        assert_eq!(madrid.next_hour(instant), at("2026-11-30T00:00:00Z"));
        assert_eq!(madrid.next_day(instant), at("2026-11-30T23:00:00Z"));
        assert_eq!(zone("Asia/Kolkata").next_hour(instant), at("2026-11-30T00:30:00Z"), "half an hour off");
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn a_change_of_the_clocks_is_a_boundary() {
        let madrid = zone("Europe/Madrid");
        // at 03:00 of 25 October 2026 it is 02:00 once more
        let before = at("2026-10-25T00:30:00Z");
        assert_eq!((madrid.hour(before), madrid.next_hour(before)), (2, at("2026-10-25T01:00:00Z")));
        assert_eq!(madrid.hour(at("2026-10-25T01:00:00Z")), 2);
        assert_eq!(madrid.next_day(before), at("2026-10-25T01:00:00Z"));
    }

    #[test]
    fn an_interval_holds_where_one_of_each_list_does() {
        let office = TimeInterval { times: vec![(9 * 60, 18 * 60)], weekdays: vec![1..=5], ..always() };
        assert!(office.contains(at("2026-11-25T08:00:00Z")), "nine on a Wednesday");
        assert!(!office.contains(at("2026-11-25T07:59:00Z")) && !office.contains(at("2026-11-25T17:00:00Z")));
        assert!(!office.contains(at("2026-11-28T10:00:00Z")), "a Saturday");
        assert_eq!(office.next_boundary(at("2026-11-25T07:30:00Z")), at("2026-11-25T08:00:00Z"));
        assert_eq!(office.next_boundary(at("2026-11-25T08:00:00Z")), at("2026-11-25T17:00:00Z"));
        assert_eq!(office.next_boundary(at("2026-11-25T17:00:00Z")), at("2026-11-25T23:00:00Z"));
        let last_days =
            TimeInterval { days_of_month: vec![-2..=-1], months: vec![2..=2], years: vec![2028..=2030], ..always() };
        assert!(last_days.contains(at("2028-02-28T12:00:00Z")) && last_days.contains(at("2028-02-29T12:00:00Z")));
        assert!(!last_days.contains(at("2028-02-27T12:00:00Z")) && !last_days.contains(at("2027-02-28T12:00:00Z")));
        assert!(always().contains(at("2026-11-25T08:00:00Z")));
    }
}
