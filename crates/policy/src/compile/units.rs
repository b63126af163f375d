//! Warns of numbers that are compared in the wrong unit: a ratio is 0 to 1, a percentage 0 to 100.

use std::sync::LazyLock;

use regex_lite::Regex;
use smol_str::SmolStr;

use super::scripts::Scripts;
use super::yaml::Node;
use selfheal_model::MetricName;
use selfheal_script::{Condition, Func};

/// Functions whose answer has the metric's own unit.
const SAME_UNIT: [Func; 4] = [Func::Last, Func::Avg, Func::Min, Func::Max];

/// A metric compared with a number: the metric, the number.
static DIRECT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\b(?:last|avg|min|max)\(\s*["'`]([^"'`]+)["'`][^()]*\)\s*(?:>=|<=|>|<)\s*([0-9.]+)"#));
/// The rule's value compared with a number.
static BY_VALUE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bvalue\s*(?:>=|<=|>|<)\s*([0-9.]+)"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern compiles")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ratio,
    Percent,
}

fn unit_of(scripts: &Scripts<'_>, metric: &str) -> Option<Unit> {
    let name = metric.split('{').next().unwrap_or(metric).trim();
    match scripts.units.get(&MetricName::new(name)).map(SmolStr::as_str) {
        Some("ratio") => return Some(Unit::Ratio),
        Some("percent") => return Some(Unit::Percent),
        Some(_) => return None,
        None => {}
    }
    match name {
        _ if name.ends_with("_ratio") => Some(Unit::Ratio),
        _ if name.ends_with("_percent") => Some(Unit::Percent),
        _ => None,
    }
}

/// Looks at comparisons of a metric, or of `value` where the rule's value is one metric, with a literal number.
pub(crate) fn check(scripts: &Scripts<'_>, node: &Node, condition: &Condition, value: Option<&Condition>) {
    let Some(source) = node.scalar() else { return };
    for found in DIRECT.captures_iter(source) {
        compare(scripts, node, &found[0], unit_of(scripts, &found[1]), &found[2]);
    }
    let of_value = value.and_then(|value| match value.reads() {
        [read] if SAME_UNIT.contains(&read.func) && value.source().trim_end().ends_with(')') => {
            unit_of(scripts, &read.subject)
        }
        _ => None,
    });
    for found in BY_VALUE.captures_iter(source).filter(|_| condition.reads().len() <= 1) {
        compare(scripts, node, &found[0], of_value, &found[1]);
    }
}

fn compare(scripts: &Scripts<'_>, node: &Node, comparison: &str, unit: Option<Unit>, number: &str) {
    let Ok(number) = number.parse::<f64>() else { return };
    let message = match unit {
        Some(Unit::Ratio) if number > 1.0 => format!("a ratio is 0 to 1, so it is never near {number}"),
        Some(Unit::Percent) if number > 0.0 && number < 1.0 => {
            format!("a percentage is 0 to 100; {number} is less than one percent")
        }
        _ => return,
    };
    let help = match unit {
        Some(Unit::Ratio) => format!("{number} % is {}", number / 100.0),
        _ => format!("did you mean {}?", number * 100.0),
    };
    scripts.reader.warn(scripts.place_of(node, comparison), "unit", message, Some(help));
}
