//! `guards:` and its overrides.

use super::{Form, Key, Others, Section, TIME_INTERVAL, key};

/// The most runs at a time that a limit may allow.
const MAX_RUNNING: u32 = 10_000;
/// The most runs, failures or starts that a limit may count: more than that is not remembered.
pub(crate) const MAX_COUNT: u32 = 1_000;
/// The largest fleet that `of_at_least` may ask for.
const MAX_FLEET: u32 = 10_000;
/// The most verdicts that are remembered of a check.
const MAX_VERDICTS: u32 = 100;

/// The modes of guards and playbooks, as they are written.
pub(crate) const MODES: &[&str] = &["auto", "approve", "observe"];

const PART: Form = Form::Notation("a percentage above 0%", "^[0-9. ]+%$");
const OF_GUARDS: &str = "the limit of `guards`";

const MODE: Key = key("mode", Form::Word(MODES), "Who decides about a run: selfheal, a person (`approve`), or nobody (`observe`: the run is only announced). The strictest mode of guards, overrides and playbook holds.").default("auto").example("approve");
const FREEZE: Key = key("freeze", Form::TextsOrMaps(&TIME_INTERVAL), "Time intervals in which nothing acts by itself: names of `time_intervals`, or time intervals as they are written there.").example("[office-hours]");
const MAX_EVENT_AGE: Key =
    key("max_event_age", Form::PositiveDuration, "Evidence older than this starts no run; at most 30d.")
        .default("2m")
        .example("1m");
const ACT_AFTER: Key =
    key("act_after", Form::Duration, "The wait between a firing alert and its first run; at most 30d.")
        .default("5s")
        .example("30s");
const GRACE: Key = key(
    "grace",
    Form::Duration,
    "The time after a change to a deployment in which nothing else acts on it; at most 30d.",
)
.default("2m")
.example("5m");
const DEPENDENCY_HOLD: Key = key(
    "dependency_hold",
    Form::Duration,
    "The time for which a notification waits for an alert of a dependency that may explain it; at most 30d.",
)
.default("30s")
.example("1m");
const DEPENDENCY_WAIT: Key = key(
    "dependency_wait",
    Form::Duration,
    "The longest time for which a notification is held back while a dependency is out; at most 30d.",
)
.default("15m")
.example("30m");
const RECURRENCE_KEY: Key = key(
    "recurrence",
    Form::Map(&RECURRENCE),
    "An alert that is cured too often is not cured: the ladder goes on with the next rung.",
)
.example("{ cured: 3, within: 24h }");
const PER_DEPLOYMENT_KEY: Key =
    key("per_deployment", Form::Map(&PER_DEPLOYMENT), "Limits the runs on one deployment.").example("{ rate: 3/1h }");
const VELOCITY_KEY: Key =
    key("velocity", Form::Map(&VELOCITY), "Limits the disrupting runs in a group of deployments.")
        .example("{ disrupt: 5/10m, group_by: [tier] }");
const BLAST_RADIUS_KEY: Key =
    key("blast_radius", Form::Map(&BLAST_RADIUS), "Keeps a part of each group of deployments untouched.")
        .example("{ min_healthy: 50% }");
const RUN_DEADLINE: Key = key(
    "run_deadline",
    Form::PositiveDuration,
    "A run that takes longer ends inconclusive and raises `RunStuck`; at most 30d.",
)
.default("1h")
.example("30m");

pub(crate) static GUARDS: Section = Section {
    title: "guards section",
    place: "selfheal.yaml: guards",
    about: "Limits around every run of a playbook. All limits are finite: counts are at most 1,000 and times at most 30d.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        MODE,
        FREEZE,
        MAX_EVENT_AGE,
        key("start_grace", Form::Duration, "The time after a start of selfheal in which nothing acts; at most 30d.")
            .default("2m")
            .example("5m"),
        ACT_AFTER,
        key(
            "sensor",
            Form::Map(&SENSOR),
            "Nearly all deployments become unhealthy at once: suspect the monitoring, and repair nothing.",
        )
        .example("{ sick: 80% }"),
        key("storm", Form::Map(&STORM), "Too many ladders start at once: repair nothing.")
            .example("{ ladders: 50/1m }"),
        key("flap", Form::Map(&FLAP), "A check that changes its verdict too often starts no run.")
            .example("{ start: 50%, stop: 25% }"),
        GRACE,
        DEPENDENCY_HOLD,
        DEPENDENCY_WAIT,
        key("breaker", Form::Map(&BREAKER), "A playbook that does not cure is taken out of service for a time.")
            .example("{ failures: 3 }"),
        RECURRENCE_KEY,
        PER_DEPLOYMENT_KEY,
        key("per_playbook", Form::Map(&PER_PLAYBOOK), "Limits the runs of one playbook.").example("{ rate: 10/1h }"),
        VELOCITY_KEY,
        key("max_running", Form::Count(1, MAX_RUNNING), "The most runs at a time.").default("5").example("20"),
        BLAST_RADIUS_KEY,
        RUN_DEADLINE,
        key(
            "overrides",
            Form::List(&GUARDS_OVERRIDE),
            "Other limits for some deployments. Of each key the last override that selects the deployment holds.",
        )
        .example("[{ select: { tier: db }, mode: approve }]"),
    ],
};

