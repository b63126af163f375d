use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn schedule(name: &str, when: When) -> Schedule {
    Schedule {
        name: name.into(),
        source: SourceRef { file: "selfheal.yaml".into(), line: 1, column: 1 },
        playbook: "backup".into(),
        with: Vec::new(),
        select: Selector::default(),
        when,
        jitter: Duration::from_secs(600),
        at_once: 1,
        catch_up: Duration::ZERO,
    }
}

#[test]
fn a_time_of_cron_is_read_in_its_zone() {
    let zone = Zone::named("Europe/Madrid").unwrap_or_else(Zone::utc);
    let cron = Cron::parse("0 3 * * *").unwrap_or_else(|error| panic!("{error}"));
    let schedule = schedule("backup-db", When::Cron { cron, zone });
    let after: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(schedule.next_after(after).to_string(), "2026-07-01T01:00:00.000Z");
    assert_eq!(schedule.next_after(Timestamp::MAX), Timestamp::MAX);
}

#[test]
fn the_newest_time_within_a_span_is_the_last_one_of_it() {
    let cron = |text: &str| When::Cron {
        cron: Cron::parse(text).unwrap_or_else(|error| panic!("{error}")),
        zone: Zone::named("Europe/Madrid").unwrap_or_else(Zone::utc),
    };
    let after: Timestamp = "2026-10-20T02:00:00Z".parse().unwrap_or_else(|error| panic!("{error}"));
    for when in [cron("0 3 * * *"), cron("*/7 4-5 * * 1"), cron("* * * * *"), When::Every(Duration::from_secs(90))] {
        let schedule = schedule("backup-db", when);
        for hours in [0_u64, 1, 30, 24 * 9] {
            let until = after + Duration::from_secs(hours * 3600 + 61);
            let mut one_by_one = None;
            let mut next = schedule.next_after(after);
            while next <= until {
                one_by_one = Some(next);
                next = schedule.next_after(next);
            }
            assert_eq!(schedule.newest_within(after, until), one_by_one, "{:?} {hours}", schedule.when);
        }
    }
}

#[test]
fn schedules_of_one_rhythm_do_not_come_together() {
    let at = |name: &str| schedule(name, When::Every(DAY)).next_after(Timestamp::from_millis(0));
    let names = ["a", "b", "c", "backup-db", "backup-web"];
    let mut times = names.map(at);
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[test]
fn the_runs_of_one_time_are_spread() {
    let schedule = schedule("backup", When::Every(DAY));
    let at = Timestamp::from_millis(1_795_000_000_000);
    let mut tenths = [0; 10];
    for number in 0..1000 {
        let delay = schedule.delay(&DeploymentId::new(format!("web-{number}")), at);
        tenths[(delay.as_millis() / 60_000) as usize] += 1;
    }
    assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    let (web, later) = (DeploymentId::new("web-1"), at + DAY);
    assert_ne!(schedule.delay(&web, at), schedule.delay(&web, later), "not always the same one first");
    assert_eq!(Schedule { jitter: Duration::ZERO, ..schedule }.delay(&web, at), Duration::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_counts_evenly_whenever_it_is_asked(
        name in "[a-z]{1,12}",
        seconds in 60..40_000_000u64,
        after in -4_000_000_000_000..4_000_000_000_000i64,
        earlier in 0..100_000i64,
    ) {
        let every = Duration::from_secs(seconds);
        let schedule = schedule(&name, When::Every(every));
        let after = Timestamp::from_millis(after);
        let next = schedule.next_after(after);
        prop_assert!(next > after && next <= after + every);
        prop_assert_eq!(schedule.next_after(next), next + every);
        prop_assert_eq!(schedule.next_after(Timestamp::from_millis(next.as_millis() - 1)), next);
        // a restart asks from another instant and gets the same times
        let before = schedule.next_after(Timestamp::from_millis(after.as_millis() - earlier));
        let apart = u64::try_from(next.as_millis() - before.as_millis()).expect("it is not later");
        prop_assert_eq!(apart % (seconds * 1000), 0);
    }

    #[test]
    fn a_delay_is_less_than_the_jitter(name in "[a-z]{1,12}", millis in 1..86_400_000u64, at in 0..4_000_000_000_000i64) {
        let schedule = Schedule { jitter: Duration::from_millis(millis), ..schedule(&name, When::Every(DAY)) };
        let at = Timestamp::from_millis(at);
        let delay = schedule.delay(&"web".into(), at);
        prop_assert!(delay < schedule.jitter);
        prop_assert_eq!(delay, schedule.delay(&"web".into(), at));
    }
}
