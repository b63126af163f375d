//! What is to be sent: one document, or lines in batches as they come.
//!
//! Invariant: what is read and not sent yet is bounded; a reader that is faster than the engine waits.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Lines of one batch: enough that their cost is shared, few enough that a refusal is soon known.
const MAX_LINES: usize = 1_000;
/// Bytes of one batch, well below what the engine takes as one body.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of one line; an event is never so long.
const MAX_LINE: usize = 1 << 20;
/// The first line of a batch waits for others no longer than this.
const MAX_WAIT: Duration = Duration::from_millis(200);
/// Lines that are read ahead.
const READ_AHEAD: usize = MAX_LINES;

/// See the module.
pub(super) enum Input {
    /// One object or one array, over several lines perhaps.
    Whole(Vec<u8>),
    Lines(Batches),
}

/// Lines to be sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub body: Vec<u8>,
    /// Of each line of the body, its number in the whole input.
    pub numbers: Vec<usize>,
    /// Lines that are not sent, and why.
    pub unsendable: Vec<(usize, String)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.unsendable.is_empty()
    }

    fn is_full(&self) -> bool {
        self.numbers.len() + self.unsendable.len() >= MAX_LINES || self.body.len() >= MAX_BYTES
    }

    fn take(&mut self, line: Line) {
        match line.text {
            Some(text) => {
                self.numbers.push(line.number);
                self.body.extend_from_slice(&text);
                self.body.push(b'\n');
            }
            None => self.unsendable.push((line.number, format!("longer than {} KiB; not sent", MAX_LINE >> 10))),
        }
    }
}

/// One line, as the reader's thread finds it.
struct Line {
    /// From 1, in the whole input.
    number: usize,
    /// Without its end; `None`: it is too long.
    text: Option<Vec<u8>>,
}

impl Line {
    fn is_blank(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.trim_ascii().is_empty())
    }
}

enum Piece {
    Line(Line),
    Whole(Vec<u8>),
    Broken(std::io::Error),
}

/// The lines of an input that is perhaps still being written.
pub(super) struct Batches {
    pieces: mpsc::Receiver<Piece>,
    first: Option<Piece>,
}

impl Batches {
    /// The next lines: as soon as there are enough, or the first has waited long enough. `None` at the end.
    pub async fn next(&mut self) -> Option<anyhow::Result<Batch>> {
        let mut batch = Batch::default();
        let mut piece = match self.first.take() {
            Some(piece) => Some(piece),
            None => self.pieces.recv().await,
        };
        let until = Instant::now() + MAX_WAIT;
        loop {
            match piece {
                Some(Piece::Line(line)) => batch.take(line),
                Some(Piece::Broken(error)) if batch.is_empty() => {
                    return Some(Err(error).context("the input broke off"));
                }
                Some(broken) => {
                    // what was read before goes first
                    self.first = Some(broken);
                    return Some(Ok(batch));
                }
                None if batch.is_empty() => return None,
                None => return Some(Ok(batch)),
            }
            if batch.is_full() {
                return Some(Ok(batch));
            }
            piece = match timeout_at(until, self.pieces.recv()).await {
                Ok(piece) => piece,
                Err(_) => return Some(Ok(batch)),
            };
        }
    }
}

/// Opens a file, or stdin for `-`.
///
/// # Errors
/// It cannot be read.
pub(super) async fn open(file: &Path) -> anyhow::Result<Input> {
    let (found, mut pieces) = mpsc::channel(READ_AHEAD);
    if file.as_os_str() == "-" {
        // a thread of its own: a read of stdin ends when it ends
        std::thread::spawn(move || read(std::io::stdin().lock(), &found));
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        std::thread::spawn(move || read(BufReader::new(opened), &found));
    }
    match pieces.recv().await {
        Some(Piece::Whole(body)) => Ok(Input::Whole(body)),
        Some(Piece::Broken(error)) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        first => Ok(Input::Lines(Batches { pieces, first })),
    }
}

/// Reads until the end, or until nobody wants more.
fn read(mut input: impl BufRead, found: &mpsc::Sender<Piece>) {
    if let Err(error) = read_pieces(&mut input, found) {
        // a receiver that is gone wants nothing any more
        drop(found.blocking_send(Piece::Broken(error)));
    }
}

fn read_pieces(input: &mut impl BufRead, found: &mpsc::Sender<Piece>) -> std::io::Result<()> {
    let mut before = Vec::new();
    let mut number = 0;
    let mut is_first = true;
    while let Some(line) = read_line(input, number + 1)? {
        number = line.number;
        if line.is_blank() {
            if is_first {
                before.push(b'\n');
            }
            continue;
        }
        if std::mem::take(&mut is_first)
            && let Some(text) = line.text.as_ref().filter(|text| begins_a_document(text))
        {
            before.extend_from_slice(text);
            before.push(b'\n');
            input.read_to_end(&mut before)?;
            drop(found.blocking_send(Piece::Whole(before)));
            return Ok(());
        }
        if found.blocking_send(Piece::Line(line)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// `None` at the end. What is too long is read over.
fn read_line(input: &mut impl BufRead, number: usize) -> std::io::Result<Option<Line>> {
    let mut text = Vec::new();
    let most = MAX_LINE as u64 + 1;
    if input.by_ref().take(most).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if text.len() > MAX_LINE {
        loop {
            text.clear();
            let read = input.by_ref().take(most).read_until(b'\n', &mut text)?;
            if read == 0 || text.last() == Some(&b'\n') {
                return Ok(Some(Line { number, text: None }));
            }
        }
    }
    Ok(Some(Line { number, text: Some(text) }))
}

/// An array, or an object that goes on in the next line: the whole input is one document.
fn begins_a_document(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    match line.first() {
        Some(b'[') => true,
        Some(b'{') => serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batches(text: &str) -> Vec<(Vec<usize>, Vec<usize>)> {
        let (found, pieces) = mpsc::channel(READ_AHEAD);
        let text = text.to_owned();
        let reader = std::thread::spawn(move || read(text.as_bytes(), &found));
        let mut batches = Batches { pieces, first: None };
        let mut all = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch.expect("memory is read");
            all.push((batch.numbers, batch.unsendable.into_iter().map(|(line, _)| line).collect()));
        }
        reader.join().expect("the reader ends");
        all
    }

    #[tokio::test]
    async fn lines_are_numbered_as_in_the_whole_input() {
        let text = format!("\n{{}}\n\n{}\n{{}}\nlast", "x".repeat(MAX_LINE + 1));
        assert_eq!(batches(&text).await, [(vec![2, 5, 6], vec![4])]);
        let many: Vec<(Vec<usize>, Vec<usize>)> = batches(&"{}\n".repeat(2 * MAX_LINES + 1)).await;
        let lengths: Vec<usize> = many.iter().map(|(numbers, _)| numbers.len()).collect();
        assert!(lengths.iter().all(|length| *length <= MAX_LINES), "{lengths:?}");
        let all: Vec<usize> = many.into_iter().flat_map(|(numbers, _)| numbers).collect();
        assert_eq!(all, (1..=2 * MAX_LINES + 1).collect::<Vec<_>>());
    }

    #[test]
    fn an_array_and_an_object_over_several_lines_are_documents() {
        for document in ["[", "[{}]", "{", "{\"type\": \"metric\",", " [1,"] {
            assert!(begins_a_document(document.as_bytes()), "{document}");
        }
        for line in ["{}", "{\"a\":1}", "garbage", "{broken}", "{} {}"] {
            assert!(!begins_a_document(line.as_bytes()), "{line}");
        }
    }
}
