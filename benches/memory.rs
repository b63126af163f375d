//! What this machine's memory takes: reads of random cache lines in as much as the engine's series take, each after the
//! other and independent of each other, beside the same in what the nearest cache holds.
//!
//! `cargo bench --bench memory`. What an event of `cargo bench --bench engine` takes is at least so many of these as it has
//! misses.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

/// Words of a cache line.
const LINE: usize = 8;
const READS: usize = 8_000_000;
/// Lines that one event reads, all known when it comes.
const TOGETHER: usize = 8;

/// Every line names another one, in one ring through all of them (Sattolo).
fn ring(lines: usize, random: &mut impl FnMut(usize) -> usize) -> Vec<u64> {
    let mut next: Vec<usize> = (0..lines).collect();
    for place in (1..lines).rev() {
        next.swap(place, random(place));
    }
    let mut words = vec![0_u64; lines * LINE];
    for (line, next) in next.into_iter().enumerate() {
        words[line * LINE] = next as u64;
    }
    words
}

/// Nanoseconds for each read where one says where the next is.
fn chased(words: &[u64]) -> f64 {
    let mut place = 0_usize;
    let began = Instant::now();
    for _ in 0..READS {
        place = words[place * LINE] as usize;
    }
    black_box(place);
    began.elapsed().as_secs_f64() * 1e9 / READS as f64
}

/// Nanoseconds for each read where so many are known at once, and what comes after them waits for all.
fn together(words: &[u64], random: &mut impl FnMut(usize) -> usize) -> f64 {
    let lines = words.len() / LINE;
    let places: Vec<usize> = (0..READS).map(|_| random(lines) * LINE).collect();
    let mut sum = 0_u64;
    let began = Instant::now();
    for event in places.chunks_exact(TOGETHER) {
        // the order of nothing: it only makes the next event wait for this one
        let after = (sum & 1) as usize;
        sum = event.iter().map(|place| words[*place + after]).fold(sum, |sum, word| sum ^ word);
    }
    black_box(sum);
    began.elapsed().as_secs_f64() * 1e9 / READS as f64
}

fn main() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    println!("ns a read of a random cache line; {TOGETHER} at a time where they are independent");
    for kib in [24, 384, 8 * 1024, 32 * 1024, 130 * 1024] {
        let words = ring(kib * 1024 / 64, &mut random);
        chased(&words[..]);
        let (one, many) = (chased(&words), together(&words, &mut random));
        println!("{kib:>7} KiB: {one:>6.1} each after the other, {many:>6.1} independent");
    }
}
