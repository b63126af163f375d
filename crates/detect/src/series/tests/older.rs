//! Windows in which more samples come than a series keeps, against all of them.

use super::*;
use crate::windows;

const LENGTH_MS: i64 = 3_600_000;
const SLIDE_MS: i64 = LENGTH_MS / SLIDES;

/// Everything that ever came, in order of time; of the same instant in order of coming.
#[derive(Default)]
struct All(Vec<Sample>);

impl All {
    fn insert(&mut self, sample: Sample) {
        let place = self.0.partition_point(|own| own.at <= sample.at);
        self.0.insert(place, sample);
    }

    /// The newest of them.
    fn newest(&self, count: usize) -> impl DoubleEndedIterator<Item = Sample> + Clone + '_ {
        self.0[self.0.len() - count..].iter().copied()
    }
}

const STEPS: [Func; 3] = [Func::Increase, Func::Rate, Func::Changes];

fn exactly(
    func: Func,
    amount: Option<Amount>,
    samples: impl DoubleEndedIterator<Item = Sample> + Clone,
) -> Option<f64> {
    let values = || samples.clone().map(|sample| sample.value);
    let (first, last) = (samples.clone().next()?, samples.clone().next_back()?);
    match func {
        Func::Count => Some(values().count() as f64),
        Func::Sum => Some(windows::total(samples).sum()),
        Func::Avg => windows::total(samples).average(),
        Func::Min => values().reduce(f64::min),
        Func::Max => values().reduce(f64::max),
        Func::First => Some(first.value),
        Func::Delta => Some(last.value - first.value),
        Func::Increase => windows::grown(samples),
        Func::Rate => windows::grown(samples).map(|grown| grown / last.at.since(first.at).as_secs_f64()),
        Func::Changes => windows::changes(samples),
        Func::Stddev => windows::spread(samples).map(|(_, deviation)| deviation),
        Func::Slope => Trend::of(samples).map(|trend| trend.slope),
        Func::Quantile => windows::quantile(samples, amount?.get()),
        other => panic!("{other:?} is not tested here"),
    }
}

/// What the window says is what all its samples say, from no later than its edge and no earlier than a slide before that.
fn agree(series: &Series, all: &All, late: bool, when: &str) {
    let window = &series.windows.as_slice()[0];
    let (edge, count) = (window.edge, usize::try_from(window.total.count).expect("few"));
    let slid = all.newest(count).next().expect("never empty here").at;
    assert!(slid.as_millis() >= edge.as_millis() - SLIDE_MS, "{when}: {slid} is too long before {edge}");
    let missed = all.0.len().checked_sub(count + 1).map(|before| all.0[before].at);
    assert!(missed.is_none_or(|missed| missed <= edge), "{when}: {missed:?} is after {edge}");
    if let Some(older) = window.figures.as_ref().and_then(|figures| figures.older.as_ref()) {
        assert!(older.bunches().count() <= usize::try_from(SLIDES).expect("small") + 2, "{when}");
    }
    let plain =
        [Func::Count, Func::Sum, Func::Avg, Func::Min, Func::Max, Func::First, Func::Delta, Func::Stddev, Func::Slope];
    let shares = [0.0, 0.01, 0.5, 0.99, 1.0].map(|share| (Func::Quantile, Some(Amount::new(share))));
    let largest = all.newest(count).map(|own| own.value.abs()).fold(0.0, f64::max);
    for (func, amount) in plain.into_iter().chain(STEPS).map(|func| (func, None)).chain(shares) {
        // a sample that came too late to know what was before it is no step
        if late && STEPS.contains(&func) {
            continue;
        }
        let (told, exact) = (series.figure(func, amount, edge), exactly(func, amount, all.newest(count)));
        let slack = match func {
            Func::Quantile => 0.01 * exact.expect("filled").abs(),
            _ => 1e-6 * exact.expect("filled").abs().max(1e-6) + 1e-12 * largest,
        };
        let same = told.zip(exact).is_some_and(|(told, exact)| close(told, exact, slack));
        assert!(same, "{when}: {func:?} {amount:?} is {told:?}, and {exact:?} by all {count} samples");
    }
}

