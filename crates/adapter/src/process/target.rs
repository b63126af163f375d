//! A deployment's `target:` as the process adapter reads it, and the texts in it filled in for one replica.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::{Environment, UndefinedBehavior, context};

use crate::params::Fields;
use selfheal_model::{Bytes, FieldKind, FieldSpec, Map};

/// Replicas of one deployment on one machine; more is a mistake in the policy.
pub const MAX_REPLICAS: u32 = 256;

/// From SIGTERM to SIGKILL when the target does not say.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// From a start to ready when the target does not say.
pub const DEFAULT_READY_WITHIN: Duration = Duration::from_secs(30);

/// A replica without `ready:` counts as started when it has lived this long: one that dies at start is noticed.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Steps a template in a target may take.
const TEMPLATE_FUEL: u64 = 10_000;

/// An `env_file` longer than this is none.
const MAX_ENV_FILE: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Not empty.
    pub command: Vec<String>,
    /// Absolute.
    pub dir: PathBuf,
    pub replicas: u32,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub ports: Option<RangeInclusive<u16>>,
    pub env: Vec<(String, String)>,
    /// Absolute.
    pub env_file: Option<PathBuf>,
    pub ready: Ready,
    pub ready_within: Duration,
    pub grace: Duration,
    pub memory: Option<Bytes>,
    /// What `scale` may raise the memory to; `None`: what the machine has.
    pub max_memory: Option<Bytes>,
}

/// How it is known that a replica can work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A GET that is answered with 2xx.
    Http(String),
    /// A connection that is taken.
    Tcp(String),
    /// Still alive after this.
    After(Duration),
}

/// What the texts of a target may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    pub port: Option<u16>,
    pub replica: u32,
    /// Empty without releases.
    pub version: &'a str,
}

/// The fields of a target, for the policy compiler.
pub fn fields() -> Vec<FieldSpec> {
    use FieldKind::{Duration, Integer, Object, PortRange, Size, Text, TextList, TextMap};
    vec![
        FieldSpec::required(
            "command",
            TextList,
            "the program and its arguments; {{ port }}, {{ replica }}, {{ version }}",
        ),
        FieldSpec::optional(
            "dir",
            Text,
            "holds releases/<version>/ and current; without releases the working directory",
        ),
        FieldSpec::optional("replicas", Integer, "what it starts with, 1 unless said"),
        FieldSpec::optional("min_replicas", Integer, "the least `scale` goes to, 1 unless said"),
        FieldSpec::optional("max_replicas", Integer, "the most `scale` goes to; the number of ports unless said"),
        FieldSpec::optional("ports", PortRange, "one port for each replica, the lowest free one first"),
        FieldSpec::optional("env", TextMap, "environment of the program"),
        FieldSpec::optional("env_file", Text, "NAME=value lines, read again at every start"),
        FieldSpec::optional(
            "ready",
            Object(vec![
                FieldSpec::optional("http", Text, "a URL that answers 2xx once the replica can work"),
                FieldSpec::optional("tcp", Text, "host:port that takes connections once the replica can work"),
                FieldSpec::optional("after", Duration, "ready when still alive after this"),
                FieldSpec::optional("within", Duration, "how long a start may take, 30s unless said"),
            ]),
            "how it is known that a replica can work",
        ),
        FieldSpec::optional("grace", Duration, "from SIGTERM to SIGKILL, 10s unless said"),
        FieldSpec::optional("memory", Size, "the limit told to the program, changed by `scale`"),
        FieldSpec::optional("max_memory", Size, "the most `scale` raises memory to; the machine's unless said"),
    ]
}

impl Target {
    /// Reads a target; relative paths start at `policy_dir`.
    ///
    /// # Errors
    /// The first field that is wrong, named.
    pub fn parse(target: &Map, policy_dir: &Path) -> Result<Target, String> {
        let fields = Fields(target);
        let command = fields.texts("command")?.filter(|command| !command.is_empty());
        let command = command.ok_or_else(|| "`command` is missing or empty".to_owned())?;
        let ports = fields.text("ports")?.map(|text| parse_ports(&text)).transpose()?;
        if ports.is_none() && command.iter().any(|part| mentions_port(part)) {
            return Err("`command` uses {{ port }}, but there are no `ports`".to_owned());
        }
        let replicas = fields.count("replicas")?.unwrap_or(1);
        let min_replicas = fields.count("min_replicas")?.unwrap_or(replicas.min(1));
        let places = ports.as_ref().map_or(MAX_REPLICAS, |ports| ports.len() as u32);
        let max_replicas = fields.count("max_replicas")?.unwrap_or(places.max(replicas));
        if max_replicas > MAX_REPLICAS || replicas > MAX_REPLICAS {
            return Err(format!(
                "{} replicas are more than the {MAX_REPLICAS} one machine takes",
                max_replicas.max(replicas)
            ));
        }
        if min_replicas > max_replicas || !(min_replicas..=max_replicas).contains(&replicas) {
            return Err(format!(
                "`replicas: {replicas}` must lie from `min_replicas: {min_replicas}` to `max_replicas: {max_replicas}`"
            ));
        }
        let (ready, ready_within) = parse_ready(fields)?;
        Ok(Target {
            command,
            dir: policy_dir.join(fields.text("dir")?.unwrap_or_else(|| ".".to_owned())),
            replicas,
            min_replicas,
            max_replicas,
            ports,
            env: fields.text_map("env")?,
            env_file: fields.text("env_file")?.map(|path| policy_dir.join(path)),
            ready,
            ready_within,
            grace: fields.duration("grace")?.unwrap_or(DEFAULT_GRACE),
            memory: fields.size("memory")?,
            max_memory: fields.size("max_memory")?,
        })
    }
}

