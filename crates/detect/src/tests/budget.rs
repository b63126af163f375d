//! Rules that cost too much.

use super::*;

/// Some 40,000 operations each time.
const HEAVY: &str = "let sum = 0; for i in 0..900 { for j in 0..10 { sum += i * j; } } last(\"cpu\") > 80 && sum > 0";

#[test]
fn a_rule_that_costs_too_much_is_asked_on_a_slow_beat_and_says_so() {
    let mut bench =
        Bench::of(vec![rule("Heavy", &["deployment"], HEAVY), rule("Light", &["deployment"], "last(\"cpu\") > 80")]);
    // all within one second
    for n in 0..400_i64 {
        let kind = EventKind::Metric { name: "cpu".into(), value: 50.0, labels: Labels::default() };
        bench.event(10, "shop", 10, kind, Origin::External);
        assert!(n < 399 || bench.said.len() == 1, "{:?}", bench.said);
    }
    assert_eq!(bench.heard(), ["10 Heavy is slow"]);
    bench.metric(11, "cpu", 90.0);
    assert_eq!(bench.heard(), ["11 Light{deployment=\"shop\"} true/false"], "the others go on");
    bench.restore();
    bench.metric(12, "cpu", 95.0);
    bench.until(14);
    assert_eq!(bench.heard(), [""; 0]);
    bench.until(15);
    assert_eq!(
        bench.heard(),
        ["15 Heavy is not slow", "15 Heavy{deployment=\"shop\"} true/false"],
        "asked once, at the end"
    );
    bench.metric(16, "cpu", 50.0);
    let said = ["16 Heavy{deployment=\"shop\"} false/true", "16 Light{deployment=\"shop\"} false/true"];
    assert_eq!(bench.heard(), said);
}
