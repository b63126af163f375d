//! JSON as OTLP's senders write it: numbers as numbers or in quotes, enumerations as numbers or names, bytes in base64,
//! and `null` for what is not there.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use base64::Engine as _;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::Temporality;

pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

pub(super) fn optional<'de, D: Deserializer<'de>, T: Number>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Lenient<T>>::deserialize(from)?.map(|number| number.0))
}

pub(super) fn number<'de, D: Deserializer<'de>, T: Number>(from: D) -> Result<T, D::Error> {
    Ok(optional(from)?.unwrap_or_default())
}

pub(super) fn numbers<'de, D: Deserializer<'de>, T: Number>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Option::<Vec<Lenient<T>>>::deserialize(from)?.unwrap_or_default();
    Ok(list.into_iter().map(|number| number.0).collect())
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    base64::engine::general_purpose::STANDARD.decode(text).map(Some).map_err(D::Error::custom)
}

pub(super) fn temporality<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Number(i32),
        Name(String),
    }
    Ok(match Option::deserialize(from)? {
        Some(Said::Number(number)) => number,
        Some(Said::Name(name)) => match name.as_str() {
            "AGGREGATION_TEMPORALITY_DELTA" => Temporality::DELTA,
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Temporality::CUMULATIVE,
            _ => 0,
        },
        None => 0,
    })
}

/// What a field of a number's type may be read from.
pub(super) trait Number: Default + FromStr {
    const EXPECTED: &'static str;
    fn of_i64(number: i64) -> Option<Self>;
    fn of_u64(number: u64) -> Option<Self>;
    fn of_f64(number: f64) -> Option<Self>;
}

impl Number for f64 {
    const EXPECTED: &'static str = "a number, also in quotes";
    fn of_i64(number: i64) -> Option<Self> {
        Some(number as f64)
    }
    fn of_u64(number: u64) -> Option<Self> {
        Some(number as f64)
    }
    fn of_f64(number: f64) -> Option<Self> {
        Some(number)
    }
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const EXPECTED: &'static str = "a whole number, also in quotes";
            fn of_i64(number: i64) -> Option<Self> {
                number.try_into().ok()
            }
            fn of_u64(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
            /// Some writers of JSON have only floats.
            fn of_f64(number: f64) -> Option<Self> {
                let whole = number as $type;
                (whole as f64 == number).then_some(whole)
            }
        }
    )*};
}

whole!(i64, u64, u32);

struct Lenient<T>(T);

impl<'de, T: Number> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NumberVisitor(PhantomData)).map(Lenient)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: Number> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::of_i64(number).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::of_u64(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::of_f64(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    /// Also `NaN` and `Infinity`, which JSON has no numbers for.
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
