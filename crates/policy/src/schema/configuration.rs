//! `selfheal.yaml`: the file itself and its smaller sections.

use super::{
    ADAPTER, DEPLOYMENT, Form, GUARDS, INHIBIT_RULE, Others, RECEIVER, REMEDIATION, ROUTE, RUNG, SCHEDULE, SMTP,
    Section, key,
};

/// The severities of alerts, as they are written.
pub(crate) const SEVERITIES: &[&str] = &["info", "warning", "critical"];

pub(crate) static CONFIGURATION: Section = Section {
    title: "selfheal.yaml",
    place: "selfheal.yaml",
    about: "The configuration of a policy folder. Every folder has this file.",
    one_of: &[],
    not_built: &[],
    others: Others::Extensions,
    keys: &[
        key("format", Form::Notation("the number 1", "^1$"), "The version of the file format. It is the first key of the file.").required().example("1"),
        key("server", Form::Map(&SERVER), "The address of the API.").example("{ listen: \"127.0.0.1:9494\" }"),
        key("data_dir", Form::Text, "The folder of the journal, snapshots and history. A change takes effect at the next start.").default("data").example("/var/lib/selfheal"),
        key("storage", Form::Map(&STORAGE), "Durability and retention settings. A change takes effect at the next start.").example("{ durability: sync }"),
        key("sources", Form::List(&SOURCE), "Places from which selfheal pulls metrics.").example("[{ type: scrape, url: \"http://127.0.0.1:9100/metrics\" }]"),
        key("metrics", Form::MapOf(&METRIC), "Renames metrics, converts them, or states their unit.").example("{ cpu_usage: { as: cpu_percent, times: 100 } }"),
        key("deployment_from", Form::Texts, "Labels that name the deployment of another system's sample; the first label that is present decides.").default("[deployment, service_name, job]").example("[app]"),
        key("stale_after", Form::PositiveDuration, "The newest value of a series is missing once it is older than this, or than three rounds of the slowest source or check that gives it.").default("5m").example("10m"),
        key("time_intervals", Form::List(&TIME_INTERVAL), "Named times for `in_interval`, routes and `guards.freeze`.").example("[{ name: weekend, time_intervals: [{ weekdays: [\"saturday:sunday\"] }] }]"),
        key("mute_time_intervals", Form::List(&TIME_INTERVAL), "Alertmanager's former name of `time_intervals`.").example("[{ name: weekend, time_intervals: [{ weekdays: [sunday] }] }]"),
        key("adapters", Form::MapOf(&ADAPTER), "The adapters by which selfheal acts on deployments, by name.").example("{ local: { type: process } }"),
        key("unknown_deployments", Form::Word(&["register", "reject"]), "What an event about a deployment that is not listed does.").default("register").example("reject"),
        key("deployments", Form::List(&DEPLOYMENT), "The deployments that selfheal watches and repairs.").example("[{ id: checkout, adapter: local }]"),
        key("smtp", Form::Map(&SMTP), "The mail server of every receiver that names none.").example("{ host: smtp.example.com }"),
        key("from", Form::Text, "The sender of every mail whose receiver names none.").example("selfheal@example.com"),
        key("receivers", Form::List(&RECEIVER), "Who is notified, and how.").example("[{ name: oncall, email: { to: oncall@example.com } }]"),
        key("route", Form::Map(&ROUTE), "Which receiver gets which alert.").unset("the only receiver gets every alert").example("{ receiver: oncall }"),
        key("inhibit_rules", Form::List(&INHIBIT_RULE), "Alerts that suppress other alerts, as in Alertmanager.").example("[{ source_matchers: ['alertname=\"NodeDown\"'], target_matchers: ['severity=\"info\"'] }]"),
        key("guards", Form::Map(&GUARDS), "Limits around every run of a playbook.").example("{ mode: approve }"),
        key("remediations", Form::List(&REMEDIATION), "Ladders for alerts of other systems. The first remediation whose matchers match is used.").example("[{ name: pod-down, matchers: ['alertname=\"PodDown\"'], on: ci, remediate: [restart] }]"),
        key("severities", Form::WordMap(SEVERITIES), "Severities of other systems' alerts, by the value of their label `severity`. A value that is not listed counts as warning.").example("{ page: critical }"),
        key("schedules", Form::List(&SCHEDULE), "Playbooks that run at given times.").example("[{ name: backup, playbook: backup, select: {}, every: 1d }]"),
        key("secrets", Form::SecretMap, "Secrets that a playbook may pass on, by name. Each value is a reference.").example("{ db: \"${DB_PASSWORD}\" }"),
        key("settings", Form::Settings, "Named values that conditions and templates read as `settings.NAME`. They stand above those of rules files.").example("{ response_ms: 500 }"),
        key("ladders", Form::Ladders(&RUNG), "Named ladders that `remediate` may name.").example("{ exhaustion: [scale-up, restart] }"),
        key("heartbeat", Form::Map(&HEARTBEAT), "A message at a regular interval, so that its absence is noticed.").example("{ receiver: deadman, every: 1m }"),
    ],
};

