//! Samples as one byte string: the time since the one before as a varint, the value as it is. A snapshot is mostly these.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::ser::Serializer;

use super::Sample;
use super::samples::Samples;
use selfheal_model::Timestamp;

pub fn serialize<S: Serializer>(samples: &Samples, serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(samples.len() * 11);
    let mut before = 0_i64;
    for Sample { at, value } in samples.iter() {
        let mut step = at.as_millis().wrapping_sub(before).cast_unsigned();
        before = at.as_millis();
        while step >= 0x80 {
            bytes.push((step & 0x7f) as u8 | 0x80);
            step >>= 7;
        }
        bytes.push(step as u8);
        bytes.extend(value.to_bits().to_le_bytes());
    }
    serializer.serialize_bytes(&bytes)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Samples, D::Error> {
    let bytes = deserializer.deserialize_byte_buf(Bytes)?;
    unpacked(&bytes).ok_or_else(|| D::Error::custom("samples are cut"))
}

fn unpacked(mut bytes: &[u8]) -> Option<Samples> {
    let mut samples = Samples::default();
    let mut before = 0_i64;
    while !bytes.is_empty() {
        let mut step = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            step |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (value, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        before = before.wrapping_add(step.cast_signed());
        let value = f64::from_bits(u64::from_le_bytes(*value));
        samples.insert(samples.len(), Sample { at: Timestamp::from_millis(before), value });
    }
    Some(samples)
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
