//! `selfheal send --file`: lines as they come, refusals for now and for good.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::command_line::{SELFHEAL, run, selfheal, terminate, text};
use crate::harness::DEADLINE;

const POLICY: &str = "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n";

fn policy() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("selfheal.yaml"), POLICY).expect("written");
    dir
}

fn send(url: &str, more: &[&str]) -> Child {
    Command::new(SELFHEAL)
        .args(["send", "--file", "-", "--url", url])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("selfheal does not start: {error}"))
}

fn metric(value: f64) -> String {
    format!("{{\"type\":\"metric\",\"deployment\":\"web-1\",\"name\":\"t\",\"value\":{value}}}\n")
}

/// Asks until the newest value is this.
fn wait_for(url: &str, value: f64) {
    let began = Instant::now();
    loop {
        let status = selfheal(&["status", "web-1", "--url", url, "--json"]);
        let view: Value = serde_json::from_slice(&status.stdout).unwrap_or(Value::Null);
        if view["metrics"][0][1] == value {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{value} did not come: {}{}", text(&status.stdout), text(&status.stderr));
    }
}

#[test]
fn a_line_arrives_while_the_input_goes_on_and_a_bad_one_is_named_by_its_number() {
    let dir = policy();
    let (mut engine, address, mut log) = run(dir.path());
    let url = format!("http://{address}");
    let mut sending = send(&url, &[]);
    let mut stdin = sending.stdin.take().expect("stdin is piped");
    write!(stdin, "{}", metric(1.0)).expect("it reads");
    wait_for(&url, 1.0);
    write!(stdin, "\nno event\n{}", metric(2.0)).expect("it reads");
    wait_for(&url, 2.0);
    write!(stdin, "{}", metric(3.0).replace("3", "\"hot\"")).expect("it reads");
    drop(stdin);
    let ended = sending.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "2 accepted, 2 rejected\n");
    let said = text(&ended.stderr);
    assert!(said.contains("line 3: ") && said.contains("line 5: "), "{said}");

    let file = dir.path().join("events.json");
    std::fs::write(&file, format!("[{},\n{}]", metric(4.0), metric(5.0))).expect("written");
    let path = file.to_string_lossy();
    let whole = selfheal(&["send", "--url", &url, "--file", &path]);
    assert_eq!((whole.status.code(), text(&whole.stdout).as_str()), (Some(0), "2 accepted, 0 rejected\n"));
    wait_for(&url, 5.0);

    let mut sending = send(&url, &["--json"]);
    let lines = format!("{}bad\n", metric(6.0).repeat(1_500));
    sending.stdin.take().expect("stdin is piped").write_all(lines.as_bytes()).expect("it reads");
    let ended = sending.wait_with_output().expect("it ends");
    let document: Value = serde_json::from_slice(&ended.stdout).expect("one JSON document");
    assert_eq!((&document["accepted"], &document["rejected"]), (&1_500.into(), &1.into()), "{document}");
    assert_eq!(document["errors"][0]["line"], 1_501, "{document}");

    terminate(&engine);
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("the log is text");
    assert!(engine.wait().expect("it ends").success());
}

/// Takes one request and answers it; with nothing, the connection breaks.
fn answer(listener: &TcpListener, with: Option<&str>) -> String {
    let (stream, _) = listener.accept().expect("a connection");
    let body = read_request(&stream);
    if let Some(with) = with {
        let mut stream = stream;
        stream.write_all(with.as_bytes()).expect("it is read");
    }
    body
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    text(&body)
}

#[test]
fn what_is_refused_for_now_is_sent_again_and_so_is_what_broke_off() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let mut sending = send(&url, &[]);
    sending.stdin.take().expect("stdin is piped").write_all(metric(1.0).as_bytes()).expect("it reads");
    let refusal =
        |status: &str| format!("HTTP/1.1 {status}\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let counts = "{\"accepted\":1,\"rejected\":0}";
    let taken =
        format!("HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{counts}", counts.len());
    let answers = [Some(refusal("429 Too Many Requests")), None, Some(refusal("503 Service Unavailable")), Some(taken)];
    for with in &answers {
        assert_eq!(answer(&listener, with.as_deref()), metric(1.0));
    }
    let ended = sending.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "1 accepted, 0 rejected\n");
    assert_eq!(text(&ended.stderr).matches("trying again").count(), 1, "said once: {}", text(&ended.stderr));
}

#[test]
fn trying_again_has_an_end() {
    let mut sending = send("http://127.0.0.1:9", &["--retry-for", "300ms"]);
    sending.stdin.take().expect("stdin is piped").write_all(metric(1.0).as_bytes()).expect("it reads");
    let ended = sending.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.contains("line 1") && said.contains("no selfheal answers"), "{said}");
}
