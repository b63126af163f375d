//! Rules, ladders, schedules and remediations.

use super::{Form, Others, SEVERITIES, Section, key};

/// The most runs of one rung or schedule at a time.
const MAX_BATCH: u32 = 10_000;

pub(crate) static RULES_FILE: Section = Section {
    title: "rules file",
    place: "rules/**/*.yaml",
    about: "Rules with the defaults, settings and ladders of their file.",
    one_of: &[],
    not_built: &["remediations", "schedules", "metrics"],
    others: Others::Extensions,
    keys: &[
        key("defaults", Form::Defaults(&RULE), "Keys that hold for every rule of the file: maps merge, all else is replaced, `null` takes a default away. Not `alert`.").example("{ for: 2m, labels: { team: shop } }"),
        key("rules", Form::List(&RULE), "The rules.").example("[{ alert: Down, when: 'unhealthy(\"http\")' }]"),
        key("settings", Form::Settings, "Named values. Two rules files cannot set the same value; `selfheal.yaml` and deployments stand above them.").example("{ cpu_percent: { warning: 80 } }"),
        key("ladders", Form::Ladders(&RUNG), "Named ladders that `remediate` may name.").example("{ exhaustion: [scale-up, restart] }"),
    ],
};

pub(crate) static RULE: Section = Section {
    title: "rule",
    place: "rules/**/*.yaml: rules[]",
    about: "A condition that raises an alert. Every rule has `when` or `levels`.",
    one_of: &[],
    not_built: &["was"],
    others: Others::Refused,
    keys: &[
        key("alert", Form::Name, "Its name, unique in the policy and not that of a built-in alert.").required().example("HighCpu"),
        key("description", Form::Text, "For people who read the file.").example("sustained CPU pressure"),
        key("enabled", Form::Boolean, "`false` takes the rule out; its mistakes are still reported.").default("true").example("false"),
        key("select", Form::Selector, "The deployments that the rule watches.").unset("all").example("{ tier: web }"),
        key("per", Form::TextList, "The labels of the scope: one alert for each combination of their values. `[]` is the whole fleet.").default("[deployment]").example("[region]"),
        key("value", Form::Expression, "The number that the alert carries, `value` in conditions and templates.").example("'avg(\"cpu_percent\", \"5m\")'"),
        key("when", Form::Condition, "The alert is raised while this is true. Required unless the rule has `levels`.").example("'value > 80'"),
        key("clear_when", Form::Condition, "The alert resolves once this is true.").unset("`when` known to be false").example("'value < 70'"),
        key("for", Form::Duration, "How long `when` must be true before the alert fires.").default("0s").example("2m"),
        key("keep_firing_for", Form::Duration, "How long the alert goes on firing after it would resolve.").default("0s").example("1m"),
        key("severity", Form::Word(SEVERITIES), "The severity.").default("warning").example("critical"),
        key("levels", Form::Levels(&LEVEL), "A condition for each severity, instead of `when` and `severity`. The rule's keys are each level's defaults.").example("{ warning: 'value > 80', critical: 'value > 95' }"),
        key("no_data", Form::Word(&["keep", "resolve", "alert"]), "What happens to a firing alert without data: it is kept, resolved, or kept with the built-in alert `NoData`.").default("keep").example("alert"),
        key("cooldown", Form::Duration, "Firing again within this time is a relapse.").default("0s").example("30m"),
        key("labels", Form::TextMap, "Labels of the alert, beside `alertname`, `severity`, the scope and the deployment's labels.").example("{ team: shop }"),
        key("summary", Form::Template, "The first line of notifications.").unset("a built-in text").example("\"{{ deployment }}: CPU {{ value | round(1) }} %\""),
        key("annotations", Form::TemplateMap, "More texts of the alert, by name.").example("{ runbook_url: \"https://example.com/{{ deployment }}\" }"),
        key("remediate", Form::Ladder(&RUNG), "What repairs the alert: a playbook, a named ladder, or a list of rungs.").unset("no repair").example("[restart]"),
        key("routine", Form::Boolean, "`true`: upkeep such as autoscaling. People are notified only if a run fails or is refused for 15m; recurrence and storm do not count it.").default("false").example("true"),
        key("mode", Form::Word(&["live", "shadow"]), "`shadow`: evaluated and recorded; nobody is notified and nothing is repaired.").default("live").example("shadow"),
    ],
};

pub(crate) static LEVEL: Section = Section {
    title: "level",
    place: "rules/**/*.yaml: rules[].levels.SEVERITY",
    about: "The condition of one severity.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("when", Form::Condition, "The level holds while this is true.").required().example("'value > 95'"),
        key("clear_when", Form::Condition, "The level ends once this is true.")
            .unset("the rule's")
            .example("'value < 90'"),
        key("for", Form::Duration, "How long `when` must be true.").unset("the rule's").example("1m"),
        key("keep_firing_for", Form::Duration, "How long the level goes on after it would end.")
            .unset("the rule's")
            .example("1m"),
        key("remediate", Form::Ladder(&RUNG), "What repairs the alert at this level; `null` is no repair.")
            .unset("the rule's; for `info` none")
            .example("[restart]"),
    ],
};

