//! Lives as stories: what is seen when, and what must come of it. Time passes at every deadline in between, as the
//! engine's timers make it.

use super::*;
use selfheal_script::Truth;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// `T` true, `F` clear, `B` neither, `N` no data, `E` failed.
fn sight(letter: char) -> Sight {
    let (when, clear) = match letter {
        'T' => (Truth::True, Truth::False),
        'F' => (Truth::False, Truth::True),
        'B' => (Truth::False, Truth::False),
        'N' => (Truth::NoData, Truth::NoData),
        _ => (Truth::Error("oops".into()), Truth::Error("oops".into())),
    };
    Sight { when, clear, blind: false }
}

fn terms(levels: &[(Severity, u64, u64)], cooldown: u64) -> Terms {
    let timing = |for_, keep| Timing { for_: secs(for_), keep_firing_for: secs(keep) };
    Terms {
        levels: levels.iter().map(|(severity, for_, keep)| (*severity, timing(*for_, *keep))).collect(),
        cooldown: secs(cooldown),
        on_no_data: OnNoData::Keep,
    }
}

fn warning(for_: u64, keep: u64, cooldown: u64) -> Terms {
    terms(&[(Severity::Warning, for_, keep)], cooldown)
}

fn two_levels(warning: (u64, u64), critical: (u64, u64)) -> Terms {
    terms(&[(Severity::Warning, warning.0, warning.1), (Severity::Critical, critical.0, critical.1)], 0)
}

fn word(what: Move) -> String {
    match what {
        Move::SeverityChanged { from, to } => format!("{from}->{to}"),
        other => format!("{other:?}"),
    }
}

/// A life with its diary: `12 Fired`.
struct Story {
    life: Life,
    terms: Terms,
    diary: Vec<String>,
}

impl Story {
    fn under(terms: Terms) -> Story {
        Story { life: Life::default(), terms, diary: Vec::new() }
    }

    fn note(&mut self, when: Timestamp, moves: Vec<Move>) {
        self.diary.extend(moves.into_iter().map(|what| format!("{} {}", when.as_millis() / 1000, word(what))));
    }

    fn until(&mut self, seconds: i64) {
        while let Some(due) = self.life.deadline(&self.terms).filter(|due| *due <= at(seconds)) {
            let before = self.life.clone();
            let moves = self.life.pass(due, &self.terms);
            self.note(due, moves);
            assert_ne!(self.life, before, "a deadline must move something, else the engine spins");
        }
    }

    /// One letter per level, lowest first.
    fn see(&mut self, seconds: i64, letters: &str) {
        self.until(seconds);
        let sights: Vec<_> = self.terms.levels.keys().copied().zip(letters.chars().map(sight)).collect();
        let moves = self.life.see(at(seconds), sights.iter().map(|(level, sight)| (*level, sight)), &self.terms);
        self.note(at(seconds), moves);
    }

    fn adopt(&mut self, seconds: i64, terms: Terms) {
        self.until(seconds);
        self.terms = terms;
        let moves = self.life.adopt(at(seconds), &self.terms);
        self.note(at(seconds), moves);
    }
}

/// Its name, the terms, what is seen at which second, how long to wait, and what must come of it.
type Case<'a> = (&'a str, Terms, &'a [(i64, &'a str)], i64, &'a [&'a str]);

/// Sees each letter at its second, then waits until the end.
fn tell(terms: Terms, seen: &[(i64, &str)], end: i64) -> Vec<String> {
    let mut story = Story::under(terms);
    for (seconds, letters) in seen {
        story.see(*seconds, letters);
    }
    story.until(end);
    story.diary
}

