//! A mailbox and a webhook receiver on loopback: for the demo, for `selfheal inbox` and for tests. They take what
//! comes, keep it in memory, and are no servers for the world.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

/// A mail longer than this is refused.
const MAX_MAIL: usize = 1 << 20;
/// A line of SMTP longer than this ends the session.
const MAX_LINE: u64 = 64 << 10;
/// Mails and requests that are kept; the oldest go first.
const KEPT: usize = 10_000;
/// A client that says nothing for so long is sent away.
const PATIENCE: Duration = Duration::from_secs(60);

/// One mail as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub sender: String,
    pub recipients: Vec<String>,
    /// Headers and body, dot-unstuffed, lines ended by LF.
    pub data: String,
}

impl Mail {
    /// A header's value, unfolded, encoded words decoded. The first of its name.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.data.lines().take_while(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            let Some((own, value)) = line.split_once(':') else { continue };
            if own.eq_ignore_ascii_case(name) {
                let mut value = value.trim().to_owned();
                while let Some(more) = lines.next_if(|next| next.starts_with([' ', '\t'])) {
                    value.push(' ');
                    value.push_str(more.trim());
                }
                return Some(decode_words(&value));
            }
        }
        None
    }

    /// Empty where there is none.
    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }

    /// The text part, decoded; of a mail with one part all of it.
    pub fn text(&self) -> String {
        let (head, body) = self.data.split_once("\n\n").unwrap_or((&self.data, ""));
        let Some(boundary) = parameter(head, "boundary") else { return decode_body(head, body) };
        let line = format!("--{boundary}");
        for part in body.split(&line).skip(1) {
            let part = part.trim_start_matches(['\n', '\r']);
            let Some((head, body)) = part.split_once("\n\n") else { continue };
            if head.to_ascii_lowercase().contains("text/plain") {
                return decode_body(head, body.trim_end_matches('\n'));
            }
        }
        body.to_owned()
    }
}

/// `name="value"` or `name=value` out of headers.
fn parameter(head: &str, name: &str) -> Option<String> {
    let at = head.find(&format!("{name}="))? + name.len() + 1;
    let rest = &head[at..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().map(str::to_owned),
        None => rest.split([';', '\n', ' ']).next().map(str::to_owned),
    }
}

fn decode_body(head: &str, body: &str) -> String {
    let head = head.to_ascii_lowercase();
    if head.contains("content-transfer-encoding: base64") {
        let packed: String = body.split_whitespace().collect();
        return base64_text(&packed).unwrap_or_else(|| body.to_owned());
    }
    if head.contains("content-transfer-encoding: quoted-printable") {
        return quoted_printable(body);
    }
    body.to_owned()
}

fn base64_text(packed: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// RFC 2045 §6.7.
fn quoted_printable(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::with_capacity(joined.len());
    let mut rest = joined.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let coded = (*first == b'=')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match coded {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 2047 encoded words, as a header of a mail that is no ASCII has them.
fn decode_words(value: &str) -> String {
    let mut text = String::new();
    let mut after_word = false;
    for word in value.split(' ') {
        let decoded = word.strip_prefix("=?").and_then(|word| word.strip_suffix("?=")).and_then(|word| {
            let mut parts = word.splitn(3, '?').skip(1);
            let (encoding, coded) = (parts.next()?, parts.next()?);
            match encoding {
                "b" | "B" => base64_text(coded),
                "q" | "Q" => Some(quoted_printable(&coded.replace('_', " "))),
                _ => None,
            }
        });
        // white space between two encoded words is no text
        let is_one_word = after_word && decoded.is_some();
        if !text.is_empty() && !is_one_word {
            text.push(' ');
        }
        after_word = decoded.is_some();
        text.push_str(decoded.as_deref().unwrap_or(word));
    }
    text
}

/// Takes mail for anyone, without TLS and without asking who sends it.
pub struct SmtpSink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    task: tokio::task::JoinHandle<()>,
}

impl SmtpSink {
    /// On a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> std::io::Result<SmtpSink> {
        Self::bind(("127.0.0.1", 0)).await
    }

    /// # Errors
    /// The address is taken.
    pub async fn bind(address: impl ToSocketAddrs) -> std::io::Result<SmtpSink> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = mails.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = taken.clone();
                tokio::spawn(async move {
                    // a client that breaks off loses its own mail only
                    let _ = tokio::time::timeout(PATIENCE, smtp_session(stream, &taken)).await;
                });
            }
        });
        Ok(SmtpSink { address, mails, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// In order of arrival.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn smtp_session(stream: TcpStream, mails: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 selfheal sink\r\n").await?;
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    loop {
        let Some(line) = read_line(&mut stream).await? else { return Ok(()) };
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" => b"250-selfheal sink\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "HELO" | "NOOP" => b"250 ok\r\n",
            "MAIL" => {
                sender = address();
                b"250 ok\r\n"
            }
            "RCPT" => {
                recipients.push(address());
                b"250 ok\r\n"
            }
            "RSET" => {
                recipients.clear();
                b"250 ok\r\n"
            }
            "DATA" if recipients.is_empty() => b"503 name a recipient first\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                match read_data(&mut stream).await? {
                    Some(data) => {
                        let recipients = std::mem::take(&mut recipients);
                        keep(mails, Mail { sender: sender.clone(), recipients, data });
                        b"250 taken\r\n"
                    }
                    None => b"552 too long\r\n",
                }
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"502 not here\r\n",
        };
        stream.write_all(answer).await?;
    }
}