pub(crate) static SERVER: Section = Section {
    title: "server",
    place: "selfheal.yaml: server",
    about: "The API and the links in messages. A change takes effect at the next start.",
    one_of: &[],
    not_built: &["auth", "tls"],
    others: Others::Refused,
    keys: &[
        key("listen", Form::Text, "The address and port of the API.").default("127.0.0.1:9494").example("0.0.0.0:9494"),
        key("external_url", Form::Text, "The URL under which people reach the API; links in messages start with it.")
            .unset("`http://` and `listen`")
            .example("https://selfheal.example.com"),
    ],
};

pub(crate) static STORAGE: Section = Section {
    title: "storage section",
    place: "selfheal.yaml: storage",
    about: "Durability and retention settings. A change takes effect at the next start.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("durability", Form::Notation("`sync`, or an interval from 1ms to 1m", "^(sync|[0-9].*)$"), "When an event is acknowledged: once it is synced to disk, or once it is written, with a sync at the latest after the interval.").default("sync").example("100ms"),
        key("journal", Form::Map(&JOURNAL), "Retention of the journal, for `replay` and `explain --at`. What a recovery needs is kept in any case.").example("{ keep: 14d }"),
        key("history", Form::Map(&HISTORY), "Retention of alerts, runs, deliveries and the audit log.").example("{ max_size: 4GiB }"),
    ],
};

const KEEP_ABOUT: &str = "How long entries are kept.";
const MAX_SIZE_ABOUT: &str = "The oldest entries are deleted beyond this size; at least 1MiB.";

pub(crate) static JOURNAL: Section = Section {
    title: "keep rule",
    place: "selfheal.yaml: storage.journal",
    about: "Retention of the journal.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("keep", Form::PositiveDuration, KEEP_ABOUT).default("7d").example("14d"),
        key("max_size", Form::Size, MAX_SIZE_ABOUT).default("10GiB").example("2GiB"),
    ],
};

pub(crate) static HISTORY: Section = Section {
    title: "keep rule",
    place: "selfheal.yaml: storage.history",
    about: "Retention of the history; at most 200,000 entries of each kind in any case.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("keep", Form::PositiveDuration, KEEP_ABOUT).default("90d").example("30d"),
        key("max_size", Form::Size, MAX_SIZE_ABOUT).default("1GiB").example("4GiB"),
    ],
};

const OF_SCRAPE: &[&str] = &["url"];

