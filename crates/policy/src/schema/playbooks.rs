//! Playbooks, their inputs and steps.

use super::{Form, MAX_THRESHOLD, MODES, Others, Section, key};

/// The most tries of one step.
const MAX_ATTEMPTS: u32 = 100;

pub(crate) static PLAYBOOK: Section = Section {
    title: "playbook",
    place: "playbooks/**/*.yaml",
    about: "Steps that repair a deployment. A file may hold several playbooks, separated by `---`.",
    one_of: &[],
    not_built: &[],
    others: Others::Extensions,
    keys: &[
        key("playbook", Form::Name, "Its name, unique in the policy.").required().example("restart"),
        key("description", Form::Text, "For people who read the file.")
            .example("Restart, and see that it answers again"),
        key("enabled", Form::Boolean, "`false` takes the playbook out; its mistakes are still reported.")
            .default("true")
            .example("false"),
        key(
            "mode",
            Form::Word(MODES),
            "`approve`: a person approves each run of it; `observe`: runs are only announced.",
        )
        .default("auto")
        .example("approve"),
        key("inputs", Form::MapOf(&INPUT), "Values that whoever runs the playbook gives it, by name.")
            .example("{ grace: { type: duration, default: 10s } }"),
        key("steps", Form::List(&STEP), "The steps, in order; the first failure stops them.")
            .required()
            .example("[{ action: restart }]"),
        key(
            "on_failure",
            Form::Word(&["stop", "undo"]),
            "`undo` runs the `undo` of the steps that were done, the last first.",
        )
        .default("stop")
        .example("undo"),
        key("rescue", Form::List(&STEP), "Steps after a failed step. They see `failed.id` and `failed.message`.")
            .example("[{ action: rollback }]"),
        key("finally", Form::List(&STEP), "Steps at the end of every run in which an acting step began.")
            .example("[{ action: logs }]"),
        key("verify", Form::Map(&VERIFY), "What proves the cure.").example("{ until: 'healthy(\"http\")' }"),
    ],
};

pub(crate) static INPUT: Section = Section {
    title: "input",
    place: "playbooks/**/*.yaml: inputs.NAME",
    about: "An input of a playbook. Its name has letters, digits and `_`.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key(
            "type",
            Form::Word(&["string", "integer", "number", "boolean", "duration", "size", "list", "secret"]),
            "The type.",
        )
        .required()
        .example("duration"),
        key("default", Form::Anything, "The value where none is given. A secret has none.")
            .unset("the input must be given")
            .example("10s"),
        key("enum", Form::AnyList, "The allowed values.").unset("all of the type").example("[fast, safe]"),
        key("description", Form::Text, "For people who read the file.").example("how long to wait"),
    ],
};

pub(crate) static VERIFY: Section = Section {
    title: "verify",
    place: "playbooks/**/*.yaml: verify",
    about: "What proves that a run cured.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("until", Form::Condition, "True once the symptom is gone.")
            .unset("the rule's `clear_when`, or its `when` known to be false")
            .example("'healthy(\"http\")'"),
        key("hold", Form::Duration, "How long `until` must be true; shorter than `within`.")
            .default("30s")
            .example("1m"),
        key("within", Form::PositiveDuration, "The time after which the run is judged not cured or inconclusive.")
            .default("5m")
            .example("10m"),
    ],
};

pub(crate) static STEP: Section = Section {
    title: "step",
    place: "playbooks/**/*.yaml: steps[]",
    about: "A step does one thing.",
    one_of: &[
        "action",
        "wait",
        "assert",
        "check",
        "approve",
        "notify",
        "signal",
        "set_check",
        "silence",
        "playbook",
        "parallel",
    ],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("id", Form::Text, "The name under which later steps know it; letters, digits, `_`, `-` and `.`.")
            .unset("`step-1`, `rescue-1`, `finally-1`, …; in `parallel` the id of that step with `-1`, …")
            .example("restart"),
        key("if", Form::Condition, "While this is false the step is skipped.").example("'fact(\"replicas\") > 0'"),
        key("action", Form::Text, "A verb of the deployment's adapter.").example("restart"),
        key("with", Form::Parameters, "Parameters of `action`, or inputs of `playbook`.")
            .only_with(&["action", "playbook"])
            .example("{ grace: 10s }"),
        key("deployment", Form::Text, "Another deployment to act on.")
            .only_with(&["action"])
            .unset("the deployment of the run")
            .example("ci"),
        key("undo", Form::Map(&UNDO), "What takes the action back.")
            .only_with(&["action"])
            .example("{ action: rollback }"),
        key("retry", Form::Map(&RETRY), "More tries after a failure that the adapter calls transient.")
            .only_with(&["action"])
            .unset("one try")
            .example("{ attempts: 3, backoff: 2s..30s }"),
        key("wait", Form::DurationOr(&WAIT), "Waits for a time, or until a condition is true.").example("30s"),
        key("assert", Form::Condition, "Fails the run unless this is true.")
            .example("'steps.restart.outcome == \"done\"'"),
        key("message", Form::Template, "Why `assert` failed.")
            .only_with(&["assert"])
            .unset("a built-in text")
            .example("\"it did not restart\""),
        key("check", Form::Text, "Runs this check of the deployment now.").example("http"),
        key("approve", Form::Map(&APPROVE), "Waits for a person. Meanwhile the run holds no lease.")
            .example("{ ask: oncall, timeout: 20m }"),
        key("notify", Form::Map(&NOTIFY), "Sends a message.").example("{ receiver: oncall, text: \"restarted\" }"),
        key("signal", Form::Map(&SIGNAL), "Emits a signal.").example("{ name: rolled_back }"),
        key("set_check", Form::Map(&SET_CHECK), "Changes a check of the deployment for a time.")
            .example("{ name: http, timeout: 60s, for: 1h }"),
        key("silence", Form::PositiveDuration, "Silences the alert for so long, at most 7d; its repair goes on.")
            .example("30m"),
        key("playbook", Form::Text, "Runs another playbook; circles are an error.").example("restart"),
        key(
            "parallel",
            Form::List(&STEP),
            "From 2 to 20 steps at the same time; none of them is `approve` or `parallel`.",
        )
        .example("[{ action: restart }, { action: restart, deployment: ci }]"),
        key("timeout", Form::PositiveDuration, "The limit of one try. Not with `approve`.")
            .unset("5m for `action`; the run's deadline for `playbook` and `parallel`; the time of a `wait`; else 60s")
            .example("60s"),
        key("best_effort", Form::Boolean, "`true`: a failure does not stop the run. Not with `approve`.")
            .default("false")
            .example("true"),
    ],
};

