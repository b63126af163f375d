//! What people read.

use super::*;
use crate::{html, text};
use selfheal_contract::notification::{DependentsFacts, RootFacts, Unwatched};
use selfheal_model::DeploymentId;

fn plain(notification: &Notification) -> String {
    text::plain(&text::content(notification))
}

#[test]
fn a_text_tells_what_since_when_and_what_was_done() {
    let mut message = firing();
    message.news.push(news(NewsKind::NotCured, "restart did not help:\nstill at 99 %"));
    let expected = "\
[FIRING:1] HighCpu checkout (critical): not cured

FIRING  HighCpu on checkout (critical)
  CPU of checkout at 97.5 %
  since: 2026-11-18 15:41:40 UTC, firing since 2026-11-18 15:42:40 UTC
  value: 97.5
  labels: tier=web
  runbook_url: https://runbooks.example.com/cpu
  repair: done, playbook 1 of 2
    restart on checkout: cured after 1m; clear for 30s
      restart: done in 2.1s

News
  2026-11-18 15:46:40 UTC, checkout, not cured
    restart did not help:
    still at 99 %

http://127.0.0.1:9494
";
    assert_eq!(plain(&message), expected);
}

#[test]
fn an_end_is_told_for_what_it_is() {
    for (status, said) in [
        (AlertStatus::Resolved, "RESOLVED  HighCpu"),
        (AlertStatus::NoLongerWatched, "no longer watched"),
        (AlertStatus::Moved, "moved: it is told to another receiver"),
    ] {
        let text = plain(&notification(vec![alert("HighCpu", status)]));
        assert!(text.contains(said) && text.contains("until 2026-11-18 15:46:40 UTC, 5m"), "{text}");
        assert_eq!(text.contains("RESOLVED"), status == AlertStatus::Resolved, "{text}");
    }
}

#[test]
fn a_root_names_who_is_sick_because_of_it_and_a_dependent_names_its_root() {
    let sick = ["api-1", "api-2"].map(DeploymentId::from).to_vec();
    let mut message = notification(vec![alert("Slow", AlertStatus::Firing), alert("Down", AlertStatus::Firing)]);
    message.dependents.push(DependentsFacts { root: "checkout".into(), sick, more: 30 });
    let said = "sick because of it, and held back: api-1, api-2 and 30 more";
    let text = plain(&message);
    assert_eq!(text.matches(said).count(), 1, "{text}");
    assert!(html::page(&text::content(&message)).contains(said));
    let why = "is unhealthy".to_owned();
    message.alerts[1].dependency = Some(RootFacts { deployment: "db".into(), why, since: AT });
    let said =
        "depends on: db, which is unhealthy since 2026-11-18 15:46:40 UTC; it is not repaired before that is back";
    let text = plain(&message);
    assert!(text.contains(said), "{text}");
}

#[test]
fn repeats_and_merges_are_said() {
    let mut message = firing();
    message.possible_repeat = true;
    message.unwatched = Some(Unwatched { from: message.at - Duration::from_secs(600), to: message.at });
    message.merged = 4;
    message.truncated = 23;
    message.alerts[0].change = AlertChangeWord::FiringAgain;
    message.alerts[0].relapse = 2;
    message.alerts[0].without_data = true;
    let text = plain(&message);
    for said in [
        "Possible repeat",
        "did not watch for 10m",
        "4 notifications are merged",
        "and 23 more alerts",
        "relapse 2",
        "without data",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn html_escapes_every_text_of_an_event_and_links_only_addresses() {
    let evil = "<script>alert('\"&')</script>";
    let mut message = firing();
    let alert = &mut message.alerts[0];
    alert.alert = evil.to_owned();
    alert.summary = evil.to_owned();
    alert.labels = labels(&[("tier", evil)]);
    alert.annotations = labels(&[(evil, evil), ("bad", "javascript:alert(1)"), ("worse", "https://x/\"onload=\"y")]);
    if let Some(remediation) = &mut alert.remediation {
        remediation.runs[0].why = evil.to_owned();
        remediation.runs[0].steps = vec![evil.to_owned()];
        remediation.state = evil.into();
    }
    message.news.push(news(NewsKind::Exhausted, evil));
    message.external_url = "http://x/\"><script>".to_owned();
    let page = html::page(&text::content(&message));
    assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
    assert!(!page.contains("href=\"javascript") && !page.contains("href=\"https://x/"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&#x27;&quot;&amp;&#x27;)"), "{page}");
}

#[test]
fn control_characters_and_turned_writing_do_not_get_through() {
    let mut message = firing();
    message.alerts[0].summary = "a\u{1b}[2Jb\u{0}c\u{202e}d\r\ne".to_owned();
    let text = plain(&message);
    assert!(text.contains("a[2Jbcd\n  e"), "{text:?}");
}

#[test]
fn the_longest_message_is_bounded_and_names_every_alert() {
    let long = "lorem ipsum ".repeat(2_000);
    let many = (0..100)
        .map(|n| {
            let mut alert = alert(&format!("Alert{n}x"), AlertStatus::Firing);
            alert.annotations = (0..50).map(|n| (format!("a{n}"), long.clone())).collect();
            alert.summary = long.clone();
            alert
        })
        .collect();
    let mut message = notification(many);
    message.news = (0..500).map(|_| news(NewsKind::NotCured, &long)).collect();
    let text = plain(&message);
    assert!(text.len() < 512 * 1024, "{}", text.len());
    for n in 0..100 {
        assert!(text.contains(&format!("Alert{n}x on checkout")), "alert {n} is missing");
    }
    assert!(text.contains("left out"));
}

#[test]
fn numbers_read_as_people_write_them() {
    for (value, said) in
        [(97.5, "97.5"), (3.0, "3"), (0.12345, "0.123"), (1e9, "1000000000"), (-0.0001, "0"), (f64::NAN, "NaN")]
    {
        assert_eq!(text::number(value), said);
    }
}
