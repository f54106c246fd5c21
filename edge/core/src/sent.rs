//! A body that the edge reads by itself: an object of few fields, each a text or a number. Of anything else the origin says what is
//! wrong with it. One reader for all routes, since each instance loads its code.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::host::{Body, Request};

/// The fields, in the order of the body.
pub struct Sent(Vec<(String, Scalar)>);

enum Scalar {
    Text(String),
    Number(u64),
    Null,
}

impl Sent {
    /// `None` if it has other fields than these, or one of them twice.
    pub fn of(request: &impl Request, fields: &[&str]) -> Option<Sent> {
        let Some(Body::Whole(bytes)) = request.body() else { return None };
        let kind = request.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") || request.header("content-encoding").is_some() {
            return None;
        }
        let sent: Sent = serde_json::from_slice(bytes).ok()?;
        let is_known = sent.0.iter().enumerate().all(|(place, (name, _))| {
            fields.contains(&name.as_str()) && sent.0[..place].iter().all(|(before, _)| before != name)
        });
        is_known.then_some(sent)
    }

    fn take(&mut self, field: &str) -> Option<Scalar> {
        let place = self.0.iter().position(|(name, _)| name == field)?;
        Some(self.0.swap_remove(place).1)
    }

    pub fn text(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text that may be null or left out.
    pub fn optional(&mut self, field: &str) -> Option<Option<String>> {
        match self.take(field) {
            Some(Scalar::Text(text)) => Some(Some(text)),
            Some(Scalar::Null) | None => Some(None),
            Some(Scalar::Number(_)) => None,
        }
    }

    pub fn number(&mut self, field: &str) -> Option<u64> {
        match self.take(field)? {
            Scalar::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sent, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Sent;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Sent(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        struct One;

        impl Visitor<'_> for One {
            type Value = Scalar;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a text or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }
        }

        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<Sent> {
        serde_json::from_str(body).ok()
    }

    #[test]
    fn a_body_is_an_object_of_texts_and_numbers() {
        let mut sent = parse(r#" {"a": "b\n", "n": 12, "z": null} "#).unwrap();
        assert_eq!(sent.text("a").as_deref(), Some("b\n"));
        assert_eq!((sent.optional("z"), sent.optional("left out")), (Some(None), Some(None)));
        assert_eq!((sent.number("n"), sent.number("n")), (Some(12), None));
        for body in ["[]", "1", "{\"a\": -1}", "{\"a\": 1.0}", "{\"a\": {}}", "{\"a\": true}", "{} x", ""] {
            assert!(parse(body).is_none(), "{body}");
        }
    }
}
