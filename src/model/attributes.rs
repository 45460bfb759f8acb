//! Attributes of users and groups: JSON objects that are kept as one text.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use super::record::without_nul;

/// A JSON object as a text that is the same for the same content: sorted keys, no spaces, U+FFFD for U+0000, and numbers as
/// both engines give them back. It takes a quarter of a tree's memory, and is copied and compared as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Attributes(Box<str>);

impl Attributes {
    /// Those of a record's field; empty where that is missing or no object.
    ///
    /// # Errors
    /// [`TooDeep`] if what is written could not be read again.
    pub fn of(field: Option<&Value>) -> Result<Self, TooDeep> {
        match field {
            Some(Value::Object(fields)) if !fields.is_empty() => written(fields).map(Self),
            _ => Ok(Self::default()),
        }
    }

    /// Those that were stored.
    ///
    /// # Errors
    /// What [`serde_json`] says, if it is no JSON, or nested too deeply.
    pub fn from_stored(text: &[u8]) -> serde_json::Result<Self> {
        // What most groups have.
        if text == b"{}" {
            return Ok(Self::default());
        }
        Self::of(Some(&serde_json::from_slice(text)?)).map_err(serde::de::Error::custom)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object, to look into.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written from a value")
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Attributes are nested more deeply than [`serde_json`] reads.
///
/// It reads 128 levels, but begins to count anew within a text that it takes for its own `RawValue`, as an object with a
/// certain key is: a customer's attributes may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("attributes are nested too deeply")]
pub struct TooDeep;

/// Fewer than can be read, so that there is room for what they are read within.
const DEEPEST: usize = 125;

fn written(fields: &Map<String, Value>) -> Result<Box<str>, TooDeep> {
    let text = serde_json::to_string(&StoredFields(fields, DEEPEST)).map_err(|_| TooDeep)?;
    Ok(text.into_boxed_str())
}

/// Fields, and how many more levels there may be.
struct StoredFields<'a>(&'a Map<String, Value>, usize);

impl Serialize for StoredFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let levels = self.1.checked_sub(1).ok_or_else(|| S::Error::custom(TooDeep))?;
        let fields = self.0.iter().map(|(key, value)| (key, Stored(value, levels)));
        if self.0.keys().any(|key| key.contains('\0')) {
            // Another key has another place, which may be taken.
            let sorted: BTreeMap<String, Stored<'_>> =
                fields.map(|(key, value)| (without_nul(key.clone()), value)).collect();
            return serializer.collect_map(sorted);
        }
        serializer.collect_map(fields)
    }
}

struct Stored<'a>(&'a Value, usize);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains('\0') => serializer.serialize_str(&without_nul(text.clone())),
            Value::Array(items) => {
                let levels = self.1.checked_sub(1).ok_or_else(|| S::Error::custom(TooDeep))?;
                serializer.collect_seq(items.iter().map(|item| Stored(item, levels)))
            }
            Value::Object(fields) => StoredFields(fields, self.1).serialize(serializer),
            Value::Number(number) => as_given_back(number).serialize(serializer),
            other => other.serialize(serializer),
        }
    }
}

/// A number as PostgreSQL gives it back: without a negative zero, and a whole one without an exponent and so as an integer.
/// Otherwise what is stored would differ from what is fetched each time.
fn as_given_back(number: &Number) -> Number {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(0.0) => Number::from_f64(0.0).unwrap_or_else(|| number.clone()),
        Some(value) if (1e16..18_446_744_073_709_551_616.0).contains(&value) => Number::from(value as u64),
        Some(value) if (-9_223_372_036_854_775_808.0..=-1e16).contains(&value) => Number::from(value as i64),
        _ => number.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_same_content_is_the_same_text() {
        let of = |text: &str| Attributes::of(Some(&serde_json::from_str(text).unwrap())).unwrap();
        assert_eq!(
            of(r#"{"b": [1, {"d": 2, "c": null}], "a": "x"}"#).as_str(),
            r#"{"a":"x","b":[1,{"c":null,"d":2}]}"#
        );
        assert_eq!(
            of(r#"{"n": [-0.0, 1e16, -1e18, 1.0, 1e20]}"#).as_str(),
            r#"{"n":[0.0,10000000000000000,-1000000000000000000,1.0,1e+20]}"#
        );
        let moved = of(r#"{"k\u0000": "v\u0000", "kz": 1}"#);
        assert_eq!(moved.as_str(), "{\"kz\":1,\"k\u{FFFD}\":\"v\u{FFFD}\"}");
        for nothing in [None, Some(json!(null)), Some(json!([])), Some(json!({}))] {
            assert_eq!(Attributes::of(nothing.as_ref()), Ok(Attributes::default()));
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let read = |inner: &str| Attributes::of(Some(&serde_json::from_str(&format!("{{\"x\": {inner}}}")).unwrap()));
        let deep = read(&nested(DEEPEST - 1)).unwrap();
        assert_eq!(Attributes::from_stored(deep.as_str().as_bytes()).unwrap(), deep);
        assert_eq!(read(&nested(DEEPEST)), Err(TooDeep));
        let hidden = json!({"$serde_json::private::RawValue": nested(120)}).to_string();
        assert_eq!(read(&format!("{}{hidden}{}", "[".repeat(100), "]".repeat(100))), Err(TooDeep));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\0\u{FFFD}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\0\u{FFFD}]{0,2}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_stored_reads_the_same(value in any_json()) {
            let attributes = Attributes::of(Some(&json!({ "x": value }))).unwrap();
            prop_assert_eq!(&Attributes::from_stored(attributes.as_str().as_bytes()).unwrap(), &attributes);
            prop_assert!(!attributes.as_str().contains('\0') && !attributes.as_str().contains("\\u0000"));
        }
    }
}
