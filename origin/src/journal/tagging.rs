//! Tags as they are sent, kept, compared and searched for.

use std::borrow::Cow;

use optimist_plane::describe;
use optimist_plane::http::sent::{Line, Refused};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use unicode_normalization::UnicodeNormalization as _;

/// Tags in their form, each once, in the order in which they were sent.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Tags(pub Vec<String>);

const MOST_TAGS: usize = 20;

/// The form in which a tag is kept and compared: in lower case and composed (NFC), however a keyboard spelt it.
pub fn normal_tag(tag: &str) -> String {
    tag.trim().to_lowercase().nfc().collect()
}

/// Each tag in its form, once.
pub fn normal_tags(tags: &[String]) -> Vec<String> {
    let mut normal: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags.iter().map(|tag| normal_tag(tag)) {
        if !normal.contains(&tag) {
            normal.push(tag);
        }
    }
    normal
}

/// A tag within its bounds, which are those of its form: some keyboards send three characters for one.
fn tag_of(sent: String) -> Result<String, Refused> {
    Line::<1, 40>::try_from(sent.nfc().collect::<String>()).map(|line| normal_tag(&line))
}

/// A tag to search for, in each form in which an entry may have it: entries that were saved before tags had one form have what was
/// sent, in lower case.
pub struct SoughtTag(pub Vec<String>);

impl<'de> Deserialize<'de> for SoughtTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SoughtTag, D::Error> {
        let sent = String::deserialize(deserializer)?;
        let normal = tag_of(sent.clone()).map_err(D::Error::custom)?;
        let sent = sent.trim().to_lowercase();
        let mut forms = vec![normal];
        for former in [sent.nfd().collect(), sent] {
            if !forms.contains(&former) {
                forms.push(former);
            }
        }
        Ok(SoughtTag(forms))
    }
}

impl JsonSchema for SoughtTag {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SoughtTag".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Line::<1, 40>::json_schema(generator)
    }
}

impl TryFrom<Vec<String>> for Tags {
    type Error = Refused;

    fn try_from(sent: Vec<String>) -> Result<Tags, Refused> {
        if sent.len() > MOST_TAGS {
            return Err(Refused::new(format!("must be at most {MOST_TAGS}")));
        }
        let mut tags: Vec<String> = Vec::with_capacity(sent.len());
        for tag in sent {
            let tag = tag_of(tag)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Tags(tags))
    }
}

impl JsonSchema for Tags {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tag = generator.subschema_for::<Line<1, 40>>();
        json_schema!({"type": "array", "maxItems": MOST_TAGS, "items": tag})
    }
}

/// Tags as answers have them. Lower case makes some letters longer, so their length has no bound here.
pub struct ShownTags;

describe!(ShownTags, {"type": "array", "maxItems": MOST_TAGS, "items": {"type": "string"}});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_one_form_however_it_is_typed() {
        let tags =
            |sent: &[&str]| Tags::try_from(sent.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        // Composed, decomposed, and as a sign of its own: a letter with a ring, the same in two parts, and Angstrom's.
        assert_eq!(tags(&["\u{c5}s", "A\u{30a}s", "\u{212b}S "]).unwrap().0, ["\u{e5}s"]);
        // Forty Hangul syllables are a hundred and twenty characters when they are decomposed.
        let long: String = "\u{d55c}".repeat(40).nfd().collect();
        assert_eq!(tags(&[&long]).unwrap().0, ["\u{d55c}".repeat(40)]);
        assert!(tags(&[&"x".repeat(41)]).is_err());
        let sought = |json: &str| serde_json::from_str::<SoughtTag>(json).map(|SoughtTag(forms)| forms);
        assert_eq!(sought(r#""Rain ""#).unwrap(), ["rain"]);
        assert_eq!(sought("\"A\u{30a}\"").unwrap(), ["\u{e5}", "a\u{30a}"]);
        assert_eq!(sought("\"\u{c5}\"").unwrap(), ["\u{e5}", "a\u{30a}"]);
        assert!(sought(r#""""#).is_err());
    }
}
