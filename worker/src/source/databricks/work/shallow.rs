//! Reads JSON of any depth. What an API gives may be nested deeper than a parser that recurses dares to go; its key must be
//! found all the same, or one such item would be taken for another, or for none.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Levels that are read where not all can be: half of what the parser allows.
const LEVELS: usize = 64;

/// The value of `raw`: whole where it can be, else without what lies deeper than 64 levels, which reads as null. Null when
/// it is no JSON.
pub(super) fn read(raw: &[u8]) -> Value {
    serde_json::from_slice(raw).unwrap_or_else(|_| {
        let mut parser = serde_json::Deserializer::from_slice(raw);
        Level(LEVELS).deserialize(&mut parser).unwrap_or_default()
    })
}

/// Reads a value that may have so many levels.
#[derive(Clone, Copy)]
struct Level(usize);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0 == 0 {
            // Passing over a value does not recurse.
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null);
        }
        deserializer.deserialize_any(Self(self.0 - 1))
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            read.push(item);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            read.insert(name, members.next_value_seed(self)?);
        }
        Ok(read.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lies_near_the_top_is_read_however_deep_the_rest_goes() {
        for levels in [100, 200, 200_000] {
            let deep = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
            let raw = format!(
                r#"{{"deep":{deep},"id":9007199254740993,"settings":{{"name":"n\u00e4me"}},"x":[1.5,null,true]}}"#
            );
            let value = read(raw.as_bytes());
            assert_eq!(
                (&value["id"], &value["settings"]["name"]),
                (&json!(9007199254740993_u64), &json!("näme"))
            );
            assert_eq!(value["x"], json!([1.5, null, true]));
        }
        assert_eq!(read(b"{\"a\":"), Value::Null);
        assert_eq!(read(b"[1]"), json!([1]));
    }
}
