//! Adapters, deployments and their checks and credentials.

use super::{Form, Others, Section, key};

pub(crate) static ADAPTER: Section = Section {
    title: "adapter",
    place: "selfheal.yaml: adapters.NAME",
    about: "An adapter by which selfheal acts on deployments. The other keys are the options of its type.",
    one_of: &[],
    not_built: &[],
    others: Others::OfTheAdapter,
    keys: &[
        key("type", Form::Text, "The type: one of the adapters of this build.").required().example("process"),
        key("allow", Form::Map(&ALLOW), "Limits what the adapter may do.")
            .unset("everything")
            .example("{ verbs: [restart, logs] }"),
    ],
};

pub(crate) static ALLOW: Section = Section {
    title: "allow",
    place: "selfheal.yaml: adapters.NAME.allow",
    about: "What an adapter may do.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("verbs", Form::Texts, "The verbs it may be asked for.").unset("all").example("[restart, logs]"),
        key("select", Form::Selector, "The deployments on which it may act.").unset("all").example("{ tier: web }"),
    ],
};

pub(crate) static DEPLOYMENTS_FILE: Section = Section {
    title: "deployments file",
    place: "deployments/**/*.yaml",
    about: "More deployments. The file is a list of deployments, or a map with this key.",
    one_of: &[],
    not_built: &[],
    others: Others::Extensions,
    keys: &[key("deployments", Form::List(&DEPLOYMENT), "The deployments.").example("[{ id: checkout }]")],
};

pub(crate) static DEPLOYMENT: Section = Section {
    title: "deployment",
    place: "selfheal.yaml: deployments[]",
    about: "Something that selfheal watches and repairs.",
    one_of: &[],
    not_built: &["hooks", "on_remove", "stale_after"],
    others: Others::Refused,
    keys: &[
        key("id", Form::Name, "Unique among the deployments; no spaces, quotes or slashes.")
            .required()
            .example("checkout"),
        key("adapter", Form::Text, "The adapter that acts on it. Without one it is only watched.").example("local"),
        key(
            "labels",
            Form::TextMap,
            "Labels for selectors, rules and routes. selfheal sets `deployment`, `alertname` and `severity`.",
        )
        .example("{ tier: web, region: eu }"),
        key(
            "depends_on",
            Form::TextsOrMaps(&DEPENDENCY),
            "Deployments without which it cannot work. Circles are an error.",
        )
        .example("[payments-db]"),
        key("target", Form::Target, "The fields that its adapter declares.")
            .example("{ command: [python3, server.py] }"),
        key(
            "healthy_when",
            Form::Notation("all, any or a percentage", "^(all|any|[0-9. ]+%)$"),
            "How many of its replicas must be healthy.",
        )
        .default("all")
        .example("50%"),
        key("checks", Form::List(&CHECK), "The checks that selfheal runs.")
            .example("[{ http: \"http://127.0.0.1:8080/health\" }]"),
        key("auth", Form::Map(&AUTH), "A credential that selfheal fetches and delivers.")
            .example("{ command: [./token.sh], deliver: { file: token } }"),
        key("settings", Form::Settings, "Settings of this deployment, which stand above the policy's, key by key.")
            .example("{ response_ms: 900 }"),
    ],
};

pub(crate) static DEPENDENCY: Section = Section {
    title: "dependency",
    place: "selfheal.yaml: deployments[].depends_on[]",
    about: "A dependency that also counts as out while one of these alerts fires on it.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("id", Form::Name, "The deployment.").required().example("payments-db"),
        key("when", Form::Selector, "The alerts; at least one matcher.").example("['severity=\"critical\"']"),
    ],
};

const HTTP: &[&str] = &["http"];
const HTTP_TLS: &[&str] = &["http", "tls"];
const CONNECTS: &[&str] = &["http", "tcp", "tls"];
const RESOLVES: &[&str] = &["http", "tcp", "tls", "dns"];
const DNS: &[&str] = &["dns"];
/// The most equal verdicts that may be asked for: a check beyond it would never change.
pub(crate) const MAX_THRESHOLD: u32 = 1_000;
/// The most tries inside one run of a check.
const MAX_RETRIES: u32 = 20;