pub(crate) static GUARDS_OVERRIDE: Section = Section {
    title: "guards override",
    place: "selfheal.yaml: guards.overrides[]",
    about: "Other limits for the deployments that `select` takes. At least one limit is written.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("select", Form::Selector, "The deployments.").required().example("{ tier: db }"),
        MODE.unset(OF_GUARDS),
        FREEZE.unset(OF_GUARDS),
        MAX_EVENT_AGE.unset(OF_GUARDS),
        ACT_AFTER.unset(OF_GUARDS),
        GRACE.unset(OF_GUARDS),
        DEPENDENCY_HOLD.unset(OF_GUARDS),
        DEPENDENCY_WAIT.unset(OF_GUARDS),
        RECURRENCE_KEY.unset(OF_GUARDS),
        PER_DEPLOYMENT_KEY.unset(OF_GUARDS),
        VELOCITY_KEY.unset(OF_GUARDS),
        BLAST_RADIUS_KEY.unset(OF_GUARDS),
        RUN_DEADLINE.unset(OF_GUARDS),
    ],
};

const fn guard(title: &'static str, place: &'static str, about: &'static str, keys: &'static [Key]) -> Section {
    Section { title, place, about, keys, one_of: &[], not_built: &[], others: Others::Refused }
}

const GROUP_BY: Key =
    key("group_by", Form::Texts, "Labels whose values form a group of deployments; `[]` is one group of all.")
        .default("[tier]")
        .example("[tier, region]");

pub(crate) static RECURRENCE: Section = guard(
    "recurrence guard",
    "selfheal.yaml: guards.recurrence",
    "Cured too often within a time is not cured.",
    &[
        key("cured", Form::Count(1, MAX_COUNT), "The number of cures that is too many.").default("3").example("5"),
        key("within", Form::PositiveDuration, "The time in which they count; at most 30d.").default("1d").example("6h"),
    ],
);

pub(crate) static PER_DEPLOYMENT: Section = guard(
    "per_deployment guard",
    "selfheal.yaml: guards.per_deployment",
    "The default is 3/1h.",
    &[key("rate", Form::Rate, "The most runs in a time; at most 1,000 in at most 30d.").required().example("3/1h")],
);

pub(crate) static PER_PLAYBOOK: Section = guard(
    "per_playbook guard",
    "selfheal.yaml: guards.per_playbook",
    "The default is 10/1h.",
    &[key("rate", Form::Rate, "The most runs in a time; at most 1,000 in at most 30d.").required().example("10/1h")],
);

pub(crate) static VELOCITY: Section = guard(
    "velocity guard",
    "selfheal.yaml: guards.velocity",
    "How fast capacity may be taken away.",
    &[
        key("disrupt", Form::Rate, "The most disrupting runs in a time, in each group.")
            .default("5/10m")
            .example("2/10m"),
        GROUP_BY,
    ],
);

pub(crate) static BLAST_RADIUS: Section = guard(
    "blast_radius guard",
    "selfheal.yaml: guards.blast_radius",
    "How many deployments of a group may be touched.",
    &[
        GROUP_BY,
        key("min_healthy", Form::Notation("a percentage, or a number of deployments", "^[0-9. ]+%?$"), "What must stay healthy in each group; a percentage is rounded up. Below it unhealthy deployments are repaired one at a time.").default("50%").example("2"),
        key("max_at_once", Form::Count(1, MAX_RUNNING), "The most runs in a group at a time.").default("3").example("1"),
    ],
);

pub(crate) static SENSOR: Section = guard(
    "sensor guard",
    "selfheal.yaml: guards.sensor",
    "When the monitoring is suspected.",
    &[
        key("sick", PART, "The part of the deployments with an adapter that became unhealthy.")
            .default("80%")
            .example("50%"),
        key("of_at_least", Form::Count(2, MAX_FLEET), "A smaller fleet than this is never suspected.")
            .default("5")
            .example("10"),
        key("within", Form::PositiveDuration, "The time within which they became unhealthy; at most 30d.")
            .default("2m")
            .example("5m"),
    ],
);

pub(crate) static STORM: Section = guard(
    "storm guard",
    "selfheal.yaml: guards.storm",
    "When too many ladders start.",
    &[
        key("ladders", Form::Rate, "The rate of starting ladders above which nothing is repaired.")
            .default("50/1m")
            .example("20/1m"),
        key(
            "cool_down",
            Form::PositiveDuration,
            "The storm is over once the rate was not exceeded for so long; at most 30d.",
        )
        .default("10m")
        .example("30m"),
    ],
);

pub(crate) static FLAP: Section = guard(
    "flap guard",
    "selfheal.yaml: guards.flap",
    "When a check counts as flapping.",
    &[
        key("start", PART, "The part of changed verdicts at which it begins to flap.").default("50%").example("60%"),
        key("stop", PART, "The part of changed verdicts at which it ends; less than `start`.")
            .default("25%")
            .example("20%"),
        key("of", Form::Count(2, MAX_VERDICTS), "The number of newest verdicts that count.")
            .default("20")
            .example("10"),
    ],
);

pub(crate) static BREAKER: Section = guard(
    "breaker guard",
    "selfheal.yaml: guards.breaker",
    "When a playbook is taken out of service.",
    &[
        key("failures", Form::Count(1, MAX_COUNT), "The number of runs that did not cure.").default("3").example("5"),
        key("deployments", Form::Count(1, MAX_COUNT), "The number of different deployments on which they were.")
            .default("2")
            .example("3"),
        key("within", Form::PositiveDuration, "The time in which they count; at most 30d.").default("1h").example("6h"),
        key("probe_after", Form::PositiveDuration, "The time after which one run may try again; at most 30d.")
            .default("30m")
            .example("1h"),
    ],
);
