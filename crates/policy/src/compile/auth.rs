//! `auth:` of a deployment: how its credential is fetched and delivered.

use std::path::PathBuf;

use super::config::url;
use super::keys::Keys;
use super::reader::Reader;
use super::yaml::{Kind, Node};
use crate::schema;
use selfheal_model::{AuthDef, AuthFetch, AuthFormat, AuthThen, Secret};

#[derive(Clone, Copy)]
enum Grant {
    ClientCredentials,
    RefreshToken,
}

pub(crate) fn read(reader: &Reader<'_>, node: &Node) -> Option<AuthDef> {
    let keys = Keys::of(reader, &schema::AUTH, node)?;
    let present = keys.alternatives();
    if present.len() != 1 {
        let code = if present.is_empty() { "missing-key" } else { "conflict" };
        reader.error(node.span, code, "`auth` fetches in exactly one way: oauth2, command or http");
    }
    let oauth2 = keys.get("oauth2").and_then(|node| oauth2(reader, node));
    let command = keys.get("command").and_then(|node| match node.kind {
        Kind::List(_) => reader.texts(node).filter(|command| !command.is_empty()),
        _ => {
            reader.wrong_type(node, "a list: the program and its arguments");
            None
        }
    });
    let http = keys.get("http").and_then(|node| http(reader, node));
    let deliver = keys.get("deliver").and_then(|node| deliver(reader, node));
    let words = [("nothing", AuthThen::Nothing), ("reload", AuthThen::Reload), ("restart", AuthThen::Restart)];
    let then = keys.word("then", &words).unwrap_or_default();
    let (deliver_to, format) = deliver?;
    let fetch = oauth2.or(command.map(|command| AuthFetch::Command { command })).or(http)?;
    Some(AuthDef { fetch, deliver_to, format, then })
}

fn oauth2(reader: &Reader<'_>, node: &Node) -> Option<AuthFetch> {
    let keys = Keys::of(reader, &schema::OAUTH2, node)?;
    let words = [("client_credentials", Grant::ClientCredentials), ("refresh_token", Grant::RefreshToken)];
    let grant = keys.word("grant", &words);
    let token_url = keys.get("token_url").and_then(|node| {
        let text = reader.text(node)?;
        url(reader, node, &text).then_some(text)
    });
    let client_id = keys.name("client_id");
    let secret = |key| keys.get(key).and_then(|node| reader.secret(node));
    let client_secret = secret("client_secret");
    let refresh_token = secret("refresh_token");
    let scopes = keys.section("scopes").and_then(|node| reader.texts(node)).unwrap_or_default();
    match grant? {
        Grant::ClientCredentials => {
            if !keys.has("client_secret") {
                keys.missing("client_secret");
            }
            if let Some(node) = keys.section("refresh_token") {
                reader.error(node.span, "conflict", "`refresh_token` belongs to `grant: refresh_token`");
            }
            let client_secret = client_secret?;
            Some(AuthFetch::ClientCredentials { token_url: token_url?, client_id: client_id?, client_secret, scopes })
        }
        Grant::RefreshToken => {
            if !keys.has("refresh_token") {
                keys.missing("refresh_token");
            }
            if let Some(node) = keys.section("scopes") {
                reader.error(node.span, "conflict", "`scopes` belong to `grant: client_credentials`");
            }
            Some(AuthFetch::RefreshToken {
                token_url: token_url?,
                client_id: client_id?,
                client_secret,
                refresh_token: refresh_token?,
            })
        }
    }
}

fn http(reader: &Reader<'_>, node: &Node) -> Option<AuthFetch> {
    let keys = Keys::of(reader, &schema::AUTH_HTTP, node)?;
    let address = keys.get("url").and_then(|node| {
        let text = reader.text(node)?;
        url(reader, node, &text).then_some(text)
    });
    let method = keys.text_or_default("method").to_uppercase();
    let headers = keys.section("headers").and_then(|node| secret_map(reader, node)).unwrap_or_default();
    Some(AuthFetch::Http { url: address?, method, headers })
}

/// Names to secrets, for headers.
pub(crate) fn secret_map(reader: &Reader<'_>, node: &Node) -> Option<Vec<(String, Secret)>> {
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of names to texts");
        return None;
    };
    entries.iter().map(|entry| Some((entry.key.clone(), reader.secret(&entry.value)?))).collect()
}

fn deliver(reader: &Reader<'_>, node: &Node) -> Option<(PathBuf, AuthFormat)> {
    let keys = Keys::of(reader, &schema::DELIVER, node)?;
    let file = keys.name("file");
    let words = [("token", AuthFormat::Token), ("json", AuthFormat::Json)];
    let format = keys.word("format", &words).unwrap_or_default();
    Some((PathBuf::from(file?), format))
}