pub(crate) static RUNG: Section = Section {
    title: "rung",
    place: "rules/**/*.yaml: rules[].remediate[]",
    about: "One attempt of a ladder: a playbook and how it is run.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("playbook", Form::Text, "The playbook.").required().example("restart"),
        key("with", Form::Parameters, "The playbook's inputs. Templates see the alert.").example("{ grace: 10s }"),
        key("if", Form::Condition, "While this is false the rung is skipped.").example("'fact(\"replicas\") < 5'"),
        key(
            "on",
            Form::TextOr(&RUNG_ON),
            "The deployments: an id, a template that gives an id, or a map. Each has a run of its own.",
        )
        .unset("the deployment of the alert's scope")
        .example("{ firing: NewVersionSick }"),
        key("approval", Form::Word(&["required"]), "A person approves each run before it begins.").example("required"),
        key("batch", Form::Count(1, MAX_BATCH), "How many of several deployments are repaired at a time.")
            .unset("as many as the guards allow")
            .example("2"),
        key("pause", Form::Duration, "The wait between one batch and the next; needs `batch`.")
            .default("0s")
            .example("1m"),
        key(
            "repeat",
            Form::PositiveDuration,
            "The rung is run again after this time while the alert fires; at least 1s.",
        )
        .example("3m"),
        key("give_up", Form::PositiveDuration, "A refusal that may pass is reported to people after this time.")
            .unset("30m; 15m for a `routine` rule")
            .example("5m"),
    ],
};

pub(crate) static RUNG_ON: Section = Section {
    title: "rung's `on`",
    place: "rules/**/*.yaml: rules[].remediate[].on",
    about: "Several deployments.",
    one_of: &["firing", "select"],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("firing", Form::Text, "Those on which this rule fires.").example("NewVersionSick"),
        key("select", Form::Selector, "Those that are listed and match.").example("{ tier: web }"),
    ],
};

pub(crate) static SCHEDULE: Section = Section {
    title: "schedule",
    place: "selfheal.yaml: schedules[]",
    about: "A playbook that runs at given times.",
    one_of: &["cron", "every"],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Name, "Unique; the identity under which selfheal remembers the schedule.").required().example("backup-db"),
        key("enabled", Form::Boolean, "`false` takes the schedule out; its mistakes are still reported.").default("true").example("false"),
        key("playbook", Form::Text, "The playbook.").required().example("backup"),
        key("with", Form::Parameters, "The playbook's inputs.").example("{ keep: 14 }"),
        key("select", Form::Selector, "The listed deployments, each in a run of its own; `{}` is all.").required().example("{ tier: db }"),
        key("cron", Form::Text, "Minute, hour, day of the month, month and weekday.").example("\"0 3 * * mon-fri\""),
        key("timezone", Form::Text, "The time zone of `cron`.").default("UTC").only_with(&["cron"]).example("Europe/Madrid"),
        key("every", Form::PositiveDuration, "An interval from 1m to 366d, counted from the Unix epoch and moved by a hash of the name.").example("7d"),
        key("jitter", Form::Duration, "Each deployment's run begins up to this much later; at most 1d, and not longer than `every`.").default("0s").example("10m"),
        key("at_once", Form::Count(1, MAX_BATCH), "The most runs of the schedule at a time.").default("1").example("5"),
        key("catch_up", Form::Duration, "A time that was missed or refused is made up once while it is not older than this; at most 7d, and never with a disrupting verb.").default("0s").example("1h"),
    ],
};

pub(crate) static REMEDIATION: Section = Section {
    title: "remediation",
    place: "selfheal.yaml: remediations[]",
    about: "A ladder for alerts of other systems.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Name, "Unique among the remediations.").required().example("pod-down"),
        key("enabled", Form::Boolean, "`false` takes the remediation out; its mistakes are still reported.")
            .default("true")
            .example("false"),
        key("matchers", Form::Selector, "The alerts, at least one matcher; all must match.")
            .required()
            .example("['alertname=\"PodDown\"']"),
        key("on", Form::TextOr(&RUNG_ON), "The deployments, as on a rung. Required unless every rung has its own.")
            .example("\"{{ labels.deployment }}\""),
        key("remediate", Form::Ladder(&RUNG), "The ladder, as of a rule.").required().example("[restart]"),
        key("cooldown", Form::Duration, "Firing again within this time is a relapse.").default("0s").example("30m"),
    ],
};
