//! Objects of JSON with nothing else in their place, and lists that are not kept beyond a bound.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// A `T` read from an object. Alone, a `T` would be read from an array of its fields too.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The first `MAX` items of an array: in memory one can take many times its bytes.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize> {
    pub(super) items: Vec<T>,
    /// Whether there are more.
    pub(super) has_more: bool,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        let mut has_more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            has_more = true;
        }
        Ok(Bounded { items, has_more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Point {
        x: i32,
    }

    #[test]
    fn an_array_is_no_object() {
        let Object(point): Object<Point> = serde_json::from_str(r#"{"x": 1}"#).unwrap();
        assert_eq!(point.x, 1);
        assert!(serde_json::from_str::<Point>("[1]").is_ok());
        assert!(serde_json::from_str::<Object<Point>>("[1]").is_err());
    }

    #[test]
    fn what_is_beyond_the_bound_is_not_kept() {
        for (json, items, has_more) in [
            ("[]", &[][..], false),
            ("[1, 2]", &[1, 2], false),
            ("[1, 2, 3, 4]", &[1, 2], true),
        ] {
            let list: Bounded<i32, 2> = serde_json::from_str(json).unwrap();
            assert_eq!(
                (&list.items[..], list.has_more),
                (items, has_more),
                "{json}"
            );
        }
        assert!(serde_json::from_str::<Bounded<i32, 2>>("[1, 2, 3").is_err());
    }
}