pub(crate) static CHECK: Section = Section {
    title: "check",
    place: "selfheal.yaml: deployments[].checks[]",
    about: "An active check. `{{ port }}` or `{{ replica }}` in a text runs it for every replica.",
    one_of: &["http", "tcp", "tls", "dns", "command"],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Text, "Unique in the deployment.").unset("the kind, such as `http`").example("web"),
        key("http", Form::Text, "A URL. Healthy: the status is accepted and the body matches.")
            .example("\"http://127.0.0.1:{{ port }}/health\""),
        key("tcp", Form::Text, "`host:port`. Healthy: a connection opens.").example("\"127.0.0.1:{{ port }}\""),
        key("tls", Form::Text, "`host:port`. Healthy: the handshake succeeds and the certificate is trusted.")
            .example("mail.example.com:465"),
        key("dns", Form::Text, "A name. Healthy: every name server answers as expected.").example("shop.example.com"),
        key(
            "command",
            Form::TextList,
            "A program and its arguments. Healthy: it exits with 0 and does not report otherwise.",
        )
        .example("[./lag.py, \"{{ replica }}\"]"),
        key("every", Form::PositiveDuration, "From the start of a run to the start of the next; at least 100ms.")
            .default("15s")
            .example("10s"),
        key("timeout", Form::PositiveDuration, "The limit of one try.").default("5s").example("2s"),
        key(
            "connect_timeout",
            Form::PositiveDuration,
            "The limit of connecting: resolving, each address, the TLS handshake; of `http` for all of them together.",
        )
        .only_with(CONNECTS)
        .example("1s"),
        key("retries", Form::Count(0, MAX_RETRIES), "More tries inside one run.").default("0").example("2"),
        key("retry_delay", Form::Duration, "The wait between tries.").default("500ms").example("1s"),
        key(
            "failure_threshold",
            Form::Count(1, MAX_THRESHOLD),
            "Unhealthy verdicts in a row that make the check unhealthy.",
        )
        .default("3")
        .example("5"),
        key(
            "success_threshold",
            Form::Count(1, MAX_THRESHOLD),
            "Healthy verdicts in a row that make the check healthy.",
        )
        .default("2")
        .example("1"),
        key("start_period", Form::Duration, "Failures so soon after a start do not count.")
            .default("0s")
            .example("30s"),
        key(
            "min_confidence",
            Form::Number,
            "From 0 to 1: a verdict of a command that reports less confidence does not count.",
        )
        .default("0")
        .example("0.7"),
        key(
            "address",
            Form::Text,
            "An IP address, with or without a port, to connect to instead of resolving the name.",
        )
        .only_with(CONNECTS)
        .example("10.0.0.5:8443"),
        key(
            "servers",
            Form::Texts,
            "Name servers, at most 16: for `dns` each is asked, for the others the first that answers.",
        )
        .only_with(RESOLVES)
        .unset("the system's")
        .example("[10.0.0.1, \"10.0.0.2:5353\"]"),
        key("verify", Form::Boolean, "`false` accepts every certificate; `check` warns.")
            .default("true")
            .only_with(HTTP_TLS)
            .example("false"),
        key("ca_file", Form::Text, "A PEM file of the authorities that are trusted instead of the system's.")
            .only_with(HTTP_TLS)
            .unset("the system's authorities")
            .example("internal-ca.pem"),
        key("server_name", Form::Text, "The name that is asked for and looked up in the certificate.")
            .only_with(&["tls"])
            .unset("the host of `tls`")
            .example("mail.example.com"),
        key("method", Form::Text, "The method.").default("GET").only_with(HTTP).example("POST"),
        key("headers", Form::TextMap, "Headers of the request.")
            .only_with(HTTP)
            .example("{ Accept: application/json }"),
        key("body", Form::Text, "The body of the request.").only_with(HTTP).example("\"{}\""),
        key("status", Form::StatusCodes, "The accepted status codes.")
            .only_with(HTTP)
            .unset("every 2xx")
            .example("[200, 204]"),
        key("body_matches", Form::Text, "A regular expression that the first 256 KiB of the body must match.")
            .only_with(HTTP)
            .example("\"ok|fine\""),
        key("follow_redirects", Form::Boolean, "`true` follows at most 10 redirects.")
            .default("false")
            .only_with(HTTP)
            .example("true"),
        key(
            "record",
            Form::Word(&["A", "AAAA", "CNAME", "MX", "TXT", "NS", "SRV", "PTR", "SOA"]),
            "The type of record that is asked for.",
        )
        .default("A")
        .only_with(DNS)
        .example("MX"),
        key(
            "expect",
            Form::Texts,
            "Answers that must be among those that come, as `dig +short` writes them; at most 64.",
        )
        .only_with(DNS)
        .unset("any answer")
        .example("[10.0.0.5]"),
    ],
};

