//! Judge's questions and what it watches: the same evidence as a rule's, in the context of an alert or a run.

use smol_str::SmolStr;

use super::evidence::ScopeEvidence;
use super::{Detect, State, contrary};
use crate::engine::message::{Ask, Context, Question, Reply, Watch, Watched};
use crate::model::{Labels, Map, RuleName, Severity, Timestamp};
use crate::script::{Truth, Vars};

impl Detect {
    pub(super) fn replies(&self, now: Timestamp, ask: &Ask) -> Vec<Reply> {
        let scope = scope_of(&ask.context);
        let (evidence, vars) = self.context(now, &ask.context, &scope);
        ask.questions
            .iter()
            .map(|question| match question {
                Question::Condition(condition) => {
                    let truth = condition.truth(&vars, &evidence);
                    Reply::Truth { truth, evidence: evidence.newest() }
                }
                Question::Level { rule, severity } => {
                    let (truth, _, at) = self.level(now, rule, *severity, &ask.context, &scope);
                    Reply::Truth { truth, evidence: at }
                }
                Question::Text(template) => Reply::Text(template.render(&vars, &evidence)),
                Question::Params(params) => {
                    let rendered: Result<Map, String> = params
                        .iter()
                        .map(|(name, param)| {
                            let value = param.render(&vars, &evidence).map_err(|why| format!("`{name}`: {why}"))?;
                            Ok((name.clone(), value))
                        })
                        .collect();
                    Reply::Params(rendered)
                }
            })
            .collect()
    }

    pub(super) fn watched(&self, now: Timestamp, watch: &Watch) -> Truth {
        let scope = scope_of(&watch.context);
        match &watch.what {
            Watched::Condition(condition) => {
                let (evidence, vars) = self.context(now, &watch.context, &scope);
                condition.truth(&vars, &evidence)
            }
            Watched::Clear { rule, severity } => self.level(now, rule, *severity, &watch.context, &scope).1,
        }
    }

    fn context<'a>(&'a self, now: Timestamp, context: &'a Context, scope: &'a Labels) -> (ScopeEvidence<'a>, Vars) {
        let rule = context.alert.as_ref().map(|key| &key.rule).filter(|rule| self.rules.get(rule).is_some());
        let members = self.members_of(rule, scope);
        let mut vars = self.vars(now, scope, &members);
        vars.labels = vars.labels.with(&context.labels);
        if let Some(id) = &context.deployment {
            vars.deployment = Some(SmolStr::new(id.as_str()));
        }
        vars.value = context.value;
        vars.severity = context.severity;
        vars.inputs = context.inputs.clone();
        vars.steps = context.steps.clone();
        vars.failed = context.failed.clone();
        (ScopeEvidence::new(self, now, scope, members, rule, context.cut), vars)
    }

    fn members_of(&self, rule: Option<&RuleName>, scope: &Labels) -> Vec<&State> {
        match (rule, scope.get("deployment")) {
            (Some(rule), _) => self.members(rule, scope),
            (None, Some(id)) => self.states.get(id).into_iter().collect(),
            (None, None) => Vec::new(),
        }
    }

    /// A rule's level in the context's scope: is it true, is it clear, and how new is what says so.
    fn level(
        &self,
        now: Timestamp,
        rule: &RuleName,
        severity: Severity,
        context: &Context,
        scope: &Labels,
    ) -> (Truth, Truth, Timestamp) {
        let Some(watched) = self.rules.get(rule) else {
            let gone = Truth::Error(SmolStr::new(format!("the rule {rule} is gone")));
            return (gone.clone(), gone, now);
        };
        let members = self.members(rule, scope);
        let mut vars = self.vars(now, scope, &members);
        vars.severity = Some(severity);
        let evidence = ScopeEvidence::new(self, now, scope, members, Some(rule), context.cut);
        if let Some(value) = &watched.rule.value {
            match value.number(&vars, &evidence) {
                Ok(value) => vars.value = value,
                Err(why) => {
                    let failed = Truth::Error(SmolStr::new(format!("value: {why}")));
                    return (failed.clone(), failed, now);
                }
            }
        }
        // a level that a save took away is judged by the one below it
        let level = watched.rule.levels.iter().rev().find(|level| level.severity <= severity);
        let Some(level) = level.or(watched.rule.levels.first()) else { return (Truth::NoData, Truth::NoData, now) };
        let when = level.when.truth(&vars, &evidence);
        let clear = level.clear_when.as_ref().map_or_else(|| contrary(&when), |clear| clear.truth(&vars, &evidence));
        (when, clear, evidence.newest())
    }
}

/// The alert's scope, else the deployment's own.
fn scope_of(context: &Context) -> Labels {
    match (&context.alert, &context.deployment) {
        (Some(alert), _) => alert.scope.clone(),
        (None, Some(id)) => Labels::default().with_label("deployment", id.as_str()),
        (None, None) => Labels::default(),
    }
}