fn keep<T>(list: &Mutex<Vec<T>>, one: T) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() == KEPT {
        list.remove(0);
    }
    list.push(one);
}

/// Without its line end; `None` at the end of the stream.
async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let length = (&mut *stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
    if length == 0 {
        return Ok(None);
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// `None`: too long; it was read to its end all the same.
async fn read_data(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut data = String::new();
    let mut too_long = false;
    while let Some(line) = read_line(stream).await? {
        if line == "." {
            return Ok((!too_long).then_some(data));
        }
        too_long |= data.len() + line.len() > MAX_MAIL;
        if !too_long {
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push('\n');
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct WebhookRequest {
    pub headers: HeaderMap,
    pub body: Bytes,
}

type Requests = Arc<Mutex<Vec<WebhookRequest>>>;

/// Takes every POST and answers 200.
pub struct WebhookSink {
    address: SocketAddr,
    requests: Requests,
    task: tokio::task::JoinHandle<()>,
}

impl WebhookSink {
    /// On a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> std::io::Result<WebhookSink> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let app = axum::Router::new().route("/hook", post(take_request)).with_state(requests.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the webhook sink stopped");
            }
        });
        Ok(WebhookSink { address, requests, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// In order of arrival.
    pub fn requests(&self) -> Vec<WebhookRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WebhookSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take_request(State(requests): State<Requests>, headers: HeaderMap, body: Bytes) {
    keep(&requests, WebhookRequest { headers, body });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_read_as_a_person_would() {
        let data = "Subject: =?utf-8?b?w7xiZXI=?= =?utf-8?b?YWxs?= now\nContent-Type: multipart/alternative;\n \
                    boundary=\"b1\"\n\n--b1\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: \
                    quoted-printable\n\n90 =25 of =\nall\n--b1\nContent-Type: text/html\n\n<p>\n--b1--\n";
        let mail = Mail { sender: String::new(), recipients: Vec::new(), data: data.to_owned() };
        assert_eq!(mail.subject(), "überall now");
        assert_eq!(mail.text(), "90 % of all");
    }

    #[tokio::test]
    async fn mails_are_taken_one_after_the_other_and_dots_are_unstuffed() {
        let sink = SmtpSink::start().await.expect("it starts");
        let mut client = TcpStream::connect(sink.address()).await.expect("it listens");
        client
            .write_all(
                b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: one\r\n\r\n..dot\r\n.\r\n\
                  MAIL FROM:<a@b>\r\nDATA\r\nRCPT TO:<e@f>\r\nDATA\r\nSubject: two\r\n\r\n.\r\nQUIT\r\n",
            )
            .await
            .expect("it reads");
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("it says goodbye");
        assert!(answers.contains("503"), "{answers}");
        let mails = sink.mails();
        assert_eq!(mails.iter().map(Mail::subject).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((mails[0].text().as_str(), &mails[0].recipients[..]), (".dot\n", &["c@d".to_owned()][..]));
    }
}
