//! OpenTelemetry's names as Prometheus writes them, so that one rule fits both: `http.server.duration` in `ms` is
//! `http_server_duration_milliseconds`.

use std::borrow::Cow;

/// What a metric is, as far as its name depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A gauge: a unit of `1` makes it a ratio.
    Gauge,
    /// A sum since a start that only grows: gets `_total`.
    Counter,
    /// The increase of one interval: gets `_delta`.
    Delta,
    Other,
}

/// The name of a metric's series, without `_count` and the like.
pub(super) fn metric(name: &str, unit: &str, form: Form) -> String {
    let mut name = clean(name, "_", |c| c == ':').into_owned();
    if matches!(form, Form::Counter | Form::Delta)
        && let Some(bare) = name.strip_suffix("_total")
    {
        name.truncate(bare.len());
    }
    let suffix = unit_suffix(unit, form);
    let has_suffix =
        name.strip_suffix(suffix.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('_'));
    if !suffix.is_empty() && !has_suffix {
        name.push('_');
        name.push_str(&suffix);
    }
    name.push_str(match form {
        Form::Counter => "_total",
        Form::Delta => "_delta",
        Form::Gauge | Form::Other => "",
    });
    name
}

/// The name of an attribute as a label.
pub(super) fn label(key: &str) -> Cow<'_, str> {
    clean(key, "key_", |_| false)
}

/// Characters that a name may not have become `_`, several in a row one. `before_digit` is put before a digit that
/// would be the first.
fn clean<'a>(name: &'a str, before_digit: &str, also: impl Fn(char) -> bool) -> Cow<'a, str> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit_first && name.chars().all(good) {
        return Cow::Borrowed(name);
    }
    let mut clean = String::with_capacity(name.len() + before_digit.len());
    if digit_first {
        clean.push_str(before_digit);
    }
    for c in name.chars() {
        if good(c) {
            clean.push(c);
        } else if !clean.ends_with('_') {
            clean.push('_');
        }
    }
    Cow::Owned(clean)
}

/// `By` is `bytes`, `By/s` is `bytes_per_second`, `{request}/s` is `per_second`; empty for units that are not known.
fn unit_suffix(unit: &str, form: Form) -> String {
    let unit = unit.trim();
    if unit == "1" && form == Form::Gauge {
        return "ratio".to_owned();
    }
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main.trim(), Some(per.trim())),
        None => (unit, None),
    };
    // Words in braces are remarks for people, such as what is counted.
    let unspoken = main.is_empty() || main == "1" || (main.starts_with('{') && main.ends_with('}'));
    let plural = if unspoken { Some("") } else { plural(main) };
    match (plural, per.map(singular)) {
        (Some(plural), None) => plural.to_owned(),
        (Some(""), Some(Some(singular))) => format!("per_{singular}"),
        (Some(plural), Some(Some(singular))) => format!("{plural}_per_{singular}"),
        _ => String::new(),
    }
}

fn plural(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        _ => return None,
    })
}

fn singular(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" | "min" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_forms_are_part_of_the_name() {
        for (name, unit, form, expected) in [
            ("http.server.duration", "ms", Form::Other, "http_server_duration_milliseconds"),
            ("http.server.request.duration", "s", Form::Other, "http_server_request_duration_seconds"),
            ("process.cpu.time", "s", Form::Counter, "process_cpu_time_seconds_total"),
            ("requests_total", "1", Form::Counter, "requests_total"),
            ("requests_total", "{request}", Form::Delta, "requests_delta"),
            ("system.cpu.utilization", "1", Form::Gauge, "system_cpu_utilization_ratio"),
            ("system.cpu.utilization", "%", Form::Gauge, "system_cpu_utilization_percent"),
            ("jvm.memory.bytes", "By", Form::Other, "jvm_memory_bytes"),
            ("bytes", "By", Form::Other, "bytes"),
            ("megabytes", "By", Form::Other, "megabytes_bytes"),
            ("throughput", "By/s", Form::Gauge, "throughput_bytes_per_second"),
            ("rate", "{packet}/s", Form::Gauge, "rate_per_second"),
            ("rate", "furlong/s", Form::Gauge, "rate"),
            ("depth", "furlong", Form::Gauge, "depth"),
            ("2xx.größe - x", "", Form::Gauge, "_2xx_gr_e_x"),
            ("job:rate", "", Form::Gauge, "job:rate"),
        ] {
            assert_eq!(metric(name, unit, form), expected, "{name} in {unit}");
        }
    }

    #[test]
    fn attributes_become_labels() {
        for (key, expected) in
            [("service.name", "service_name"), ("plain", "plain"), ("1st", "key_1st"), ("a:b", "a_b"), ("é", "_")]
        {
            assert_eq!(label(key), expected);
        }
    }
}