fn mentions_port(text: &str) -> bool {
    text.split("{{").skip(1).any(|after| after.split("}}").next().is_some_and(|inner| inner.trim() == "port"))
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("`ports: {text}` is no range of ports; write for example 9100-9119");
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let from: u16 = from.trim().parse().map_err(|_| wrong())?;
    let to: u16 = to.trim().parse().map_err(|_| wrong())?;
    if from == 0 || from > to { Err(wrong()) } else { Ok(from..=to) }
}

fn parse_ready(fields: Fields<'_>) -> Result<(Ready, Duration), String> {
    let Some(ready) = fields.object("ready")? else { return Ok((Ready::After(SETTLE), DEFAULT_READY_WITHIN)) };
    let within = ready.duration("within")?.unwrap_or(DEFAULT_READY_WITHIN);
    let ways = [
        ready.text("http")?.map(Ready::Http),
        ready.text("tcp")?.map(Ready::Tcp),
        ready.duration("after")?.map(Ready::After),
    ];
    let mut ways = ways.into_iter().flatten();
    match (ways.next(), ways.next()) {
        (None, _) => Ok((Ready::After(SETTLE), within)),
        (Some(way), None) => Ok((way, within)),
        (Some(_), Some(_)) => Err("`ready` is one of http, tcp and after".to_owned()),
    }
}

impl Ready {
    /// For one replica.
    pub fn filled(&self, names: &Names<'_>) -> Result<Ready, String> {
        match self {
            Ready::Http(url) => fill(url, names).map(Ready::Http),
            Ready::Tcp(address) => fill(address, names).map(Ready::Tcp),
            Ready::After(span) => Ok(Ready::After(*span)),
        }
    }
}

/// Fills `{{ port }}`, `{{ replica }}` and `{{ version }}` in.
///
/// # Errors
/// The text names something else, or `port` where there is none.
pub fn fill(text: &str, names: &Names<'_>) -> Result<String, String> {
    if !text.contains('{') {
        return Ok(text.to_owned());
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(TEMPLATE_FUEL));
    let filled = match names.port {
        Some(port) => {
            environment.render_str(text, context! { port, replica => names.replica, version => names.version })
        }
        None => environment.render_str(text, context! { replica => names.replica, version => names.version }),
    };
    filled.map_err(|error| format!("cannot fill in `{text}`: {error}"))
}

/// The variables of an `env_file`, in order.
///
/// # Errors
/// The file cannot be read, or the first line that is not `NAME=value`, with its number.
pub fn read_env_file(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read env_file {}: {error}", path.display());
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_ENV_FILE {
        return Err(format!("env_file {} is longer than {MAX_ENV_FILE} bytes", path.display()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let mut variables = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())).unwrap_or((line, ""));
        if !line.contains('=') || !is_name(name) {
            return Err(format!("{}:{}: this is no NAME=value", path.display(), number + 1));
        }
        variables.insert(name.to_owned(), unquoted(value).to_owned());
    }
    Ok(variables)
}

/// A name that the environment of a process can have and a shell can read.
pub fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if value.len() >= 2
            && let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(target: serde_json::Value) -> Result<Target, String> {
        Target::parse(target.as_object().unwrap(), Path::new("/policy"))
    }

    #[test]
    fn a_target_is_read_with_its_defaults() {
        let target = parse(json!({"command": ["run", 80], "ports": "9100-9119", "replicas": 2})).unwrap();
        assert_eq!(target.command, ["run", "80"]);
        assert_eq!(target.dir, Path::new("/policy/."));
        assert_eq!((target.min_replicas, target.max_replicas), (1, 20));
        assert_eq!(target.ready, Ready::After(SETTLE));
        assert_eq!(target.grace, DEFAULT_GRACE);
    }

    #[test]
    fn a_wrong_target_names_its_field() {
        for (target, field) in [
            (json!({}), "command"),
            (json!({"command": []}), "command"),
            (json!({"command": ["x", "{{ port }}"]}), "ports"),
            (json!({"command": ["x"], "ports": "9119-9100"}), "ports"),
            (json!({"command": ["x"], "ports": "0-70000"}), "ports"),
            (json!({"command": ["x"], "replicas": 5, "max_replicas": 3}), "max_replicas"),
            (json!({"command": ["x"], "max_replicas": 100_000}), "256"),
            (json!({"command": ["x"], "ready": {"http": "a", "tcp": "b"}}), "ready"),
            (json!({"command": ["x"], "grace": "soon"}), "grace"),
        ] {
            let error = parse(target.clone()).map(|_| ()).unwrap_err();
            assert!(error.contains(field), "{target}: {error}");
        }
    }

    #[test]
    fn texts_are_filled_in_for_a_replica() {
        let names = Names { port: Some(9100), replica: 1, version: "v2" };
        assert_eq!(fill("{{ version }}:{{ port }}/{{replica}}", &names), Ok("v2:9100/1".to_owned()));
        assert!(fill("{{ prot }}", &names).is_err_and(|error| error.contains("prot")));
    }

    #[test]
    fn an_env_file_is_read_and_a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        fs::write(&path, "# a comment\n\nexport A=1\nB=\"two words\"\nC=\n").unwrap();
        let read = read_env_file(&path).unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [
                ("A".to_owned(), "1".to_owned()),
                ("B".to_owned(), "two words".to_owned()),
                ("C".to_owned(), String::new())
            ]
        );
        fs::write(&path, "A=1\nnonsense\n").unwrap();
        assert!(read_env_file(&path).is_err_and(|error| error.ends_with(":2: this is no NAME=value")));
        assert!(read_env_file(&folder.path().join("none")).is_err_and(|error| error.contains("cannot read env_file")));
    }
}
