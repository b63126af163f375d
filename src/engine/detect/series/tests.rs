use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn sample(seconds: i64, value: f64) -> Sample {
    Sample { at: at(seconds), value }
}

fn values(series: &Series, edge: i64) -> Vec<f64> {
    series.after(at(edge)).map(|sample| sample.value).collect()
}

#[test]
fn samples_stand_in_order_of_their_own_time() {
    let mut series = Series::default();
    for (seconds, value) in [(10, 1.0), (30, 3.0), (20, 2.0), (30, 4.0)] {
        assert_eq!(series.insert(at(30), sample(seconds, value), at(0)), Taken::Known);
    }
    assert_eq!(values(&series, 0), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(values(&series, 10), [2.0, 3.0, 4.0], "a window is open at its old end");
    assert_eq!(series.newest(), Some(sample(30, 4.0)));
}

#[test]
fn only_what_some_window_needs_is_kept_and_always_the_newest() {
    let mut series = Series::default();
    series.insert(at(10), sample(10, 1.0), at(0));
    series.insert(at(20), sample(20, 2.0), at(15));
    assert_eq!(values(&series, 0), [2.0]);
    assert_eq!(series.insert(at(20), sample(12, 9.0), at(15)), Taken::TooLate);
    let newest = series.insert(at(60), sample(40, 3.0), at(50));
    assert_eq!(newest, Taken::Known, "newer than all, though older than windows");
    assert_eq!(values(&series, 0), [3.0]);
    for second in 0..2 * MAX_SAMPLES as i64 {
        series.insert(at(100 + second), sample(100 + second, 0.0), at(50));
    }
    assert_eq!(values(&series, 0).len(), MAX_SAMPLES);
}

/// What the windows' running figures say, and what their samples come to when added up anew.
fn agree(series: &Series, when: &str) {
    for window in &series.windows {
        let anew = crate::engine::detect::windows::total(
            series.samples.iter().filter(|sample| sample.at > window.edge).copied(),
        );
        assert_eq!(window.total.count, anew.count, "{when}, {:?}", window.length);
        let close = (window.total.sum() - anew.sum()).abs() <= 1e-9 * anew.sum().abs().max(1.0);
        assert!(close, "{when}, {:?}: {} is not {}", window.length, window.total.sum(), anew.sum());
        assert_eq!(window.first, series.samples.len() - usize::try_from(anew.count).expect("few"), "{when}");
    }
}

#[test]
fn running_figures_stay_those_of_the_samples() {
    let lengths = [10, 60, 600].map(Duration::from_secs);
    let mut series = Series::default();
    series.watch(&lengths, at(0));
    let mut dice = 7_u64;
    let mut now = 0_i64;
    for step in 0..30_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        now += i64::try_from(dice >> 61).expect("small");
        let late = if dice.is_multiple_of(11) { i64::try_from((dice >> 40) % 300).expect("small") } else { 0 };
        // now and then an outlier beside which everything else has no digits left
        let value = if dice.is_multiple_of(97) { 1e18 } else { ((dice >> 20) % 1_000) as f64 / 7.0 };
        series.insert(at(now), sample(now - late, value), at(now - 600));
        if dice.is_multiple_of(5) {
            now += 13;
            series.advance(at(now));
        }
        if dice.is_multiple_of(1_009) {
            series.watch(&lengths[..2], at(now));
            series.watch(&lengths, at(now));
        }
        agree(&series, &format!("step {step}"));
    }
}

#[test]
fn the_next_to_leave_is_the_oldest_of_any_window() {
    let mut series = Series::default();
    series.watch(&[Duration::from_secs(10), Duration::from_secs(60)], at(0));
    series.insert(at(5), sample(5, 1.0), at(-60));
    assert_eq!(series.next_to_leave(), Some(at(15)));
    series.advance(at(15));
    assert_eq!(series.next_to_leave(), Some(at(65)));
    series.advance(at(65));
    assert_eq!(series.next_to_leave(), None);
    assert_eq!(series.total_after(at(5)).average(), None);
}
