//! "Did you mean": the nearest name, and what is wrong with a path such as `settings.cpu_percent.critcal`.

use crate::names::{FAILED_MEMBERS, Names, Root, STEP_MEMBERS};
use selfheal_model::{Map, Value as Json};

/// The candidate nearest to `name` (Damerau-Levenshtein distance of at most 0 to 3, by length), if any.
pub(crate) fn near<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = name.to_lowercase();
    let allowed = match name.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Why a plain name of the language does not exist in this place.
pub(crate) fn not_here(name: &str) -> Option<String> {
    Some(match name {
        "value" => "the rule has no `value:`; add one, or write the expression itself here".to_owned(),
        "inputs" | "steps" => format!("`{name}` exists in playbooks only"),
        "failed" => "`failed` exists in `rescue` only".to_owned(),
        _ => return None,
    })
}

/// Code, message and help for a member that cannot be there.
pub(crate) type PathProblem = (&'static str, String, Option<String>);

/// The problem with the members after a plain name, where there certainly is one.
pub(crate) fn path_problem<S: AsRef<str>>(names: &Names<'_>, root: Root, path: &[S]) -> Option<PathProblem> {
    let first = path.first()?.as_ref();
    match root {
        Root::Deployment | Root::Value | Root::Severity => {
            let what = match root {
                Root::Deployment => "deployment",
                Root::Value => "value",
                _ => "severity",
            };
            let help = (what == "deployment")
                .then(|| format!("its labels are labels.{first}, what its adapter observed is fact(\"{first}\")"));
            Some(("unknown-variable", format!("`{what}` has no member `{first}`"), help))
        }
        Root::Labels => None,
        Root::Settings => {
            let settings = names.settings?;
            setting_problem(settings, path)
        }
        Root::Inputs => {
            let inputs = names.inputs?;
            missing(first, inputs.iter().map(String::as_str), "unknown-input", "an input")
        }
        Root::Steps => {
            let steps = names.steps?;
            missing(first, steps.iter().map(String::as_str), "unknown-step", "an earlier step").or_else(|| {
                let member = path.get(1)?.as_ref();
                missing(member, STEP_MEMBERS, "unknown-variable", "a member of a step")
            })
        }
        Root::Failed => missing(first, FAILED_MEMBERS, "unknown-variable", "a member of `failed`"),
    }
}

fn missing<'c>(
    name: &str,
    known: impl IntoIterator<Item = &'c str> + Clone,
    code: &'static str,
    what: &str,
) -> Option<PathProblem> {
    if known.clone().into_iter().any(|candidate| candidate == name) {
        return None;
    }
    let help = match near(name, known.clone()) {
        Some(found) => format!("did you mean `{found}`?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            if all.is_empty() { "there are none here".to_owned() } else { format!("there are: {}", all.join(", ")) }
        }
    };
    Some((code, format!("`{name}` is not {what}"), Some(help)))
}

/// A setting that the policy does not have.
pub(crate) fn setting_problem<S: AsRef<str>>(settings: &Map, path: &[S]) -> Option<PathProblem> {
    let mut holder = settings;
    for (index, name) in path.iter().enumerate() {
        let name = name.as_ref();
        let written: Vec<&str> = path[..=index].iter().map(AsRef::as_ref).collect();
        let Some(value) = holder.get(name) else {
            let before: Vec<&str> = path[..index].iter().map(AsRef::as_ref).collect();
            let prefix = before.iter().fold("settings".to_owned(), |text, part| text + "." + *part);
            let help = match near(name, holder.keys().map(String::as_str)) {
                Some(found) => format!("did you mean {prefix}.{found}?"),
                None if holder.is_empty() => "the policy has no settings; add it under `settings:`".to_owned(),
                None => {
                    let all: Vec<&str> = holder.keys().map(String::as_str).collect();
                    format!("there are: {}", all.join(", "))
                }
            };
            return Some(("unknown-setting", format!("there is no setting `{}`", written.join(".")), Some(help)));
        };
        match value {
            Json::Object(inner) => holder = inner,
            _ if index + 1 == path.len() => {}
            _ => {
                let message = format!("the setting `{}` is a value and has no members", written.join("."));
                return Some(("unknown-setting", message, None));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_meant() {
        assert_eq!(near("helthy", ["last", "healthy", "unhealthy"]), Some("healthy"));
        assert_eq!(near("Last", ["last", "healthy"]), Some("last"));
        assert_eq!(near("mean", ["last", "avg", "min"]), None);
        assert_eq!(near("xy", ["xz"]), None);
    }
}