pub(crate) static AUTH: Section = Section {
    title: "auth",
    place: "selfheal.yaml: deployments[].auth",
    about: "A credential that is fetched in exactly one way and delivered.",
    one_of: &["oauth2", "command", "http"],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("oauth2", Form::Map(&OAUTH2), "Fetches a token by OAuth 2.").example("{ grant: client_credentials, token_url: \"https://id.example.com/token\", client_id: me, client_secret: \"${SECRET}\" }"),
        key("command", Form::TextList, "A program and its arguments, which prints the token or JSON `{access_token, expires_in}`.").example("[./token.sh]"),
        key("http", Form::Map(&AUTH_HTTP), "Fetches a token by an HTTP request.").example("{ url: \"https://id.example.com/token\" }"),
        key("deliver", Form::Map(&DELIVER), "Where the credential goes.").required().example("{ file: token.json, format: json }"),
        key("then", Form::Word(&["nothing", "reload", "restart"]), "What is done with the deployment once the credential is delivered.").default("nothing").example("restart"),
    ],
};

pub(crate) static OAUTH2: Section = Section {
    title: "oauth2",
    place: "selfheal.yaml: deployments[].auth.oauth2",
    about: "A grant of OAuth 2.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("grant", Form::Word(&["client_credentials", "refresh_token"]), "The grant.")
            .required()
            .example("client_credentials"),
        key("token_url", Form::Text, "The URL of the token endpoint.")
            .required()
            .example("https://id.example.com/token"),
        key("client_id", Form::Name, "The client.").required().example("selfheal"),
        key("client_secret", Form::Secret, "The client's secret. Required for `client_credentials`.")
            .example("\"${SECRET}\""),
        key("refresh_token", Form::Secret, "The first refresh token. Required for `refresh_token`, refused otherwise.")
            .example("\"${REFRESH_TOKEN}\""),
        key("scopes", Form::Texts, "The scopes to ask for; for `client_credentials` only.").example("[read, write]"),
    ],
};

pub(crate) static AUTH_HTTP: Section = Section {
    title: "http",
    place: "selfheal.yaml: deployments[].auth.http",
    about: "A request whose answer is the token, or JSON with it.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("url", Form::Text, "The URL.").required().example("https://id.example.com/token"),
        key("method", Form::Text, "The method.").default("GET").example("POST"),
        key("headers", Form::SecretMap, "Headers of the request.").example("{ Authorization: \"Bearer ${TOKEN}\" }"),
    ],
};

pub(crate) static DELIVER: Section = Section {
    title: "deliver",
    place: "selfheal.yaml: deployments[].auth.deliver",
    about: "The file that the credential is written to, atomically and with mode 0600.",
    one_of: &[],
    not_built: &["secret", "kubernetes_secret", "docker_secret"],
    others: Others::Refused,
    keys: &[
        key("file", Form::Name, "The file.").required().example("token.json"),
        key("format", Form::Word(&["token", "json"]), "The token alone, or JSON with its end.")
            .default("token")
            .example("json"),
    ],
};
