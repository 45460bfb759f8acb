//! Reads the fields of an envelope without building a tree of everything in it. Pure.
//!
//! All of it is still checked as a reader of the whole would: numbers, escapes, depth. Of a field that comes twice the
//! last counts, as there.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// What is read of an event's body; a field that is no text is as good as none.
pub(super) type Fields = Read<Envelope>;

#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) id: Option<String>,
    pub(super) event: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) data: Data,
}

#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) id: Option<String>,
    pub(super) directory_id: Option<String>,
    pub(super) organization_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Key {
    Id,
    Event,
    CreatedAt,
    Data,
    DirectoryId,
    OrganizationId,
    #[serde(other)]
    Other,
}

/// What is kept of a value of any kind.
pub(super) trait Keeps: Default {
    fn keep_text(&mut self, _text: &str) {}

    fn keep_field<'de, A: MapAccess<'de>>(&mut self, _key: &Key, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<Read<()>>().map(drop)
    }
}

/// A value of any kind, of which something is kept.
#[derive(Debug, Default)]
pub(super) struct Read<K>(pub(super) K);

impl Keeps for () {}

impl Keeps for Option<String> {
    fn keep_text(&mut self, text: &str) {
        *self = Some(text.to_owned());
    }
}

impl Keeps for Data {
    fn keep_field<'de, A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Id => self.id = next(map)?,
            Key::DirectoryId => self.directory_id = next(map)?,
            Key::OrganizationId => self.organization_id = next(map)?,
            Key::Event | Key::CreatedAt | Key::Data | Key::Other => next(map)?,
        }
        Ok(())
    }
}

impl Keeps for Envelope {
    fn keep_field<'de, A: MapAccess<'de>>(&mut self, key: &Key, map: &mut A) -> Result<(), A::Error> {
        match key {
            Key::Id => self.id = next(map)?,
            Key::Event => self.event = next(map)?,
            Key::CreatedAt => self.created_at = next(map)?,
            Key::Data => self.data = next(map)?,
            Key::DirectoryId | Key::OrganizationId | Key::Other => next(map)?,
        }
        Ok(())
    }
}

fn next<'de, K: Keeps, A: MapAccess<'de>>(map: &mut A) -> Result<K, A::Error> {
    map.next_value::<Read<K>>().map(|read| read.0)
}

impl<'de, K: Keeps> Deserialize<'de> for Read<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

struct Reader<K>(PhantomData<K>);

impl<'de, K: Keeps> Visitor<'de> for Reader<K> {
    type Value = Read<K>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read<K>, E> {
        Ok(Read::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read<K>, E> {
        Ok(Read::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Read<K>, E> {
        Ok(Read::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read<K>, E> {
        Ok(Read::default())
    }

    fn visit_unit<E>(self) -> Result<Read<K>, E> {
        Ok(Read::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Read<K>, E> {
        let mut kept = K::default();
        kept.keep_text(text);
        Ok(Read(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read<K>, A::Error> {
        while items.next_element::<Read<()>>()?.is_some() {}
        Ok(Read::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<K>, A::Error> {
        let mut kept = K::default();
        while let Some(key) = map.next_key::<Key>()? {
            kept.keep_field(&key, &mut map)?;
        }
        Ok(Read(kept))
    }
}
