use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::AdaptersConfig;
use selfheal_model::{AuthThen, ResolveSecret, Secret, SecretError, SecretSource};

const WITHIN: Duration = Duration::from_secs(10);

struct Literals;
impl ResolveSecret for Literals {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.clone()),
            SecretSource::Env(name) => Err(SecretError::EnvMissing(name.clone())),
            SecretSource::File(path) => Err(SecretError::File { path: path.clone(), reason: "none".to_owned() }),
        }
    }
}

struct Desk {
    folder: TempDir,
    context: AdapterContext,
    now: Arc<AtomicI64>,
}

impl Desk {
    fn new() -> Desk {
        // another test may have installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(1_000_000));
        let clock = now.clone();
        let context = AdapterContext::new(AdaptersConfig {
            policy_dir: folder.path().to_owned(),
            data_dir: folder.path().join("data"),
            secrets: Arc::new(Literals),
            http: reqwest::Client::new(),
            clock: Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst))),
        });
        Desk { folder, context, now }
    }

    async fn refresh(&self, fetch: AuthFetch, format: AuthFormat) -> Result<Delivered, AuthError> {
        let auth = AuthDef { fetch, deliver_to: "run/token".into(), format, then: AuthThen::Nothing };
        refresh(&self.context, &"checkout".into(), &auth, WITHIN).await
    }

    fn delivered(&self) -> String {
        let path = self.folder.path().join("run/token");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::read_to_string(path).unwrap()
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(SecretSource::Literal(text.to_owned()))
}

/// A token server that rotates refresh tokens and remembers what it was asked.
#[derive(Default)]
struct Issuer {
    asked: Mutex<Vec<Value>>,
    issued: AtomicUsize,
    status: Mutex<Option<StatusCode>>,
}

async fn token(
    Shared(issuer): Shared<Arc<Issuer>>,
    headers: HeaderMap,
    Form(form): Form<std::collections::BTreeMap<String, String>>,
) -> axum::response::Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    issuer.asked.lock().unwrap().push(json!({ "form": form, "authorization": authorization }));
    if let Some(status) = *issuer.status.lock().unwrap() {
        return (status, Json(json!({ "error": "invalid_client", "error_description": "unknown" }))).into_response();
    }
    let number = issuer.issued.fetch_add(1, Ordering::SeqCst) + 1;
    let mut answer = json!({ "access_token": format!("access-{number}"), "token_type": "bearer", "expires_in": 600 });
    if form.get("grant_type").is_some_and(|grant| grant == "refresh_token") {
        answer["refresh_token"] = json!(format!("rotated-{number}"));
    }
    Json(answer).into_response()
}

async fn serve(issuer: Arc<Issuer>) -> String {
    let plain = |headers: HeaderMap| async move {
        format!("plain-for-{}\n", headers.get("x-key").map_or("nobody", |key| key.to_str().unwrap()))
    };
    let app = Router::new().route("/token", post(token)).route("/plain", get(plain)).with_state(issuer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

fn client_credentials(url: &str) -> AuthFetch {
    AuthFetch::ClientCredentials {
        token_url: format!("{url}/token"),
        client_id: "me".to_owned(),
        client_secret: secret("my-client-secret"),
        scopes: vec!["read".to_owned(), "write".to_owned()],
    }
}

#[tokio::test]
async fn client_credentials_are_fetched_delivered_and_their_expiry_is_known() {
    let (desk, issuer) = (Desk::new(), Arc::new(Issuer::default()));
    let url = serve(issuer.clone()).await;
    let delivered = desk.refresh(client_credentials(&url), AuthFormat::Token).await.unwrap();
    assert_eq!(desk.delivered(), "access-1");
    assert_eq!(delivered.expires_at, Some(Timestamp::from_millis(1_600_000)));
    let asked = issuer.asked.lock().unwrap()[0].clone();
    assert_eq!(asked["form"], json!({ "grant_type": "client_credentials", "scope": "read write" }));
    assert!(asked["authorization"].as_str().unwrap().starts_with("Basic "));
    desk.now.store(1_100_000, Ordering::SeqCst);
    assert_eq!(expires_in(&desk.context, &"checkout".into()), Some(500.0));
    assert_eq!(expires_in(&desk.context, &"another".into()), None);
    assert_eq!(desk.context.redactor.text("access-1 my-client-secret"), "*** ***");
}

#[tokio::test]
async fn a_rotated_refresh_token_is_used_next_until_the_policy_gives_a_fresh_one() {
    let (desk, issuer) = (Desk::new(), Arc::new(Issuer::default()));
    let url = serve(issuer.clone()).await;
    let fetch = |first: &str| AuthFetch::RefreshToken {
        token_url: format!("{url}/token"),
        client_id: "me".to_owned(),
        client_secret: None,
        refresh_token: secret(first),
    };
    for first in ["first-token", "first-token", "fresh-token"] {
        desk.refresh(fetch(first), AuthFormat::Json).await.unwrap();
    }
    let used: Vec<Value> =
        issuer.asked.lock().unwrap().iter().map(|asked| asked["form"]["refresh_token"].clone()).collect();
    assert_eq!(used, ["first-token", "rotated-1", "fresh-token"]);
    let kept = token_store::path(&desk.context, &"checkout".into());
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&kept).unwrap().contains("rotated-3"));
    let document: Value = serde_json::from_str(&desk.delivered()).unwrap();
    assert_eq!(document, json!({ "access_token": "access-3", "expires_at": "1970-01-01T00:26:40.000Z" }));
}

