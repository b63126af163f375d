//! Times as cron writes them: `0 3 * * *` is every day at three, by the wall clock of a time zone.
//!
//! Invariant: a `Cron` that exists comes again and again: none names only days that no year has.

use std::ops::Range;

use jiff::civil::Date;

use super::civil::Zone;
use super::time::Timestamp;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The longest a month is.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/// 29 February comes every eight years where a century is no leap year: every `Cron` comes within so many days.
const MAX_DAYS: u32 = 9 * 366;
/// Words that some crons know, with what they stand for.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Five fields, each as the set of what it takes: bit 5 of the minutes is minute 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    /// Both fields of days are restricted: then, as with every cron, a day that either takes is taken.
    either_day: bool,
}

/// Why a text is no time of cron, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// Bytes of the text.
    pub at: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// What one of the five fields may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of the month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    // 7 is Sunday too
    Field { name: "weekday", least: 0, most: 7, words: &WEEKDAYS },
];

impl Cron {
    /// Reads `minute hour day month weekday`: `*`, numbers, lists `1,15`, ranges `1-5`, steps `*/15`, and the names
    /// of months and weekdays.
    ///
    /// # Errors
    /// What is wrong, where, and what to write instead.
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        let place = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            let wanted = "five fields: minute, hour, day of the month, month, weekday";
            let word = WORDS.iter().find(|(word, _)| *word == text.trim().to_lowercase());
            let help = match (word, parts.len()) {
                (Some((_, fields)), _) => Some(format!("write \"{fields}\"")),
                (None, 6 | 7) => Some("there are no seconds and no years".to_owned()),
                _ => Some("every day at three is \"0 3 * * *\"".to_owned()),
            };
            let message = format!("a time of cron has {wanted}; this has {}", parts.len());
            return Err(CronError { at: 0..text.len(), message, help });
        };
        let [minutes, hours, days, months, weekdays] = {
            let mut sets = [0; 5];
            for (set, (field, part)) in sets.iter_mut().zip(FIELDS.iter().zip([minute, hour, day, month, weekday])) {
                *set = field.parse(part, place(part))?;
            }
            sets
        };
        let either_day = !day.starts_with('*') && !weekday.starts_with('*');
        let cron = Cron { minutes, hours, days, months, weekdays: (weekdays | weekdays >> 7) & 0x7f, either_day };
        let exists = |(month, length): (u32, &u32)| has(months, month) && (1..=*length).any(|day| has(days, day));
        if !either_day && !(1..).zip(&LENGTHS).any(exists) {
            let start = place(day);
            let message = "no year has this day of this month, so this time never comes".to_owned();
            return Err(CronError { at: start..place(month) + month.len(), message, help: None });
        }
        Ok(cron)
    }

    /// The next time after an instant, by the wall clock of `zone`. One that the clock never shows, because it is put
    /// forward over it, is at that change; one that it shows twice is the first of the two.
    pub fn next_after(&self, after: Timestamp, zone: &Zone) -> Timestamp {
        let now = zone.wall_clock(after);
        let mut date = now.date();
        // what the clock showed before this minute is over, however often it showed it
        let mut from = (now.hour(), now.minute());
        for _ in 0..MAX_DAYS {
            if self.takes(date) {
                let times =
                    times(self.hours, 23).flat_map(|hour| times(self.minutes, 59).map(move |minute| (hour, minute)));
                for (hour, minute) in times.filter(|time| *time >= from) {
                    match zone.instant(date.at(hour, minute, 0, 0)) {
                        Some(at) if at > after => return at,
                        _ => {}
                    }
                }
            }
            let Ok(tomorrow) = date.tomorrow() else { break };
            (date, from) = (tomorrow, (0, 0));
        }
        Timestamp::MAX
    }

    fn takes(&self, date: Date) -> bool {
        let day = has(self.days, u32::from(date.day().unsigned_abs()));
        let weekday = has(self.weekdays, u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs()));
        let by_day = if self.either_day { day || weekday } else { day && weekday };
        by_day && has(self.months, u32::from(date.month().unsigned_abs()))
    }
}

fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

/// The numbers of a set, from 0 to `most`.
fn times(set: u64, most: i8) -> impl Iterator<Item = i8> {
    (0..=most).filter(move |number| has(set, u32::from(number.unsigned_abs())))
}

impl Field {
    /// `text` begins at byte `start` of the whole.
    fn parse(&self, text: &str, start: usize) -> Result<u64, CronError> {
        let mut set = 0;
        let mut at = start;
        for part in text.split(',') {
            set |= self.part(part).map_err(|(message, help)| CronError {
                at: at..at + part.len().max(1),
                message,
                help,
            })?;
            at += part.len() + 1;
        }
        Ok(set)
    }

    fn part(&self, part: &str) -> Result<u64, (String, Option<String>)> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most.min(self.least + self.span() - 1)),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None => {
                let number = self.number(range)?;
                if let Some(step) = step {
                    let help = format!("from {range} on it is {range}-{}/{step}", self.most);
                    return Err((format!("`{part}` has a step and no range"), Some(help)));
                }
                (number, number)
            }
        };
        if from > to {
            let help = format!("write two: {range} is {from}-{},{}-{to}", self.most, self.least);
            return Err((format!("`{range}` ends before it begins"), Some(help)));
        }
        let step = match step {
            None => 1,
            Some(step) => {
                step.parse::<u32>().ok().filter(|step| (1..=self.span()).contains(step)).ok_or_else(|| {
                    (format!("`{step}` is no step of {}s: it is a number from 1 to {}", self.name, self.span()), None)
                })?
            }
        };
        Ok((from..=to).step_by(step as usize).fold(0, |set, number| set | 1 << number))
    }

    /// How many different ones there are.
    fn span(&self) -> u32 {
        // of the weekdays the last is the first again
        self.most - self.least + u32::from(self.name != "weekday")
    }

    fn number(&self, text: &str) -> Result<u32, (String, Option<String>)> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let word = word.and_then(|place| u32::try_from(place).ok()).map(|place| place + self.least);
        let digits = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit());
        let number = if digits { text.parse::<u32>().ok() } else { word };
        number.filter(|number| (self.least..=self.most).contains(number)).ok_or_else(|| {
            let words = if self.words.is_empty() { String::new() } else { format!(", or {}", self.words.join(" ")) };
            (format!("`{text}` is no {}: that is {} to {}{words}", self.name, self.least, self.most), None)
        })
    }
}

#[cfg(test)]
mod tests;
