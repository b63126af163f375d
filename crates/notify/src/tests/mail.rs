//! What goes out by mail, and what servers' answers mean.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How a server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Fine,
    /// Takes the connection and says nothing.
    Silent,
    /// Takes the mail's text and hangs up instead of answering.
    DropsAfterData,
    /// Takes one mail and hangs up after its answer.
    ClosesAfterMail,
    /// Knows nobody of that name.
    Refuses(&'static str),
    /// Answers RCPT with this.
    AnswersRcpt(&'static str),
    /// Refuses every password, and repeats it.
    RepeatsPassword,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    commands: Vec<String>,
    mails: Vec<String>,
}

async fn server(manner: Manner) -> (u16, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            shared.lock().expect("no panic").connections += 1;
            let shared = shared.clone();
            // whoever hangs up ends its own conversation only
            tokio::spawn(async move { drop(converse(stream, manner, &shared).await) });
        }
    });
    (port, seen)
}

async fn converse(stream: TcpStream, manner: Manner, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    if manner == Manner::Silent {
        return stream.read_line(&mut String::new()).await.map(drop);
    }
    stream.write_all(b"220 test\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        seen.lock().expect("no panic").commands.push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let answer = match (verb, manner) {
            ("EHLO", _) => "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN".to_owned(),
            ("AUTH", Manner::RepeatsPassword) => "535 wrong password: sesame-1234".to_owned(),
            ("RCPT", Manner::Refuses(name)) if line.contains(name) => format!("550 5.1.1 {name}: no such user"),
            ("RCPT", Manner::AnswersRcpt(answer)) => answer.to_owned(),
            ("DATA", _) => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut mail).await? == 0 {
                        return Ok(());
                    }
                }
                seen.lock().expect("no panic").mails.push(mail.replace("\r\n", "\n"));
                if manner == Manner::DropsAfterData {
                    return Ok(());
                }
                if manner == Manner::ClosesAfterMail {
                    return stream.write_all(b"250 taken\r\n").await;
                }
                "250 taken".to_owned()
            }
            _ => "250 ok".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    let start = format!("{name}: ");
    mail.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(&start)).unwrap_or("")
}

