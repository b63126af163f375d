//! Protobuf as it lies on the wire: the fields of a message, one after another, without copying.
//!
//! Remote write is read with it directly: its messages are small and many, and building each in memory first would let
//! a body of empty messages, two bytes each, take fifty times its size. For OTLP it weighs a body before it is decoded.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    /// Of the types `int64`, `uint32`, `bool` and enumerations.
    Varint(u64),
    /// Of the types `double` and `fixed64`.
    Fixed64(u64),
    /// Strings, bytes, messages and packed lists.
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub tag: u32,
    pub payload: Payload<'a>,
}

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("it ends within a field")]
    Truncated,
    #[error("a number has more than ten bytes")]
    LongNumber,
    #[error("a field has no valid number or type")]
    BadKey,
}

/// The fields of a message in their order. Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| WireError::BadKey)?;
        if tag == 0 {
            return Err(WireError::BadKey);
        }
        let payload = match key & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Payload::Bytes(self.bytes(length)?)
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::BadKey),
        };
        Ok(Field { tag, payload })
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let (value, rest) = varint(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The number at the beginning of `bytes`, and what stands behind it.
fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    /// Seven bits a byte.
    const LONGEST: usize = 10;
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(LONGEST) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(if bytes.len() < LONGEST { WireError::Truncated } else { WireError::LongNumber })
}

/// The numbers of a list that is written without a key before each.
pub(super) fn packed(mut bytes: &[u8]) -> impl Iterator<Item = Result<u64, WireError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let number = varint(bytes);
        bytes = number.map_or(&[], |(_, rest)| rest);
        Some(number.map(|(value, _)| value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Sample {
        #[prost(int64, tag = "1")]
        int: i64,
        #[prost(double, tag = "2")]
        double: f64,
        #[prost(string, tag = "3")]
        string: String,
        #[prost(fixed32, tag = "1000")]
        fixed: u32,
        #[prost(uint32, repeated, tag = "5")]
        list: Vec<u32>,
    }

    #[test]
    fn cut_and_broken_messages_are_errors() {
        let read = |bytes: &[u8]| Fields::of(bytes).collect::<Result<Vec<_>, _>>().map(|fields| fields.len());
        assert_eq!(read(&[]), Ok(0));
        assert_eq!(read(&[0x0a, 0x02, 0x00]), Err(WireError::Truncated));
        assert_eq!(read(&[0x09, 0x00]), Err(WireError::Truncated));
        assert_eq!(read(&[0x08]), Err(WireError::Truncated));
        assert_eq!(read(&[0x00, 0x00]), Err(WireError::BadKey));
        assert_eq!(read(&[0x0b]), Err(WireError::BadKey));
        assert_eq!(read(&[0xff; 12]), Err(WireError::LongNumber));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_prost_writes_is_read(int: i64, double: f64, string: String, fixed: u32, list: Vec<u32>) {
            let bytes = prost::Message::encode_to_vec(&Sample { int, double, string: string.clone(), fixed, list: list.clone() });
            for field in Fields::of(&bytes) {
                let Field { tag, payload } = field.expect("a field");
                match (tag, payload) {
                    (1, Payload::Varint(value)) => prop_assert_eq!(value as i64, int),
                    (2, Payload::Fixed64(bits)) => prop_assert_eq!(bits, double.to_bits()),
                    (3, Payload::Bytes(bytes)) => prop_assert_eq!(bytes, string.as_bytes()),
                    (1000, Payload::Fixed32(value)) => prop_assert_eq!(value, fixed),
                    (5, Payload::Bytes(bytes)) => {
                        let read: Vec<u64> = packed(bytes).collect::<Result<_, _>>().expect("numbers");
                        prop_assert_eq!(read, list.iter().copied().map(u64::from).collect::<Vec<_>>());
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
            prop_assert!(packed(&bytes).count() <= bytes.len());
        }
    }
}