pub(crate) static UNDO: Section = Section {
    title: "undo",
    place: "playbooks/**/*.yaml: steps[].undo",
    about: "An action that takes a step back.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("action", Form::Text, "A verb of the adapter.").required().example("scale"),
        key("with", Form::Parameters, "Its parameters.").example("{ replicas: 2 }"),
        key("deployment", Form::Text, "Another deployment to act on.").unset("the deployment of the run").example("ci"),
        key("timeout", Form::PositiveDuration, "The limit of one try.").default("5m").example("60s"),
        key("retry", Form::Map(&RETRY), "More tries after a failure that the adapter calls transient.")
            .unset("one try")
            .example("{ attempts: 3 }"),
    ],
};

pub(crate) static RETRY: Section = Section {
    title: "retry",
    place: "playbooks/**/*.yaml: steps[].retry",
    about: "More tries of an action.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("attempts", Form::Count(1, MAX_ATTEMPTS), "The number of tries, the first included.")
            .default("3")
            .example("5"),
        key(
            "backoff",
            Form::Notation("a duration, or two with `..` between them", "^[0-9].*$"),
            "The wait after the first try, which doubles up to the second duration.",
        )
        .default("2s..30s")
        .example("1s..10s"),
    ],
};

pub(crate) static WAIT: Section = Section {
    title: "wait",
    place: "playbooks/**/*.yaml: steps[].wait",
    about: "A wait for a condition.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("until", Form::Condition, "The wait ends once this is true.").required().example("'healthy(\"http\")'"),
        key("within", Form::PositiveDuration, "The step fails after this time.").default("5m").example("10m"),
    ],
};

pub(crate) static NOTIFY: Section = Section {
    title: "notify",
    place: "playbooks/**/*.yaml: steps[].notify",
    about: "A message.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("receiver", Form::Text, "The receiver.").required().example("oncall"),
        key("text", Form::Template, "The text.").required().example("\"failed at {{ failed.id }}\""),
    ],
};

pub(crate) static SIGNAL: Section = Section {
    title: "signal",
    place: "playbooks/**/*.yaml: steps[].signal",
    about: "A signal about the deployment of the run.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Name, "The signal.").required().example("rolled_back"),
        key("fields", Form::Parameters, "Its fields.").example("{ version: \"{{ steps.deploy.output }}\" }"),
    ],
};

pub(crate) static APPROVE: Section = Section {
    title: "approve",
    place: "playbooks/**/*.yaml: steps[].approve",
    about: "A request to a person. Without an answer it counts as denied.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("ask", Form::Text, "The receiver of the request.").unset("the receivers of the alert").example("oncall"),
        key("by", Form::Word(&["operator", "approver", "admin"]), "The role that may answer.")
            .default("approver")
            .example("admin"),
        key("timeout", Form::PositiveDuration, "The time for an answer; at most 7d.").default("30m").example("1h"),
    ],
};

pub(crate) static SET_CHECK: Section = Section {
    title: "set_check",
    place: "playbooks/**/*.yaml: steps[].set_check",
    about: "Other figures for a check, for a time. At least one figure is written.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Text, "The check.").required().example("http"),
        key("for", Form::PositiveDuration, "How long; at most 7d.").required().example("1h"),
        key("every", Form::PositiveDuration, "Its interval; at least 100ms.").unset("as in the policy").example("1m"),
        key("timeout", Form::PositiveDuration, "The limit of one try.").unset("as in the policy").example("60s"),
        key("failure_threshold", Form::Count(1, MAX_THRESHOLD), "Unhealthy verdicts in a row.")
            .unset("as in the policy")
            .example("5"),
        key("success_threshold", Form::Count(1, MAX_THRESHOLD), "Healthy verdicts in a row.")
            .unset("as in the policy")
            .example("1"),
    ],
};