pub(crate) static SOURCE: Section = Section {
    title: "source",
    place: "selfheal.yaml: sources[]",
    about: "A place from which selfheal pulls metrics.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("type", Form::Word(&["scrape", "host"]), "`scrape` fetches a page of Prometheus' text format or OpenMetrics; `host` reads the metrics of this machine.").required().example("scrape"),
        key("name", Form::Text, "Unique among the sources.").unset("`url`, or `host`").example("node-exporter"),
        key("url", Form::Text, "The page to fetch. Required for `type: scrape`.").example("http://127.0.0.1:9100/metrics"),
        key("headers", Form::SecretMap, "Headers of the request.").only_with(OF_SCRAPE).example("{ Authorization: \"Bearer ${TOKEN}\" }"),
        key("ca_file", Form::Text, "A PEM file of the authorities that are trusted instead of the system's.").unset("the system's authorities").only_with(OF_SCRAPE).example("internal-ca.pem"),
        key("verify", Form::Boolean, "`false` accepts every certificate; `check` warns.").default("true").only_with(OF_SCRAPE).example("false"),
        key("every", Form::PositiveDuration, "From the start of a fetch to the start of the next; at least 1s.").default("15s").example("30s"),
        key("timeout", Form::PositiveDuration, "The limit of one fetch.").unset("10s, or `every` where that is shorter").example("5s"),
        key("labels", Form::TextMap, "Labels that every sample gets. A `host` source needs `deployment`.").example("{ deployment: checkout }"),
        key("only", Form::TextList, "The metrics to keep, by name; `*` stands for any letters.").unset("all").example("[node_cpu_*]"),
    ],
};

pub(crate) static METRIC: Section = Section {
    title: "metric",
    place: "selfheal.yaml: metrics.NAME",
    about: "What happens to a metric of this name when it comes in. At least one key is written.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("as", Form::Text, "The name under which it is stored.").unset("its own name").example("cpu_percent"),
        key("times", Form::Number, "The factor by which values are multiplied.").default("1").example("100"),
        key(
            "unit",
            Form::Text,
            "The unit, where the name does not say it: `ratio`, `percent`, `bytes`, `seconds`, `ms`.",
        )
        .example("ratio"),
    ],
};

pub(crate) static TIME_INTERVAL: Section = Section {
    title: "time interval",
    place: "selfheal.yaml: time_intervals[]",
    about: "Times under a name. The name holds while one of its times holds.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Name, "Unique among the time intervals.").required().example("office-hours"),
        key("time_intervals", Form::List(&TIMES), "The times.")
            .required()
            .example("[{ weekdays: [\"monday:friday\"] }]"),
    ],
};

const RANGES: &str = "^.+$";

pub(crate) static TIMES: Section = Section {
    title: "time interval",
    place: "selfheal.yaml: time_intervals[].time_intervals[]",
    about: "A time, as in Alertmanager. All keys that are written must hold.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("times", Form::List(&TIME), "Times of the day.")
            .unset("all day")
            .example("[{ start_time: \"09:00\", end_time: \"17:00\" }]"),
        key("weekdays", Form::NotationList("a weekday, or two with `:` between them", RANGES), "Days of the week.")
            .unset("all")
            .example("[\"monday:friday\"]"),
        key(
            "days_of_month",
            Form::NotationList("a day, or two with `:` between them; negative days count from the end", RANGES),
            "Days of the month.",
        )
        .unset("all")
        .example("[1, \"-3:-1\"]"),
        key("months", Form::NotationList("a month by name or number, or two with `:` between them", RANGES), "Months.")
            .unset("all")
            .example("[\"january:march\"]"),
        key("years", Form::NotationList("a year, or two with `:` between them", RANGES), "Years.")
            .unset("all")
            .example("[\"2026:2028\"]"),
        key("location", Form::Text, "A time zone of the IANA database.").default("UTC").example("Europe/Madrid"),
    ],
};

pub(crate) static TIME: Section = Section {
    title: "time",
    place: "selfheal.yaml: time_intervals[].time_intervals[].times[]",
    about: "A time of the day. Write two for a time over midnight.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("start_time", Form::Notation("a time of day", "^[0-9]{2}:[0-9]{2}$"), "The start.")
            .required()
            .example("\"09:00\""),
        key(
            "end_time",
            Form::Notation("a time of day", "^[0-9]{2}:[0-9]{2}$"),
            "The end, which is not part of it; `24:00` is the end of the day.",
        )
        .required()
        .example("\"17:00\""),
    ],
};

pub(crate) static HEARTBEAT: Section = Section {
    title: "heartbeat",
    place: "selfheal.yaml: heartbeat",
    about: "A message at a regular interval.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("receiver", Form::Text, "The receiver that gets the message.").required().example("deadman"),
        key("every", Form::PositiveDuration, "The interval; at least 10s.").default("1m").example("5m"),
    ],
};