#[test]
fn one_level_lives_as_its_durations_say() {
    let resolve = |terms: Terms| Terms { on_no_data: OnNoData::Resolve, ..terms };
    let cases: &[Case<'_>] = &[
        (
            "no `for` fires at once",
            warning(0, 0, 0),
            &[(5, "T"), (9, "F")],
            9,
            &["5 Fired", "9 Resolved", "9 EpisodeOver"],
        ),
        ("`for` is waited out", warning(60, 0, 0), &[(0, "T"), (30, "T")], 100, &["0 Began", "60 Fired"]),
        (
            "a pending alert lapses when it is false",
            warning(60, 0, 0),
            &[(0, "T"), (30, "F")],
            100,
            &["0 Began", "30 Lapsed"],
        ),
        (
            "what is not true is not pending, clear or not",
            warning(60, 0, 0),
            &[(0, "T"), (30, "B")],
            100,
            &["0 Began", "30 Lapsed"],
        ),
        (
            "without data a pending alert lapses after `for` more",
            warning(60, 0, 0),
            &[(0, "T"), (50, "N")],
            200,
            &["0 Began", "110 Lapsed"],
        ),
        (
            "the time without data does not count",
            warning(60, 0, 0),
            &[(0, "T"), (50, "N"), (90, "T")],
            200,
            &["0 Began", "100 Fired"],
        ),
        ("no data begins nothing", warning(0, 0, 0), &[(0, "N"), (5, "E"), (9, "B")], 100, &[]),
        (
            "a failing script holds what it had",
            warning(0, 10, 0),
            &[(0, "T"), (5, "E"), (50, "F")],
            100,
            &["0 Fired", "60 Resolved", "60 EpisodeOver"],
        ),
        (
            "`keep_firing_for` is waited out",
            warning(0, 30, 0),
            &[(0, "T"), (10, "F")],
            100,
            &["0 Fired", "40 Resolved", "40 EpisodeOver"],
        ),
        (
            "it must be clear all the while",
            warning(0, 30, 0),
            &[(0, "T"), (10, "F"), (20, "B"), (30, "F")],
            100,
            &["0 Fired", "60 Resolved", "60 EpisodeOver"],
        ),
        ("true again while kept is no news", warning(0, 30, 0), &[(0, "T"), (10, "F"), (20, "T")], 100, &["0 Fired"]),
        ("inside the hysteresis it fires on", warning(0, 0, 0), &[(0, "T"), (10, "B")], 100, &["0 Fired"]),
        (
            "no data keeps, and says so",
            warning(0, 0, 0),
            &[(0, "T"), (10, "N"), (20, "T")],
            100,
            &["0 Fired", "10 DataLost", "20 DataBack"],
        ),
        (
            "no data resolves after `keep_firing_for`",
            resolve(warning(0, 30, 0)),
            &[(0, "T"), (10, "N")],
            100,
            &["0 Fired", "10 DataLost", "40 Resolved", "40 EpisodeOver"],
        ),
        (
            "clear, then no data, is one stretch where no data resolves",
            resolve(warning(0, 30, 0)),
            &[(0, "T"), (10, "F"), (20, "N")],
            100,
            &["0 Fired", "20 DataLost", "40 Resolved", "40 EpisodeOver"],
        ),
    ];
    for (name, terms, seen, end, expected) in cases {
        assert_eq!(tell(terms.clone(), seen, *end), *expected, "{name}");
    }
}

#[test]
fn an_episode_lasts_until_resolved_and_cooled_down() {
    let cases: &[Case<'_>] = &[
        (
            "the cooldown runs from the resolve",
            warning(0, 0, 100),
            &[(0, "T"), (10, "F")],
            200,
            &["0 Fired", "10 Resolved", "110 EpisodeOver"],
        ),
        (
            "a relapse does not prolong it",
            warning(0, 0, 100),
            &[(0, "T"), (10, "F"), (50, "T"), (60, "F"), (70, "T"), (80, "F")],
            300,
            &["0 Fired", "10 Resolved", "50 Relapsed", "60 Resolved", "70 Relapsed", "80 Resolved", "110 EpisodeOver"],
        ),
        (
            "a relapse that outlives it cools down anew",
            warning(0, 0, 100),
            &[(0, "T"), (10, "F"), (50, "T"), (150, "F")],
            300,
            &["0 Fired", "10 Resolved", "50 Relapsed", "150 Resolved", "250 EpisodeOver"],
        ),
        (
            "what fires at the end of the cooldown is a new episode",
            warning(60, 0, 100),
            &[(0, "T"), (70, "F"), (110, "T")],
            300,
            &["0 Began", "60 Fired", "70 Resolved", "170 EpisodeOver", "170 Fired"],
        ),
        (
            "what lapses while it cools down is no news",
            warning(60, 0, 100),
            &[(0, "T"), (70, "F"), (80, "T"), (90, "F")],
            300,
            &["0 Began", "60 Fired", "70 Resolved", "170 EpisodeOver"],
        ),
    ];
    for (name, terms, seen, end, expected) in cases {
        assert_eq!(tell(terms.clone(), seen, *end), *expected, "{name}");
    }
}

#[test]
fn a_relapse_keeps_the_episode_and_counts() {
    let mut story = Story::under(warning(0, 0, 100));
    for (seconds, letters) in [(5, "T"), (10, "F"), (50, "T")] {
        story.see(seconds, letters);
    }
    let Stage::Firing { fired_at, episode, .. } = story.life.stage() else { panic!("{:?}", story.life) };
    assert_eq!((fired_at, episode.started_at, episode.relapse), (at(50), at(5), 1));
    assert_eq!(story.life.cooldown_until(&story.terms), Some(at(110)));
    story.see(60, "F");
    story.see(130, "T");
    let Stage::Firing { episode, .. } = story.life.stage() else { panic!("{:?}", story.life) };
    assert_eq!((episode.started_at, episode.relapse), (at(130), 0));
}

