//! An entry `{ type: http, … }` of `adapters:`, read whole when a policy is loaded and again for each call.

use reqwest::{Method, Url};

use super::template;
use crate::exec::describe;
use crate::params::Fields;
use crate::{auth, rendered_target};
use selfheal_model::{AdapterSpec, Effectfulness, FieldKind, FieldSpec, Map, Value, Verb, VerbSpec};

const VERB: [&str; 9] = ["method", "path", "body", "effect", "idempotent", "settle", "params", "ok", "output"];
const OBSERVE: [&str; 4] = ["method", "path", "facts", "metrics"];

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// No slash at its end.
    pub base_url: String,
    /// Values as written.
    pub headers: Vec<(String, String)>,
    pub timeout: Option<std::time::Duration>,
    pub verbs: Vec<Request>,
    pub observe: Option<Look>,
}

/// What a verb asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub spec: VerbSpec,
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    /// Status codes that mean done; empty: any 2xx.
    pub ok: Vec<u16>,
    /// Where the output is in the answer; `None`: all of it.
    pub output: Option<String>,
}

/// What is asked to see the deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    pub method: Method,
    pub path: String,
    /// Names to places in the answer.
    pub facts: Vec<(String, String)>,
    pub metrics: Vec<(String, String)>,
}

/// What the adapter says of itself with these options. The keys of the entry itself are the policy compiler's to check;
/// headers are spelled out to it, for one that refers to a secret is a secret.
///
/// # Errors
/// The first thing in the entry that is wrong, named.
pub fn spec(options: &Map) -> Result<AdapterSpec, String> {
    let entry = Entry::read(options)?;
    let headers = match options.get("headers") {
        Some(Value::Object(headers)) => FieldKind::Object(
            headers
                .iter()
                .map(|(name, value)| rendered_target::spec_of(name, value, "sent with every request"))
                .collect(),
        ),
        _ => FieldKind::TextMap,
    };
    Ok(AdapterSpec {
        options: vec![
            FieldSpec::required("base_url", FieldKind::Text, "where the paths start, http:// or https://"),
            FieldSpec::optional("headers", headers, "sent with every request; secrets belong here"),
            FieldSpec::optional(
                "timeout",
                FieldKind::Duration,
                "the most one request may take, whatever its step says",
            ),
            FieldSpec::required("verbs", FieldKind::Any, "names of verbs to the request each one is"),
            FieldSpec::optional("observe", FieldKind::Any, "the request that shows the deployment's facts"),
        ],
        target: None,
        verbs: auth::with_refresh_auth(entry.verbs.into_iter().map(|request| request.spec).collect()),
    })
}

impl Entry {
    pub fn read(options: &Map) -> Result<Entry, String> {
        let fields = Fields(options);
        let headers = fields.text_map("headers")?;
        for (name, _) in &headers {
            reqwest::header::HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`headers`: {name:?} is no name of a header"))?;
        }
        let verbs =
            fields.object("verbs")?.ok_or_else(|| "`verbs` is missing; it maps names to requests".to_owned())?;
        let verbs = verbs
            .0
            .keys()
            .map(|name| {
                let place = |why: String| format!("`verbs.{name}`: {why}");
                let verb = verbs.object(name).map_err(place)?.ok_or_else(|| place("it is empty".to_owned()))?;
                request(name, verb).map_err(place)
            })
            .collect::<Result<_, String>>()?;
        let observe = fields.object("observe")?.map(look).transpose().map_err(|why| format!("`observe`: {why}"))?;
        Ok(Entry { base_url: base_url(fields)?, headers, timeout: fields.duration("timeout")?, verbs, observe })
    }

    pub fn verb(&self, verb: &Verb) -> Option<&Request> {
        self.verbs.iter().find(|request| request.spec.verb == *verb)
    }
}

