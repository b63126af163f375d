//! What the first argument of a metric function names.

use selfheal_model::{MetricName, Selector};

/// What the first argument of a metric function says: a name, and which of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MetricQuery {
    pub name: MetricName,
    pub selector: Selector,
}

impl MetricQuery {
    /// `cpu_percent`, or `disk_percent{mount='/', host!="b"}`; single quotes spare the escaping inside YAML and Rhai.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<MetricQuery, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('{') else {
            return Ok(MetricQuery { name: MetricName::new(text), selector: Selector::default() });
        };
        let inside =
            rest.trim_end().strip_suffix('}').ok_or_else(|| format!("the selector `{text}` has no closing `}}`"))?;
        let matchers = split_outside_quotes(inside)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| double_quoted(part).parse().map_err(|error| format!("the selector `{text}`: {error}")))
            .collect::<Result<_, _>>()?;
        Ok(MetricQuery { name: MetricName::new(name.trim()), selector: Selector(matchers) })
    }
}

/// The parts between commas that no quotes hold.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut open, mut escaped) = (0, None, false);
    for (at, letter) in text.char_indices() {
        match (open, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(quote), letter) if letter == quote => open = None,
            (None, '\'' | '"') => open = Some(letter),
            (None, ',') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `mount='/'` as the matchers' own syntax wants it.
fn double_quoted(matcher: &str) -> String {
    match matcher.split_once('\'') {
        Some((before, value)) if !before.contains('"') => match value.strip_suffix('\'') {
            Some(value) => format!("{before}{}", serde_json::Value::from(value)),
            None => matcher.to_owned(),
        },
        _ => matcher.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfheal_model::Labels;

    #[test]
    fn selectors_are_read_with_either_quotes() {
        let labels: Labels = [("mount", "/"), ("host", "a,b")].into_iter().collect();
        for (text, expected) in [
            ("disk", true),
            ("disk{mount='/'}", true),
            (r#"disk{ mount="/", host='a,b' }"#, true),
            ("disk{host=~'a.*'}", true),
            ("disk{mount!='/'}", false),
            ("disk{}", true),
        ] {
            let query = MetricQuery::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((query.name.as_str(), query.selector.matches(&labels)), ("disk", expected), "{text}");
        }
        assert!(MetricQuery::parse("disk{mount").is_err());
        assert!(MetricQuery::parse("disk{mount}").is_err());
    }
}
