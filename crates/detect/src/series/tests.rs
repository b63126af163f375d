mod older;

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

/// Every function out of a window that has running figures.
const RUNNING: [(Func, Option<f64>); 8] = [
    (Func::Min, None),
    (Func::Max, None),
    (Func::Quantile, Some(0.9)),
    (Func::Stddev, None),
    (Func::Slope, None),
    (Func::Increase, None),
    (Func::Rate, None),
    (Func::Changes, None),
];

/// The numbers of a window as whole ones, and the exact sums they come to.
fn exact(series: &Series, edge: Timestamp) -> (i128, i128, i128) {
    let whole = |value: f64| (value * SCALE) as i128;
    let values: Vec<i128> = series.samples.iter().filter(|own| own.at > edge).map(|own| whole(own.value)).collect();
    (values.len() as i128, values.iter().sum(), values.iter().map(|value| value * value).sum())
}

/// Values are multiples of one over this, so that they are whole numbers when multiplied by it.
const SCALE: f64 = 64.0;

fn close(one: f64, other: f64, slack: f64) -> bool {
    (one - other).abs() <= slack
}

/// What the windows' running figures say, against exact arithmetic and against their samples looked at anew.
fn agree(series: &Series, when: &str) {
    for window in series.windows.iter() {
        let (count, sum, squares) = exact(series, window.edge);
        let when = format!("{when}, {:?}", window.length);
        assert_eq!(i128::from(window.total.count), count, "{when}");
        let (told, exactly) = (window.total.sum(), sum as f64 / SCALE);
        assert!(close(told, exactly, 1e-12 * exactly.abs()), "{when}: the sum {told} is not {exactly}");
        assert_eq!(window.first as usize, series.samples.len() - usize::try_from(count).expect("few"), "{when}");
        if count > 0 {
            // n² times the variance is whole, too
            let spread = count * squares - sum * sum;
            let exactly = (spread as f64).sqrt() / (count as f64 * SCALE);
            let told = series.figure(Func::Stddev, None, window.edge).expect("there are samples");
            assert!(close(told, exactly, 1e-6 * exactly.max(1e-3)), "{when}: the deviation {told} is not {exactly}");
        }
        // what is small beside an outlier of its window is not known to more digits than that leaves
        let largest = series.after(window.edge).map(|own| own.value.abs()).fold(0.0, f64::max);
        let mut bare = series.clone();
        bare.windows = Few::None;
        for (func, share) in RUNNING {
            let amount = share.map(Amount::new);
            let told = series.figure(func, amount, window.edge);
            let anew = bare.figure(func, amount, window.edge);
            let same = match (told, anew) {
                (Some(told), Some(anew)) => close(told, anew, 1e-6 * anew.abs().max(1e-6) + 1e-12 * largest),
                (told, anew) => told == anew,
            };
            assert!(same, "{when}: {func:?} is {told:?}, and {anew:?} by its samples");
        }
    }
}

fn everything() -> Wanted {
    RUNNING.iter().fold(Wanted::default(), |all, (func, _)| all.and(Wanted::of(*func)))
}

#[test]
fn running_figures_stay_those_of_the_samples() {
    let lengths = [10, 60, 600].map(|seconds| (Duration::from_secs(seconds), everything()));
    let mut series = Series::default();
    series.watch(&lengths, at(0));
    let mut dice = 7_u64;
    let mut now = 0_i64;
    for step in 0..6_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        now += i64::try_from(dice >> 61).expect("small");
        let late = if dice.is_multiple_of(11) { i64::try_from((dice >> 40) % 300).expect("small") } else { 0 };
        // now and then an outlier beside which everything else has no digits left, and long stretches far from zero
        let value = match dice {
            _ if dice.is_multiple_of(97) => 1e15,
            _ if step % 2_000 > 1_500 => 1e9 + ((dice >> 20) % 64) as f64,
            _ => ((dice >> 20) % 1_000) as f64 / SCALE,
        };
        series.insert(at(now), sample(now - late, value), at(now - 600));
        if dice.is_multiple_of(5) {
            now += 13;
            series.advance(at(now));
        }
        if dice.is_multiple_of(1_009) {
            series.watch(&lengths[..2], at(now));
            series.watch(&lengths, at(now));
        }
        if dice.is_multiple_of(503) {
            let bytes = rmp_serde::to_vec_named(&series).expect("plain data");
            series = rmp_serde::from_slice(&bytes).expect("what was written");
            series.link();
        }
        agree(&series, &format!("step {step}"));
    }
}

#[test]
fn the_next_to_leave_is_the_oldest_of_any_window() {
    let mut series = Series::default();
    series.watch(&[10, 60].map(|seconds| (Duration::from_secs(seconds), Wanted::default())), at(0));
    series.insert(at(5), sample(5, 1.0), at(-60));
    assert_eq!(series.next_to_leave(), Some(at(15)));
    series.advance(at(15));
    assert_eq!(series.next_to_leave(), Some(at(65)));
    series.advance(at(65));
    assert_eq!(series.next_to_leave(), None);
    assert_eq!(series.total_after(at(5)).average(), None);
}