fn everything_of_an_hour(late: bool, value_of: impl Fn(u64, i64) -> f64) {
    let lengths = [(Duration::from_millis(LENGTH_MS.unsigned_abs()), everything())];
    let (mut series, mut all) = (Series::default(), All::default());
    series.watch(&lengths, at(0));
    let (mut dice, mut now) = (7_u64, 0_i64);
    for step in 0..50_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // ten minutes in which little comes: the window empties and fills again
        now += if (30_000..30_100).contains(&step) { 60_000 } else { i64::try_from(dice >> 55).expect("small") };
        let delay =
            if late && dice.is_multiple_of(7) { i64::try_from((dice >> 30) % 3_500_000).expect("small") } else { 0 };
        let instant = |millis: i64| Timestamp::from_millis(millis);
        let sample = Sample { at: instant((now - delay).max(1)), value: value_of(dice, step) };
        series.insert(instant(now), sample, instant(now - LENGTH_MS));
        all.insert(sample);
        if dice.is_multiple_of(11) {
            series.advance(instant(now + 31));
            now += 31;
        }
        if dice.is_multiple_of(5_003) {
            let bytes = rmp_serde::to_vec_named(&series).expect("plain data");
            series = rmp_serde::from_slice(&bytes).expect("what was written");
            series.link();
        }
        if step % 1_999 == 1_998 {
            agree(&series, &all, late, &format!("step {step}"));
        }
    }
}

#[test]
fn more_samples_than_are_kept_count_all_the_same() {
    everything_of_an_hour(false, |dice, _| ((dice >> 20) % 100_000) as f64 / SCALE + 1.0);
}

#[test]
fn what_comes_late_among_them_counts_too() {
    everything_of_an_hour(true, |dice, step| ((dice >> 20) % 1_000) as f64 / SCALE - (step % 100) as f64);
}

#[test]
fn a_counter_among_them_may_be_reset() {
    everything_of_an_hour(false, |_, step| ((step % 7_919) * 3) as f64);
}

#[test]
fn far_from_zero_and_beside_outliers_they_keep_their_digits() {
    everything_of_an_hour(false, |dice, step| match step % 20_011 {
        5 => 1e15,
        _ if step > 40_000 => 1e9 + ((dice >> 20) % 64) as f64,
        _ => ((dice >> 20) % 1_000) as f64 / SCALE,
    });
}

#[test]
fn another_figure_does_not_cost_the_sums_of_what_is_drawn_together() {
    let wanted = |func: Func| [(Duration::from_secs(3600), Wanted::of(func))];
    let mut series = Series::default();
    series.watch(&wanted(Func::Max), at(0));
    let fill = |series: &mut Series, seconds: std::ops::Range<i64>| {
        for n in seconds.start * 2..seconds.end * 2 {
            let now = Timestamp::from_millis(n * 500);
            series.insert(now, Sample { at: now, value: (10_000 - n) as f64 }, at(seconds.end - 3600));
        }
    };
    fill(&mut series, 1..3600);
    let figure = |series: &Series, func| series.figure(func, None, series.windows.as_slice()[0].edge);
    assert_eq!((figure(&series, Func::Count), figure(&series, Func::Max)), (Some(7_198.0), Some(9_998.0)));
    for _ in 0..10 {
        series.watch(&wanted(Func::Changes), at(3600));
        series.watch(&wanted(Func::Stddev), at(3600));
    }
    assert_eq!(figure(&series, Func::Count), Some(7_198.0));
    fill(&mut series, 3600..9000);
    let told = [Func::Count, Func::Stddev].map(|func| figure(&series, func).expect("filled"));
    assert!(close(told[0], 7_200.0, 8.0) && close(told[1], 7_200.0 / 12_f64.sqrt(), 5.0), "{told:?}");
    for second in 0..=3_600 {
        series.advance(at(9_000 + second));
    }
    assert_eq!((figure(&series, Func::Count), figure(&series, Func::Stddev)), (Some(0.0), None));
    series.watch(&[(Duration::from_secs(3600), Wanted::default())], at(13_000));
    assert!(series.windows.as_slice()[0].figures.is_none(), "nothing is kept for what is empty");
}