#[tokio::test]
async fn a_refusal_keeps_the_old_credential_and_says_whether_to_try_again() {
    let (desk, issuer) = (Desk::new(), Arc::new(Issuer::default()));
    let url = serve(issuer.clone()).await;
    desk.refresh(client_credentials(&url), AuthFormat::Token).await.unwrap();
    for (status, transient) in [(StatusCode::UNAUTHORIZED, false), (StatusCode::SERVICE_UNAVAILABLE, true)] {
        *issuer.status.lock().unwrap() = Some(status);
        let error = desk.refresh(client_credentials(&url), AuthFormat::Token).await.unwrap_err();
        assert_eq!(matches!(error, AuthError::Transient(_)), transient, "{error}");
        assert!(!error.to_string().contains("my-client-secret"));
        assert_eq!(desk.delivered(), "access-1");
    }
    let nobody = desk.refresh(client_credentials("http://127.0.0.1:1"), AuthFormat::Token).await.unwrap_err();
    assert!(matches!(&nobody, AuthError::Transient(why) if why.contains("cannot reach")), "{nobody}");
}

#[tokio::test]
async fn a_command_prints_a_token_or_a_document() {
    let desk = Desk::new();
    let run = |script: &str| AuthFetch::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() };
    desk.refresh(run("echo a-plain-token"), AuthFormat::Token).await.unwrap();
    assert_eq!(desk.delivered(), "a-plain-token");
    let document = r#"echo '{"access_token": "from-json", "expires_in": 60}'"#;
    let delivered = desk.refresh(run(document), AuthFormat::Token).await.unwrap();
    assert_eq!(
        (desk.delivered().as_str(), delivered.expires_at),
        ("from-json", Some(Timestamp::from_millis(1_060_000)))
    );
    for (script, why) in [
        ("echo no luck >&2; exit 3", "no luck"),
        ("true", "empty"),
        (r#"echo '{"token": "x"}'"#, "access_token"),
        ("head -c 100000 /dev/zero | tr '\\0' x", "65536"),
    ] {
        let error = desk.refresh(run(script), AuthFormat::Token).await.unwrap_err();
        assert!(matches!(&error, AuthError::Permanent(text) if text.contains(why)), "{script}: {error}");
    }
    assert_eq!(desk.delivered(), "from-json", "a fetch that fails keeps the old credential");
}

#[tokio::test]
async fn a_command_that_hangs_is_given_up() {
    let desk = Desk::new();
    let auth = AuthDef {
        fetch: AuthFetch::Command { command: ["sleep", "1000"].map(str::to_owned).to_vec() },
        deliver_to: "token".into(),
        format: AuthFormat::Token,
        then: AuthThen::Nothing,
    };
    let error = refresh(&desk.context, &"checkout".into(), &auth, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, AuthError::Transient(_)), "{error}");
}

#[tokio::test]
async fn a_plain_http_answer_is_a_token_and_headers_are_secrets() {
    let desk = Desk::new();
    let url = serve(Arc::default()).await;
    let fetch = AuthFetch::Http {
        url: format!("{url}/plain"),
        method: "get".to_owned(),
        headers: vec![("x-key".to_owned(), secret("header-secret"))],
    };
    desk.refresh(fetch, AuthFormat::Token).await.unwrap();
    assert_eq!(desk.delivered(), "plain-for-header-secret");
    assert_eq!(desk.context.redactor.text("sent header-secret"), "sent ***");
    let missing = AuthFetch::Http { url: format!("{url}/none"), method: "GET".to_owned(), headers: Vec::new() };
    let error = desk.refresh(missing, AuthFormat::Token).await.unwrap_err();
    assert!(matches!(&error, AuthError::Permanent(why) if why.contains("404")), "{error}");
}

#[test]
fn a_jwt_says_when_it_runs_out() {
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"me","exp":1795000000}"#);
    assert_eq!(fetch::jwt_expiry(&format!("eyJh.{claims}.sig")), Some(Timestamp::from_millis(1_795_000_000_000)));
    for token in ["opaque", "a.b.c", "a.b", ""] {
        assert_eq!(fetch::jwt_expiry(token), None, "{token}");
    }
}

#[tokio::test]
async fn a_broken_record_of_tokens_is_never_written_over() {
    let desk = Desk::new();
    let path = token_store::path(&desk.context, &"checkout".into());
    selfheal_atomic_file::write_private(&path, b"{ half").unwrap();
    let fetch = AuthFetch::Command { command: ["echo", "token"].map(str::to_owned).to_vec() };
    let error = desk.refresh(fetch, AuthFormat::Token).await.unwrap_err();
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"{ half");
}
