//! What a rule's conditions come to for one scope, piece by piece.

use super::Detect;
use selfheal_contract::explanation::{Explanation, LevelExplained, Part};
use selfheal_messages::Context;
use selfheal_model::AlertKey;
use selfheal_policy::rule::Rule;
use selfheal_script::{Condition, Expect, Names, ScriptHost, Template, Truth};

/// What there is to say about the scope itself before anything is evaluated.
pub enum Scope {
    Known,
    /// Why the rule says nothing about it.
    Unknown(String),
}

pub(super) fn word(truth: &Truth) -> String {
    match truth {
        Truth::True => "true".to_owned(),
        Truth::False => "false".to_owned(),
        Truth::NoData => "no data".to_owned(),
        Truth::Error(why) => why.to_string(),
    }
}

/// The operands of `&&` and `||` at the top of a script that is one expression.
fn operands(source: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0i32, 0);
    let mut quote = None;
    let bytes = source.as_bytes();
    for (place, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if *byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'' | b'`') => quote = Some(*byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth -= 1,
            // statements are no operands
            (None, b';') => return Vec::new(),
            (None, b'&' | b'|') if depth == 0 && bytes.get(place + 1) == Some(byte) => {
                parts.extend(source.get(begin..place));
                begin = place + 2;
            }
            _ => {}
        }
    }
    parts.extend(source.get(begin..));
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

impl Detect {
    pub fn explain(&self, key: &AlertKey, explained: &mut Explanation) -> Scope {
        if key.is_posted() {
            explained.because.push(self.posted_sentence(key));
            return Scope::Known;
        }
        let Some(state) = self.rules.get(&key.rule) else {
            return Scope::Unknown(format!("there is no rule {} in the policy", key.rule));
        };
        let rule = state.rule.clone();
        let Some(scope) = state.scope(&key.scope, &self.subjects) else {
            return Scope::Unknown(self.why_no_scope(&rule, key));
        };
        let asked = self.ask_rule(self.now, state, &key.scope, scope, None);
        explained.value = asked.value;
        let context = Context {
            deployment: key.deployment(),
            alert: Some(key.clone()),
            value: asked.value,
            ..Context::default()
        };
        let host = ScriptHost::new(&[]).ok();
        let settings = self.policy.settings_for(context.deployment.as_ref());
        let names = Names { settings: Some(&settings), has_value: rule.value.is_some(), ..Names::default() };
        let part = |text: &str| {
            let (condition, _) = Condition::compile(host.as_ref()?, text, Expect::Bool, &names).ok()?;
            let truth = self.with_reader(self.now, &context, |vars, reader| condition.truth(vars, reader));
            Some(Part { text: text.to_owned(), comes_to: word(&truth) })
        };
        for (level, answer) in rule.levels.iter().zip(&asked.levels) {
            let source = level.when.source();
            let several = Some(operands(source)).filter(|parts| parts.len() > 1).unwrap_or_default();
            explained.levels.push(LevelExplained {
                severity: level.severity,
                when: Part { text: source.to_owned(), comes_to: word(&answer.when) },
                // one that calls a function of the policy's own is told by the whole
                parts: several.into_iter().filter_map(part).collect(),
                clear_when: level
                    .clear_when
                    .as_ref()
                    .map(|clear| Part { text: clear.source().to_owned(), comes_to: word(&answer.clear) }),
                for_seconds: level.for_.as_secs_f64(),
                keep_firing_for_seconds: level.keep_firing_for.as_secs_f64(),
            });
        }
        self.explain_reads(&rule, &context, explained);
        Scope::Known
    }

    fn explain_reads(&self, rule: &Rule, context: &Context, explained: &mut Explanation) {
        let levels = rule.levels.iter().flat_map(|level| std::iter::once(&level.when).chain(&level.clear_when));
        for read in rule.value.iter().chain(levels).flat_map(|condition| condition.reads()) {
            let text = read.to_string();
            if explained.reads.iter().any(|known| known.text == text) {
                continue;
            }
            let comes_to = match Template::compile(&format!("{{{{ {text} }}}}"), &Names::default()) {
                Ok(template) => {
                    let told = self.with_reader(self.now, context, |vars, reader| template.render(vars, reader));
                    told.unwrap_or_else(|_| "no data".to_owned())
                }
                Err(_) => continue,
            };
            explained.reads.push(Part { text, comes_to });
        }
    }

    /// Why the rule has nothing to say about a scope.
    fn why_no_scope(&self, rule: &Rule, key: &AlertKey) -> String {
        let Some(deployment) = key.deployment() else {
            return format!("nothing is known that the scope {} of {} is about", key.scope, key.rule);
        };
        let Some(subject) = self.subjects.get(&deployment) else {
            return format!("{deployment} is not listed, and no event about it came");
        };
        let refusing: Vec<String> =
            rule.select.0.iter().filter(|one| !one.matches(&subject.labels)).map(ToString::to_string).collect();
        if refusing.is_empty() {
            return format!("{} has no scope {}: its labels were never seen on what it reads", key.rule, key.scope);
        }
        format!("{} does not select {deployment}: {} does not match its labels", key.rule, refusing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::operands;

    #[test]
    fn a_condition_is_taken_apart_at_its_top() {
        assert_eq!(operands("a > 1 && (b || c) || f(\"x && y\")"), ["a > 1", "(b || c)", "f(\"x && y\")"]);
        assert_eq!(operands("value > 80"), ["value > 80"]);
        assert!(operands("let x = 1; x > 0 && true").is_empty());
    }
}
