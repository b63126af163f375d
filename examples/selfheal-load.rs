//! What a whole engine takes in over HTTP on this machine: events a second from the socket to the decision with the
//! journal synced, and how long it takes from an event to what follows from it.
//!
//! `cargo run --release --example selfheal-load -- [RULES] [SECONDS]`. Engine and load run in this one process, so that
//! they share the machine's cores; nothing leaves loopback.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use selfheal::app::{Options, Running};

/// Events of one body.
const BATCH: usize = 1_000;
/// Of one body where many senders have little to say each.
const SMALL_BATCH: usize = 50;
const DEPLOYMENTS: usize = 1_000;
/// Rules that read each metric.
const INTERESTED: usize = 3;
const CONNECTIONS: usize = 16;
/// One after the other, at most ten a second: a receiver's host is not sent more.
const PROBES: usize = 100;
const BETWEEN_PROBES: Duration = Duration::from_millis(110);
const SYNCS: usize = 400;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn policy(rules: usize, webhook: &str) -> Vec<(&'static str, String)> {
    let configuration = format!(
        "format: 1\nreceivers:\n  - name: sink\n    rate: 10000/1m\n    webhook: {{ url: '{webhook}' }}\nroute: {{ receiver: sink, group_by: [deployment], group_wait: 0s }}\n"
    );
    let mut text = "rules:\n  - { alert: Probe, when: 'last(\"probe\") > 0.5' }\n".to_owned();
    for rule in 0..rules {
        let (metric, limit) = (rule / INTERESTED, 200 + rule % INTERESTED);
        text += &format!("  - {{ alert: R{rule}, when: 'avg(\"m{metric}\", \"5m\") > {limit}' }}\n");
    }
    vec![("selfheal.yaml", configuration), ("rules/load.yaml", text)]
}

/// Bodies of one moment each, of so many events.
#[derive(Clone)]
struct Bodies {
    texts: Arc<Vec<String>>,
    events: usize,
}

impl Bodies {
    fn of(events: usize, metrics: usize) -> Bodies {
        Bodies { texts: Arc::new((0..metrics).map(|round| body(round, metrics, events)).collect()), events }
    }
}

fn body(round: usize, metrics: usize, events: usize) -> String {
    let line = |n: usize| {
        let (deployment, metric, value) =
            (n % DEPLOYMENTS, (round + n / DEPLOYMENTS) % metrics, (round * 31 + n * 17) % 1_000);
        format!(
            "{{\"type\":\"metric\",\"deployment\":\"web-{deployment}\",\"name\":\"m{metric}\",\"value\":{}}}\n",
            value as f64 / 10.0
        )
    };
    (0..events).map(line).collect()
}

/// A connection that posts bodies and reads how each was answered.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    async fn to(address: std::net::SocketAddr) -> Result<Client, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, answer: Vec::new() })
    }

    /// The status.
    async fn post(&mut self, body: &str) -> Result<u16, Error> {
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: load\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&head, body).await
    }

    async fn send(&mut self, head: &str, body: &str) -> Result<u16, Error> {
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body.as_bytes()).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the engine closed the connection".into());
            }
            let text = String::from_utf8_lossy(&self.answer);
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if rest.len() >= length.unwrap_or(0) {
                return Ok(text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0));
            }
        }
    }
}

/// Posts as fast as it is answered, or so many events a second over all connections; counts what was accepted.
async fn load(
    address: std::net::SocketAddr,
    bodies: Bodies,
    rate: Option<f64>,
    taken: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
) -> Result<(), Error> {
    // dropped with this future, and with it every connection
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let (bodies, taken, refused) = (bodies.clone(), taken.clone(), refused.clone());
        tasks.spawn(async move {
            let mut client = Client::to(address).await?;
            let pause = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 * bodies.events as f64 / rate));
            let mut rhythm = pause.map(|pause| {
                tokio::time::interval_at(
                    tokio::time::Instant::now() + pause.mul_f64(number as f64 / CONNECTIONS as f64),
                    pause,
                )
            });
            for round in number.. {
                if let Some(rhythm) = &mut rhythm {
                    rhythm.tick().await;
                }
                match client.post(&bodies.texts[round % bodies.texts.len()]).await? {
                    202 => taken.fetch_add(bodies.events as u64, Ordering::Relaxed),
                    _ => refused.fetch_add(bodies.events as u64, Ordering::Relaxed),
                };
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn quantiles(mut spans: Vec<Duration>) -> String {
    spans.sort();
    let at = |share: f64| spans.get(((spans.len() - 1) as f64 * share) as usize).copied().unwrap_or_default();
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(at(0.5)), ms(at(0.99)), ms(at(1.0)))
}

/// What the disk's own sync takes, so that it can be told from what selfheal takes.
fn syncs(dir: &std::path::Path) -> Result<Vec<Duration>, Error> {
    let mut file = std::fs::File::create(dir.join("sync"))?;
    let mut spans = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        spans.push(began.elapsed());
    }
    Ok(spans)
}

