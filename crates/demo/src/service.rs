//! The demo's web service: small, real, and able to fail on request.
//!
//! It knows its release from `release.json` in its working directory, its credential from the file named by
//! `TOKEN_FILE`, and breaks when told to: `POST /fault/crash`, `/fault/hang`, `/fault/leak`. `/work` costs CPU time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;

use crate::clock::Clock;

/// A leak grows by this much at a time …
const LEAK_STEP: usize = 4 << 20;
const LEAK_EVERY: Duration = Duration::from_millis(60);
/// … and stops here, so that a demo nobody watches cannot hurt its machine.
const LEAK_LIMIT: usize = 200 << 20;
/// One `/work` hashes for so long, so that the load is the same on fast machines and slow ones.
const WORK_FOR: Duration = Duration::from_millis(5);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Release {
    /// A bad release answers every health check with this.
    broken: Option<String>,
}

struct Service {
    release: Release,
    version: String,
    token_file: Option<PathBuf>,
    hung: AtomicBool,
    clock: Clock,
}

#[derive(Deserialize)]
struct Token {
    expires_at: selfheal_model::Timestamp,
}

/// Serves until SIGTERM.
///
/// # Errors
/// The port is taken.
pub async fn serve(port: u16) -> anyhow::Result<()> {
    let release = std::fs::read("release.json").ok().and_then(|text| serde_json::from_slice(&text).ok());
    let service = Arc::new(Service {
        release: release.unwrap_or_default(),
        version: std::env::var("VERSION").unwrap_or_else(|_| "unversioned".to_owned()),
        token_file: std::env::var_os("TOKEN_FILE").map(PathBuf::from),
        hung: AtomicBool::new(false),
        clock: Clock::start(),
    });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // SIGHUP asks to read the credential again; it is read at every request anyway
    let _hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .with_context(|| format!("cannot listen on port {port}"))?;
    println!("version {} listens on port {port}", service.version);
    let app = Router::new()
        .route(
            "/",
            get(|State(service): State<Arc<Service>>| async move { format!("hello from {}\n", service.version) }),
        )
        .route("/health", get(health))
        .route("/work", get(work))
        .route("/fault/{kind}", post(fault))
        .with_state(service);
    let stop = async move {
        terminate.recv().await;
        println!("stopping");
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}

async fn health(State(service): State<Arc<Service>>) -> (StatusCode, String) {
    if service.hung.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    if let Some(why) = &service.release.broken {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{} is broken: {why}\n", service.version));
    }
    if let Some(path) = &service.token_file {
        let token = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Token>(&text).ok());
        match token {
            Some(token) if token.expires_at > service.clock.now() => {}
            Some(token) => return (StatusCode::UNAUTHORIZED, format!("the token expired at {}\n", token.expires_at)),
            None => return (StatusCode::UNAUTHORIZED, format!("there is no token in {}\n", path.display())),
        }
    }
    (StatusCode::OK, format!("ok {}\n", service.version))
}

async fn work(State(service): State<Arc<Service>>) -> String {
    let digest = tokio::task::spawn_blocking(move || {
        use sha2::{Digest, Sha256};
        let until = service.clock.now() + WORK_FOR;
        let mut digest = Sha256::digest(b"work");
        while service.clock.now() < until {
            digest = (0..100).fold(digest, |digest, _| Sha256::digest(digest));
        }
        digest[0]
    });
    format!("{:?}\n", digest.await.ok())
}

async fn fault(State(service): State<Arc<Service>>, Path(kind): Path<String>) -> StatusCode {
    println!("fault: {kind}");
    match kind.as_str() {
        "crash" => {
            tokio::spawn(async {
                // the answer goes out first
                tokio::time::sleep(Duration::from_millis(50)).await;
                eprintln!("segmentation fault, says the demo");
                std::process::exit(139);
            });
        }
        "hang" => service.hung.store(true, Ordering::SeqCst),
        "leak" => {
            std::thread::spawn(|| {
                let mut held = Vec::new();
                while held.len() * LEAK_STEP < LEAK_LIMIT {
                    held.push(vec![0xA5_u8; LEAK_STEP]);
                    std::thread::sleep(LEAK_EVERY);
                }
                loop {
                    std::thread::park();
                    std::hint::black_box(&held);
                }
            });
        }
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::ACCEPTED
}
