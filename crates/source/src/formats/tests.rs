use super::*;

#[test]
fn what_is_beyond_the_limits_is_one_error_and_the_first() {
    let mut gather = Gather::default();
    let name = SmolStr::new("up");
    for _ in 0..MAX_SAMPLES_PER_BODY + 3 {
        gather.number(&name, &[], 1.0, None);
    }
    for line in 0..MAX_ERRORS + 5 {
        gather.refuse(|| format!("line {line}"));
    }
    let foreign = gather.finish();
    assert_eq!(foreign.samples.len(), MAX_SAMPLES_PER_BODY);
    assert!(foreign.errors[0].starts_with("3 samples were left out"), "{}", foreign.errors[0]);
    assert_eq!((foreign.errors.len(), foreign.more_errors), (MAX_ERRORS, 6));
    assert_eq!(foreign.cut_short.as_ref(), Some(&foreign.errors[0]), "and what is there is not all");
}

#[test]
fn labels_are_bounded_over_the_whole_body() {
    let mut gather = Gather::default();
    let labels = vec![(SmolStr::new("a"), SmolStr::new("b")); MAX_LABELS];
    for _ in 0..MAX_LABELS_PER_BODY / MAX_LABELS + 10 {
        gather.number(&SmolStr::new("up"), &labels, 1.0, None);
    }
    assert_eq!(gather.finish().samples.len(), MAX_LABELS_PER_BODY / MAX_LABELS);
}

#[test]
fn markers_and_values_that_say_nothing_are_told_apart() {
    let mut gather = Gather::default();
    let name = SmolStr::new("up");
    for value in [f64::from_bits(STALE_BITS), f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5] {
        gather.number(&name, &[], value, None);
    }
    let foreign = gather.finish();
    let values: Vec<ForeignValue> = foreign.samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, [ForeignValue::Stale, ForeignValue::Number(0.5)]);
    assert_eq!((foreign.without_value, foreign.errors.len()), (3, 0));
}

#[test]
fn long_strings_are_kept_once() {
    let mut shared = Shared::default();
    let text = "node_filesystem_device_error_total";
    let (first, second) = (shared.get(text), shared.get(text));
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert_eq!(shared.get("up"), "up");
    assert_eq!(shared.0.len(), 1);
}

#[test]
fn a_quote_is_short_and_on_one_line() {
    assert_eq!(Quoted("a\tb\n").to_string(), "`a b `");
    let long = "ä".repeat(100);
    assert_eq!(Quoted(&long).to_string(), format!("`{}…`", "ä".repeat(MAX_QUOTED / 2)));
}
