//! Links that let whoever holds one answer one question to people, until it expires.
//!
//! Invariant: nothing of a link is believed before its signature is verified; what is signed is a pure function of the
//! question, so that a repeated message holds the same link.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use selfheal_contract::notification::{Asked, Notification};
use selfheal_model::Timestamp;

/// Characters of a message about a question that stand before its link. Every medium cuts long texts at their end, and
/// the link is what must not be lost.
const MAX_QUESTION: usize = 1_500;
/// A shorter piece of a signature tells nothing that helps to guess the rest.
const TELLING: usize = 8;

/// What links are signed with. Whoever knows it can answer every question.
pub struct LinkKey([u8; LinkKey::LENGTH]);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(***)")
    }
}

impl LinkKey {
    pub const LENGTH: usize = 32;

    pub fn new(bytes: [u8; LinkKey::LENGTH]) -> Self {
        LinkKey(bytes)
    }

    fn mac(&self, approval: &str, until: Timestamp) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        // the instant stands last and is a number, so that no id can take over a part of it
        mac.update(format!("approve\n{approval}\n{}", until.as_millis()).as_bytes());
        Some(mac)
    }

    fn sign(&self, asked: &Asked) -> Option<String> {
        let signed = self.mac(asked.id.as_str(), asked.expires_at)?.finalize().into_bytes();
        Some(signed.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    #[error("this link was not made by this selfheal, or not all of it is here")]
    Forged,
    #[error("this link has expired")]
    Expired,
}

/// Makes links and tells whether one is good.
pub struct Links {
    key: LinkKey,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Links {
    pub fn new(key: LinkKey, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Links { key, now }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// # Errors
    /// It was not signed here, or it is too late.
    pub(super) fn verify(&self, approval: &str, until: &str, sign: &str) -> Result<(), BadLink> {
        let until = Timestamp::from_millis(until.parse().map_err(|_| BadLink::Forged)?);
        let sign = bytes_of(sign).ok_or(BadLink::Forged)?;
        let mac = self.key.mac(approval, until).ok_or(BadLink::Forged)?;
        mac.verify_slice(&sign).map_err(|_| BadLink::Forged)?;
        if (self.now)() >= until { Err(BadLink::Expired) } else { Ok(()) }
    }

    /// Adds to every question of a message the link that answers it; nothing where there is none, or nobody knows
    /// where this engine can be reached.
    pub fn in_message(&self, message: &Notification) -> Option<Linked> {
        if message.external_url.is_empty() || message.news.iter().all(|news| news.approval.is_none()) {
            return None;
        }
        let mut linked = Linked { message: message.clone(), signs: Vec::new() };
        for news in &mut linked.message.news {
            let Some((asked, sign)) = news.approval.as_ref().and_then(|asked| Some((asked, self.key.sign(asked)?)))
            else {
                continue;
            };
            let (id, until) = (encode(asked.id.as_str()), asked.expires_at.as_millis());
            let link = format!("{}/approve/{id}?until={until}&sign={sign}", message.external_url);
            if let Some((end, _)) = news.text.char_indices().nth(MAX_QUESTION) {
                news.text.truncate(end);
                news.text.push('…');
            }
            news.text.push_str(&format!("\nAnswer here:\n{link}"));
            linked.signs.push(sign);
        }
        Some(linked)
    }
}

/// A message whose links act: nothing else may keep it.
pub struct Linked {
    pub message: Notification,
    signs: Vec<String>,
}

impl Linked {
    /// What keeps the links out of what is said about the message later.
    pub fn into_parts(self) -> (Notification, Veil) {
        (self.message, Veil(self.signs))
    }
}

/// Hides signatures: a peer may repeat in its answer what it was sent.
#[derive(Default)]
pub struct Veil(Vec<String>);

impl Veil {
    /// `text` with every telling piece of a signature as `***`, also where it was cut.
    pub fn over(&self, mut text: String) -> String {
        for sign in &self.0 {
            for length in (TELLING..=sign.len()).rev() {
                if let Some(piece) = sign.get(..length)
                    && text.contains(piece)
                {
                    text = text.replace(piece, "***");
                }
            }
        }
        text
    }
}

/// Percent-encodes also what chats read as markup.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfheal_contract::notification::{FlushReason, GroupStatus, News, NewsKind};
    use selfheal_model::{Labels, Severity};

    const UNTIL: i64 = 1_800_000_000_000;

    fn links(key: u8, now: i64) -> Links {
        Links::new(LinkKey::new([key; LinkKey::LENGTH]), Arc::new(move || Timestamp::from_millis(now)))
    }

    fn message(id: &str, text: &str) -> Notification {
        let asked = Asked { id: id.into(), expires_at: Timestamp::from_millis(UNTIL) };
        Notification {
            receiver: "oncall".into(),
            group: "0".into(),
            group_labels: Labels::default(),
            at: Timestamp::MIN,
            flush: 1,
            thread_started: Timestamp::MIN,
            status: GroupStatus::Firing,
            reason: FlushReason::Urgent,
            severity: Severity::Critical,
            alerts: Vec::new(),
            truncated: 0,
            dependents: Vec::new(),
            news: vec![News {
                kind: NewsKind::Approval,
                at: Timestamp::MIN,
                alert: None,
                deployment: Some("shop".into()),
                run: None,
                approval: Some(asked),
                text: text.to_owned(),
            }],
            merged: 1,
            possible_repeat: false,
            unwatched: None,
            external_url: "https://heal.example.com".to_owned(),
        }
    }

    fn linked(id: &str) -> (String, String) {
        let linked = links(7, 0).in_message(&message(id, "May selfheal?")).expect("it asks");
        (linked.message.news[0].text.clone(), linked.signs[0].clone())
    }

    #[test]
    fn a_link_is_good_for_what_was_signed_and_for_nothing_else() {
        let (text, sign) = linked("my shop_1-3.1");
        assert_eq!(
            text,
            format!(
                "May selfheal?\nAnswer here:\nhttps://heal.example.com/approve/my%20shop%5F1-3.1?until={UNTIL}&sign={sign}"
            )
        );
        let until = UNTIL.to_string();
        let good = links(7, UNTIL - 1);
        assert_eq!(good.verify("my shop_1-3.1", &until, &sign), Ok(()));
        let other = if sign.starts_with('0') { "1" } else { "0" };
        for (id, until, sign) in [
            ("my shop_1-3.2", until.as_str(), sign.clone()),
            ("my shop_1-3.1", "1800000000001", sign.clone()),
            ("my shop_1-3.1", "", sign.clone()),
            ("my shop_1-3.1", &until, format!("{other}{}", &sign[1..])),
            ("my shop_1-3.1", &until, sign[..62].to_owned()),
            ("my shop_1-3.1", &until, String::new()),
            ("my shop_1-3.1", &until, "é".repeat(32)),
        ] {
            assert_eq!(good.verify(id, until, &sign), Err(BadLink::Forged), "{id} {until} {sign}");
        }
        assert_eq!(links(8, 0).verify("my shop_1-3.1", &until, &sign), Err(BadLink::Forged), "another key");
        assert_eq!(links(7, UNTIL).verify("my shop_1-3.1", &until, &sign), Err(BadLink::Expired));
        assert_eq!(linked("my shop_1-3.1").1, sign, "a repeated message holds the same link");
    }

    #[test]
    fn a_message_without_a_question_or_an_address_gets_no_link() {
        let mut other = message("shop-1.1", "x");
        other.news[0].approval = None;
        assert!(links(7, 0).in_message(&other).is_none());
        let mut nowhere = message("shop-1.1", "x");
        nowhere.external_url = String::new();
        assert!(links(7, 0).in_message(&nowhere).is_none());
    }

    #[test]
    fn a_long_question_does_not_cost_the_link() {
        let linked = links(7, 0).in_message(&message("shop-1.1", &"ä".repeat(9_000))).expect("it asks");
        let text = &linked.message.news[0].text;
        assert!(text.chars().count() < MAX_QUESTION + 300 && text.ends_with(&linked.signs[0]), "{text}");
    }

    #[test]
    fn what_a_peer_repeats_of_a_link_is_hidden() {
        let (_, sign) = linked("shop-1.1");
        let veil = Veil(vec![sign.clone()]);
        for piece in [sign.as_str(), &sign[..63], &sign[..20]] {
            assert_eq!(veil.over(format!("HTTP 400: bad &sign={piece}")), "HTTP 400: bad &sign=***");
        }
        assert_eq!(veil.over("HTTP 400: bad".to_owned()), "HTTP 400: bad");
        assert_eq!(format!("{:?}", LinkKey::new([7; 32])), "LinkKey(***)");
    }
}