#[test]
fn the_highest_true_level_holds() {
    let cases: &[Case<'_>] = &[
        (
            "a rise waits for its own `for`",
            two_levels((0, 0), (30, 0)),
            &[(0, "TF"), (10, "TT")],
            100,
            &["0 Fired", "40 warning->critical"],
        ),
        (
            "a fall is said",
            two_levels((0, 0), (0, 0)),
            &[(0, "TT"), (10, "TF"), (20, "FF")],
            100,
            &["0 Fired", "10 critical->warning", "20 Resolved", "20 EpisodeOver"],
        ),
        (
            "a level keeps by its own duration",
            two_levels((0, 0), (0, 30)),
            &[(0, "TT"), (10, "TF")],
            100,
            &["0 Fired", "40 critical->warning"],
        ),
        (
            "below a firing level there is no `for`: it never goes back to pending",
            two_levels((300, 0), (0, 0)),
            &[(0, "TT"), (10, "TF")],
            100,
            &["0 Fired", "10 critical->warning"],
        ),
        (
            "critical's own hysteresis holds it above a true warning",
            two_levels((0, 0), (0, 0)),
            &[(0, "TT"), (10, "TB"), (20, "TF")],
            100,
            &["0 Fired", "20 critical->warning"],
        ),
        ("the higher one may fire first", two_levels((300, 0), (10, 0)), &[(0, "TT")], 400, &["0 Began", "10 Fired"]),
        (
            "both gone at once is no fall",
            two_levels((0, 0), (0, 0)),
            &[(0, "TT"), (10, "FF")],
            100,
            &["0 Fired", "10 Resolved", "10 EpisodeOver"],
        ),
    ];
    for (name, terms, seen, end, expected) in cases {
        assert_eq!(tell(terms.clone(), seen, *end), *expected, "{name}");
    }
}

#[test]
fn true_now_means_on_data_and_not_by_keeping() {
    for (letters, expected) in [("T", true), ("B", false), ("F", false), ("N", false), ("E", false)] {
        let mut story = Story::under(warning(0, 60, 0));
        story.see(0, "T");
        story.see(10, letters);
        assert!(story.life.is_firing(), "{letters}");
        assert_eq!(story.life.is_true_now(), expected, "{letters}");
        assert_eq!(story.life.is_without_data(), letters == "N", "{letters}");
    }
}

#[test]
fn changed_durations_count_from_where_they_began() {
    let mut shorter = Story::under(warning(300, 0, 0));
    shorter.see(0, "T");
    shorter.adopt(100, warning(60, 0, 0));
    assert_eq!(shorter.diary, ["0 Began", "100 Fired"]);

    let mut longer = Story::under(warning(60, 0, 0));
    longer.see(0, "T");
    longer.adopt(50, warning(300, 0, 0));
    longer.until(400);
    assert_eq!(longer.diary, ["0 Began", "300 Fired"]);

    let mut firing = Story::under(warning(0, 0, 0));
    firing.see(0, "T");
    firing.adopt(50, warning(300, 0, 0));
    firing.until(400);
    assert_eq!(firing.diary, ["0 Fired"], "firing never goes back to pending");

    let mut cooling = Story::under(warning(0, 0, 1000));
    cooling.see(0, "T");
    cooling.see(10, "F");
    cooling.adopt(50, warning(0, 0, 100));
    cooling.until(400);
    assert_eq!(cooling.diary, ["0 Fired", "10 Resolved", "110 EpisodeOver"]);
}

#[test]
fn a_level_that_is_no_more_hands_on_its_state() {
    let mut down = Story::under(two_levels((0, 0), (0, 0)));
    down.see(0, "FT");
    down.adopt(50, warning(300, 0, 0));
    assert_eq!(down.diary, ["0 Fired", "50 critical->warning"]);

    let mut up = Story::under(warning(60, 0, 0));
    up.see(0, "T");
    up.adopt(30, terms(&[(Severity::Critical, 60, 0)], 0));
    up.until(100);
    assert_eq!(up.diary, ["0 Began", "60 Fired"]);
    assert_eq!(up.life.severity(), Some(Severity::Critical));
}

#[test]
fn unwatched_time_counts_for_no_duration_but_the_cooldown() {
    let mut pending = Story::under(warning(60, 0, 0));
    pending.see(0, "T");
    pending.life.skip(secs(1000));
    pending.until(2000);
    assert_eq!(pending.diary, ["0 Began", "1060 Fired"]);

    let mut kept = Story::under(warning(0, 30, 0));
    kept.see(0, "T");
    kept.see(10, "F");
    kept.life.skip(secs(1000));
    kept.until(2000);
    assert_eq!(kept.diary, ["0 Fired", "1040 Resolved", "1040 EpisodeOver"]);

    let mut cooling = Story::under(warning(0, 0, 100));
    cooling.see(0, "T");
    cooling.see(10, "F");
    cooling.life.skip(secs(1000));
    cooling.until(2000);
    assert_eq!(cooling.diary, ["0 Fired", "10 Resolved", "110 EpisodeOver"]);
}
