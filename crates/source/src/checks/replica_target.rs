//! Which replica is asked, `{{ port }}` and `{{ replica }}` filled in for it, and how a message names it.

use super::verdict::Fault;
use selfheal_model::{CheckKind, CheckName, DeploymentId, FailureReason};

pub(super) struct ReplicaTarget<'a> {
    pub deployment: &'a DeploymentId,
    pub check: &'a CheckName,
    pub replica: Option<u32>,
    pub port: Option<u16>,
}

impl ReplicaTarget<'_> {
    /// The text for this replica.
    ///
    /// # Errors
    /// The replica has no port, or the text names something a check does not know.
    pub fn fill(&self, text: &str) -> Result<String, Fault> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or_else(|| Fault::new(FailureReason::Refused, format!("`{text}` has a {{{{ without its }}}}")))?;
            filled.push_str(before);
            match (name.trim(), self.port, self.replica) {
                ("port", Some(port), _) => filled.push_str(&port.to_string()),
                ("port", None, _) => return Err(Fault::new(FailureReason::Refused, "the replica has no port")),
                ("replica", _, Some(replica)) => filled.push_str(&replica.to_string()),
                (other, ..) => {
                    let why = format!("`{{{{ {other} }}}}` is unknown to a check; it knows port and replica");
                    return Err(Fault::new(FailureReason::Refused, why));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// `replica 1 (http://127.0.0.1:9101/health): connection refused`
    pub fn name(&self, kind: &CheckKind, why: &str) -> String {
        let target = match kind {
            CheckKind::Http { url, .. } => without_password(self.fill(url).as_deref().unwrap_or(url)),
            CheckKind::Tcp { address, .. } | CheckKind::Tls { address, .. } => {
                self.fill(address).unwrap_or_else(|_| address.clone())
            }
            CheckKind::Dns { name, record, .. } => {
                format!("{} {}", self.fill(name).unwrap_or_else(|_| name.clone()), record.as_str())
            }
            CheckKind::Command { command } => command.first().cloned().unwrap_or_default(),
        };
        match self.replica {
            Some(replica) => format!("replica {replica} ({target}): {why}"),
            None => format!("{target}: {why}"),
        }
    }
}

/// A URL as it may be shown: credentials in it go to the server only.
fn without_password(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => match parsed.set_password(Some("***")) {
            Ok(()) => parsed.to_string(),
            Err(()) => url.to_owned(),
        },
        _ => url.to_owned(),
    }
}
