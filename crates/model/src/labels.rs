//! Label sets, and the matchers that select by them (Alertmanager's and Prometheus' `name op "value"`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// A sorted set of label names with values. Cheap to clone; the empty set, which most series have, takes no memory.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Option<Pairs>);

/// Never empty.
type Pairs = Arc<[(SmolStr, SmolStr)]>;

impl Labels {
    fn pairs(&self) -> &[(SmolStr, SmolStr)] {
        self.0.as_deref().unwrap_or_default()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let pairs = self.pairs();
        let found = pairs.binary_search_by(|(own, _)| own.as_str().cmp(name)).ok()?;
        pairs.get(found).map(|(_, value)| value.as_str())
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// `self` with all of `over` on top: where both have a name, `over` wins.
    pub fn with(&self, over: &Labels) -> Labels {
        self.iter().chain(over.iter()).collect()
    }

    /// `self` with one label set.
    pub fn with_label(&self, name: &str, value: &str) -> Labels {
        self.iter().chain([(name, value)]).collect()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    /// A later value of the same name replaces an earlier one.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut sorted = std::collections::BTreeMap::new();
        for (name, value) in pairs {
            sorted.insert(SmolStr::new(name), SmolStr::new(value));
        }
        Labels((!sorted.is_empty()).then(|| sorted.into_iter().collect()))
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pairs().hash(state);
    }
}

impl fmt::Display for Labels {
    /// `{a="b", c="d"}`, nothing for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(std::collections::BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[derive(Clone, Debug)]
enum MatchOp {
    Equal(SmolStr),
    NotEqual(SmolStr),
    Regex(Arc<regex_lite::Regex>, SmolStr),
    NotRegex(Arc<regex_lite::Regex>, SmolStr),
}

/// One condition on one label: `name="v"`, `name!="v"`, `name=~"re"`, `name!~"re"`. A missing label counts as the
/// empty text, and a regular expression is anchored at both ends, as in Alertmanager.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: SmolStr,
    op: MatchOp,
}

/// Why a matcher's text is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MatcherError {
    #[error("`{0}` is no matcher; write name=\"value\", name!=\"value\", name=~\"regex\" or name!~\"regex\"")]
    Syntax(String),
    #[error("the regular expression of `{matcher}` is wrong: {reason}")]
    Regex { matcher: String, reason: String },
}

impl Matcher {
    pub fn equal(name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Matcher { name: SmolStr::new(name), op: MatchOp::Equal(SmolStr::new(value)) }
    }

    pub fn label(&self) -> &str {
        &self.name
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        match &self.op {
            MatchOp::Equal(wanted) => value == wanted,
            MatchOp::NotEqual(unwanted) => value != unwanted,
            MatchOp::Regex(regex, _) => regex.is_match(value),
            MatchOp::NotRegex(regex, _) => !regex.is_match(value),
        }
    }
}

impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let syntax = || MatcherError::Syntax(text.to_owned());
        let at = text.find(['=', '!']).ok_or_else(syntax)?;
        let name = text[..at].trim();
        let well_named = name.chars().enumerate().all(|(index, letter)| {
            letter == '_' || letter.is_ascii_alphabetic() || (index > 0 && letter.is_ascii_digit())
        });
        if name.is_empty() || !well_named {
            return Err(syntax());
        }
        let rest = &text[at..];
        let (op, rest) = ["=~", "!~", "!=", "="]
            .into_iter()
            .find_map(|op| rest.strip_prefix(op).map(|rest| (op, rest.trim())))
            .ok_or_else(syntax)?;
        let value = match rest.strip_prefix('"') {
            Some(_) => serde_json::from_str::<String>(rest).map_err(|_| syntax())?,
            None if rest.contains(['"', ' ', '=']) => return Err(syntax()),
            None => rest.to_owned(),
        };
        let regex = |value: &str| {
            regex_lite::Regex::new(&format!("^(?s:{value})$"))
                .map(Arc::new)
                .map_err(|error| MatcherError::Regex { matcher: text.to_owned(), reason: error.to_string() })
        };
        let op = match op {
            "=~" => MatchOp::Regex(regex(&value)?, value.into()),
            "!~" => MatchOp::NotRegex(regex(&value)?, value.into()),
            "!=" => MatchOp::NotEqual(value.into()),
            _ => MatchOp::Equal(value.into()),
        };
        Ok(Matcher { name: name.into(), op })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, value) = match &self.op {
            MatchOp::Equal(value) => ("=", value),
            MatchOp::NotEqual(value) => ("!=", value),
            MatchOp::Regex(_, value) => ("=~", value),
            MatchOp::NotRegex(_, value) => ("!~", value),
        };
        write!(f, "{}{op}{value:?}", self.name)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Matcher {}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// All of its matchers must match; none means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(pub Vec<Matcher>);

impl Selector {
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|matcher| matcher.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        [("region", "eu-west"), ("tier", "web")].into_iter().collect()
    }

    #[test]
    fn matchers_mean_what_they_mean_in_alertmanager() {
        for (text, expected) in [
            (r#"tier="web""#, true),
            ("tier=web", true),
            (r#"tier != "db""#, true),
            (r#"region=~"eu""#, false),
            (r#"region=~"eu.*|us""#, true),
            (r#"missing="""#, true),
            (r#"missing!~".+""#, true),
        ] {
            let matcher: Matcher = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(matcher.matches(&labels()), expected, "{text}");
            assert_eq!(matcher.to_string().parse::<Matcher>().as_ref(), Ok(&matcher));
        }
    }

    #[test]
    fn a_wrong_matcher_says_what_is_wrong() {
        for text in ["tier", r#"9x="a""#, r#"tier="web" and more"#] {
            assert!(matches!(text.parse::<Matcher>(), Err(MatcherError::Syntax(_))), "{text}");
        }
        assert!(matches!(r#"tier=~"(""#.parse::<Matcher>(), Err(MatcherError::Regex { .. })));
    }
}