/// What a request takes that asks for nothing: the way to selfheal and back, as often as the events are posted.
async fn trips(address: std::net::SocketAddr) -> Result<Vec<Duration>, Error> {
    let mut client = Client::to(address).await?;
    let mut spans = Vec::new();
    for _ in 0..PROBES {
        let began = Instant::now();
        client.send("GET /healthz HTTP/1.1\r\nhost: load\r\n\r\n", "").await?;
        spans.push(began.elapsed());
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
    Ok(spans)
}

/// From posting an event that makes an alert fire to its webhook's arrival, one after the other.
async fn probes(
    address: std::net::SocketAddr,
    heard: &mut mpsc::UnboundedReceiver<(String, Instant)>,
    series: &str,
) -> Result<(Vec<Duration>, Vec<Duration>), Error> {
    let mut client = Client::to(address).await?;
    let (mut effects, mut answers) = (Vec::new(), Vec::new());
    for number in 0..PROBES {
        let id = format!("probe-{series}-{number}");
        let body = format!("{{\"type\":\"metric\",\"deployment\":\"{id}\",\"name\":\"probe\",\"value\":1}}\n");
        let began = Instant::now();
        client.post(&body).await?;
        answers.push(began.elapsed());
        loop {
            let (named, at) =
                tokio::time::timeout(Duration::from_secs(10), heard.recv()).await?.ok_or("the sink ended")?;
            if named == id {
                effects.push(at.duration_since(began));
                break;
            }
        }
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
    Ok((effects, answers))
}

async fn sink(State(heard): State<mpsc::UnboundedSender<(String, Instant)>>, body: String) {
    let at = Instant::now();
    let named = body.split("\"deployment\":\"").nth(1).and_then(|rest| rest.split('"').next());
    if let Some(named) = named {
        // after the last probe nobody listens
        let _ = heard.send((named.to_owned(), at));
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let rules: usize = args.next().map_or(Ok(300), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let metrics = (rules / INTERESTED).clamp(1, 100);
    let dir = std::env::temp_dir().join(format!("selfheal-load-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("rules"))?;

    let (tell, mut heard) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhook = format!("http://{}/", listener.local_addr()?);
    let app = axum::Router::new().route("/", post(sink)).with_state(tell);
    tokio::spawn(async move { axum::serve(listener, app).await });
    for (path, text) in policy(rules, &webhook) {
        std::fs::write(dir.join(path), text)?;
    }
    println!(
        "{rules} rules, {INTERESTED} read each event; {DEPLOYMENTS} deployments x {metrics} metrics; bodies of {BATCH}"
    );
    println!("sync of 4 KiB alone: {}", quantiles(syncs(&dir)?));
    let options = Options {
        policy_dir: dir.clone(),
        listen: Some("127.0.0.1:0".to_owned()),
        data_dir: None,
        allow_unauthenticated: false,
        watch: false,
        accept_clock: false,
        own_series_every: selfheal::app::telemetry::OWN_SERIES_EVERY,
    };
    let running = Running::start(options).await?;
    let address = running.address;
    println!("idle: {:.1} MiB resident", resident_mib());
    let (bodies, small) = (Bodies::of(BATCH, metrics), Bodies::of(SMALL_BATCH, metrics));
    println!("made the load: {:.1} MiB resident", resident_mib());

    let (taken, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ceiling = {
        let task = tokio::spawn(load(address, bodies.clone(), None, taken.clone(), refused.clone()));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, began) = (taken.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let rate = (taken.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        task.abort();
        rate
    };
    println!(
        "HTTP to decision, journal synced: {ceiling:.0} events/s ({} refused); {:.1} MiB resident",
        refused.load(Ordering::Relaxed),
        resident_mib()
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, rate, bodies) in [
        ("0", None, &bodies),
        ("10k-small", Some(10_000.0), &small),
        ("10k", Some(10_000.0), &bodies),
        ("tenth", Some(ceiling / 10.0), &bodies),
        ("half", Some(ceiling / 2.0), &bodies),
    ] {
        let task =
            rate.map(|rate| tokio::spawn(load(address, bodies.clone(), Some(rate), taken.clone(), refused.clone())));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (effects, answers) = probes(address, &mut heard, name).await?;
        let trips = trips(address).await?;
        if let Some(task) = task {
            task.abort();
        }
        let (beside, each) = (rate.unwrap_or(0.0), bodies.events);
        println!("at {beside:.0} events/s beside in bodies of {each}: event to webhook {}", quantiles(effects));
        println!("                         event to its 202 {}", quantiles(answers));
        println!("                         a request for nothing {}", quantiles(trips));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.drain().await;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