#[tokio::test]
async fn a_repeat_is_the_same_bytes_and_a_group_is_one_thread() {
    let (port, seen) = server(Manner::Fine).await;
    let notifiers = notifiers(AT);
    let notifier = Notifier::Email(Arc::new(email(port)));
    let first = delivery(notifier.clone(), firing());
    let second = Delivery { attempt: 2, ..first.clone() };
    let end = Delivery {
        id: "0:{deployment=\"checkout\"}/oncall/0/2".into(),
        ..delivery(notifier, notification(vec![alert("HighCpu", AlertStatus::Resolved)]))
    };
    for delivery in [first, second, end] {
        assert_eq!(notifiers.deliver(&delivery).await, DeliveryResult::Delivered);
    }
    let seen = seen.lock().expect("no panic");
    let mails = &seen.mails;
    assert_eq!(mails[0], mails[1]);
    assert_eq!(seen.connections, 1, "the connection is used again");
    assert_ne!(header(&mails[0], "Message-ID"), header(&mails[2], "Message-ID"));
    assert!(header(&mails[0], "Message-ID").ends_with("@example.com>"));
    for name in ["In-Reply-To", "References"] {
        assert_eq!(header(&mails[0], name), header(&mails[2], name));
        assert!(!header(&mails[0], name).is_empty());
    }
    assert_eq!(header(&mails[0], "Date"), "Wed, 18 Nov 2026 15:46:40 +0000");
    assert_eq!(header(&mails[0], "Auto-Submitted"), "auto-generated");
    assert_eq!((header(&mails[0], "Importance"), header(&mails[2], "Importance")), ("high", "low"));
    assert!(header(&mails[0], "Subject").contains("FIRING") && header(&mails[0], "Subject").contains("HighCpu"));
    assert!(header(&mails[2], "Subject").contains("RESOLVED"));
    assert!(mails[0].contains("text/plain") && mails[0].contains("text/html") && mails[0].contains("cured"));
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_text_may_have_delivered_and_is_tried_again() {
    let (port, seen) = server(Manner::DropsAfterData).await;
    let result = send_mail(email(port), firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("may have taken")), "{result:?}");
    assert_eq!(seen.lock().expect("no panic").mails.len(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_meanwhile_costs_no_mail() {
    let (port, seen) = server(Manner::ClosesAfterMail).await;
    let notifiers = notifiers(AT);
    let delivery = delivery(Notifier::Email(Arc::new(email(port))), firing());
    for _ in 0..3 {
        assert_eq!(notifiers.deliver(&delivery).await, DeliveryResult::Delivered);
    }
    let seen = seen.lock().expect("no panic");
    assert_eq!((seen.mails.len(), seen.connections), (3, 3));
}

#[tokio::test]
async fn a_silent_server_and_a_closed_port_may_work_later() {
    let (port, _) = server(Manner::Silent).await;
    let mut def = email(port);
    def.smtp.timeout = Duration::from_millis(100);
    let result = send_mail(def, firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("100ms")), "{result:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let result = send_mail(email(port), firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { .. }), "{result:?}");
}

#[tokio::test]
async fn a_no_is_final_and_a_not_now_is_not() {
    for (answer, transient) in [("550 5.1.1 no such user", false), ("451 4.7.1 greylisted", true)] {
        let (port, seen) = server(Manner::AnswersRcpt(answer)).await;
        let result = send_mail(email(port), firing()).await;
        assert_eq!(matches!(result, DeliveryResult::Transient { .. }), transient, "{result:?}");
        assert!(why(&result).contains(&answer[4..]), "{result:?}");
        assert!(seen.lock().expect("no panic").mails.is_empty());
    }
}

#[tokio::test]
async fn one_refused_recipient_keeps_nobody_else_from_hearing_it() {
    let (port, seen) = server(Manner::Refuses("gone@example.com")).await;
    let to = vec!["gone@example.com".to_owned(), "ana@example.com".to_owned()];
    assert_eq!(send_mail(EmailDef { to, ..email(port) }, firing()).await, DeliveryResult::Delivered);
    assert_eq!(seen.lock().expect("no panic").mails.len(), 1);
}

#[tokio::test]
async fn a_password_is_not_repeated_in_an_error_and_never_sent_without_the_tls_asked_for() {
    let (port, seen) = server(Manner::RepeatsPassword).await;
    let mut def = email(port);
    def.smtp.username = Some("selfheal".to_owned());
    def.smtp.password = Some(literal("sesame-1234"));
    let result = send_mail(def.clone(), firing()).await;
    assert!(
        matches!(&result, DeliveryResult::Permanent { why } if why.contains("535") || why.contains("***")),
        "{result:?}"
    );
    assert!(!why(&result).contains("sesame"), "{result:?}");

    let before = seen.lock().expect("no panic").commands.len();
    def.smtp.tls = SmtpTls::Starttls;
    let result = send_mail(def, firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("STARTTLS")), "{result:?}");
    let seen = seen.lock().expect("no panic");
    assert!(seen.commands[before..].iter().all(|line| line.starts_with("EHLO")), "{:?}", seen.commands);
}

#[tokio::test]
async fn an_address_that_is_none_is_said_and_is_final() {
    let def = EmailDef { to: vec!["nobody".to_owned()], ..email(1) };
    let result = send_mail(def, firing()).await;
    assert!(matches!(&result, DeliveryResult::Permanent { why } if why.contains("`nobody`")), "{result:?}");
}

#[tokio::test]
async fn an_own_template_stands_in_both_parts_and_a_broken_one_says_so() {
    let (port, seen) = server(Manner::Fine).await;
    let own =
        |source: &str| EmailDef { template: Some(Arc::new(("short.j2".to_owned(), source.to_owned()))), ..email(port) };
    send_mail(own("{% for alert in alerts %}<{{ alert.alert }}> {{ alert.value | round }}{% endfor %}"), firing())
        .await;
    send_mail(own("{{ alerts[7].alert }}"), firing()).await;
    let seen = seen.lock().expect("no panic");
    assert!(
        seen.mails[0].contains("<HighCpu> 98") && seen.mails[0].contains("&lt;HighCpu&gt; 98"),
        "{}",
        seen.mails[0]
    );
    assert!(seen.mails[1].contains("built-in text") && seen.mails[1].contains("HighCpu"), "{}", seen.mails[1]);
}