fn base_url(fields: Fields<'_>) -> Result<String, String> {
    let text = fields.text("base_url")?.ok_or_else(|| "`base_url` is missing".to_owned())?;
    let url = Url::parse(&text).map_err(|error| format!("`base_url: {text}` is no URL: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("`base_url: {text}` begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`base_url` holds a user or password; they belong into `headers`, as secrets".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`base_url: {text}` ends in `?` or `#`; paths are put behind it"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn request(name: &str, verb: Fields<'_>) -> Result<Request, String> {
    only(verb.0, &VERB, "a verb")?;
    let params = match verb.get("params") {
        None => None,
        Some(list) => Some(describe::fields("params", list)?),
    };
    let effect = describe::effect(verb.text("effect")?.as_deref())?;
    let method = method(verb, if effect == Effectfulness::Read { Method::GET } else { Method::POST })?;
    let body = verb.get("body").cloned();
    if let Some(body) = &body {
        template::check(body).map_err(|why| format!("`body`: {why}"))?;
    }
    let output = verb.text("output")?;
    if let Some(place) = &output {
        pointer("output", place)?;
    }
    Ok(Request {
        spec: VerbSpec {
            verb: Verb::new(name),
            params,
            effect,
            idempotent: verb.boolean("idempotent")?.unwrap_or(false),
            settle: verb.duration("settle")?,
        },
        method,
        path: path(verb)?,
        body,
        ok: statuses(verb)?,
        output,
    })
}

fn look(observe: Fields<'_>) -> Result<Look, String> {
    only(observe.0, &OBSERVE, "`observe`")?;
    let places = |key: &str| -> Result<Vec<(String, String)>, String> {
        let places = observe.text_map(key)?;
        places.iter().try_for_each(|(name, place)| pointer(&format!("{key}.{name}"), place))?;
        Ok(places)
    };
    Ok(Look {
        method: method(observe, Method::GET)?,
        path: path(observe)?,
        facts: places("facts")?,
        metrics: places("metrics")?,
    })
}

fn method(fields: Fields<'_>, otherwise: Method) -> Result<Method, String> {
    let Some(text) = fields.text("method")? else { return Ok(otherwise) };
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let wanted = text.to_uppercase();
    known
        .into_iter()
        .find(|method| method.as_str() == wanted)
        .ok_or_else(|| format!("`method: {text}` is none; there are GET, HEAD, POST, PUT, PATCH and DELETE"))
}

fn path(fields: Fields<'_>) -> Result<String, String> {
    let path = fields.text("path")?.ok_or_else(|| "`path` is missing".to_owned())?;
    if !path.starts_with('/') {
        return Err(format!("`path: {path}` does not begin with a slash"));
    }
    template::check(&Value::String(path.clone())).map_err(|why| format!("`path`: {why}"))?;
    Ok(path)
}

fn statuses(fields: Fields<'_>) -> Result<Vec<u16>, String> {
    let Some(list) = fields.get("ok") else { return Ok(Vec::new()) };
    let list = list.as_array().filter(|list| !list.is_empty());
    let statuses = list.and_then(|list| {
        list.iter()
            .map(|one| one.as_u64().and_then(|one| u16::try_from(one).ok()).filter(|one| (100..600).contains(one)))
            .collect::<Option<Vec<_>>>()
    });
    statuses.ok_or_else(|| "`ok` is a list of status codes such as [200, 202]".to_owned())
}

fn pointer(name: &str, place: &str) -> Result<(), String> {
    if place.is_empty() || place.starts_with('/') {
        return Ok(());
    }
    Err(format!("`{name}: {place}` is no JSON pointer; it begins with a slash, as in /spec/replicas"))
}

fn only(fields: &Map, known: &[&str], what: &str) -> Result<(), String> {
    let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let near = known.iter().find(|name| strsim::damerau_levenshtein(name, unknown) <= 2);
    Err(match near {
        Some(near) => format!("`{unknown}` is no key of {what}; did you mean `{near}`?"),
        None => format!("`{unknown}` is no key of {what}; it has {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(options: Value) -> Result<Entry, String> {
        Entry::read(options.as_object().unwrap())
    }

    #[test]
    fn an_entry_is_read_with_its_defaults() {
        let entry = read(json!({
            "base_url": "http://127.0.0.1:8080/api/",
            "verbs": {
                "restart": {"path": "/apps/{{ target.app }}/restart"},
                "logs": {"path": "/logs", "effect": "read", "ok": [200, 206], "output": "/lines"}
            }
        }))
        .unwrap();
        assert_eq!(entry.base_url, "http://127.0.0.1:8080/api");
        let (restart, logs) = (&entry.verbs[0], &entry.verbs[1]);
        assert_eq!((&restart.method, restart.spec.effect), (&Method::POST, Effectfulness::Disrupt));
        assert!(restart.ok.is_empty() && !restart.spec.idempotent);
        assert_eq!((&logs.method, &logs.ok), (&Method::GET, &vec![200, 206]));
    }

    #[test]
    fn a_wrong_entry_names_its_place() {
        let verb = |verb: Value| json!({"base_url": "http://a", "verbs": {"v": verb}});
        for (options, said) in [
            (json!({"verbs": {}}), "`base_url` is missing"),
            (json!({"base_url": "a b", "verbs": {}}), "no URL"),
            (json!({"base_url": "ftp://a", "verbs": {}}), "http://"),
            (json!({"base_url": "http://u:p@a", "verbs": {}}), "headers"),
            (json!({"base_url": "http://a"}), "`verbs` is missing"),
            (verb(json!({"path": "/", "efect": "read"})), "did you mean `effect`"),
            (json!({"base_url": "http://a", "verbs": {}, "headers": {"a b": "c"}}), "header"),
            (verb(json!({})), "`verbs.v`: `path`"),
            (verb(json!({"path": "x"})), "slash"),
            (verb(json!({"path": "/{{ x"})), "template"),
            (verb(json!({"path": "/", "method": "SEND"})), "SEND"),
            (verb(json!({"path": "/", "effect": "harm"})), "disrupt"),
            (verb(json!({"path": "/", "ok": 200})), "[200, 202]"),
            (verb(json!({"path": "/", "body": {"a": "{{"}})), "body"),
            (verb(json!({"path": "/", "output": "x"})), "pointer"),
            (json!({"base_url": "http://a", "verbs": {}, "observe": {"path": "/", "facts": {"r": "x"}}}), "facts.r"),
        ] {
            let why = read(options.clone()).unwrap_err();
            assert!(why.contains(said), "{options}: {why}");
        }
    }
}
