//! The languages that mails are written in.

use optimist_plane::describe;
use optimist_plane::http::sent::Refused;
use serde::Deserialize;

/// A language of mails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Locale {
    #[default]
    English,
    German,
}

describe!(Locale, {
    "type": "string",
    "enum": ["en", "de"],
    "description": "The language of mails to the account.",
});

impl Locale {
    /// As the API and Postgres name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Locale::English => "en",
            Locale::German => "de",
        }
    }

    /// A name that Postgres has checked. English for any other.
    pub fn named(name: &str) -> Locale {
        match name {
            "de" => Locale::German,
            _ => Locale::English,
        }
    }
}

impl TryFrom<String> for Locale {
    type Error = Refused;

    fn try_from(name: String) -> Result<Locale, Refused> {
        let locale = Locale::named(&name);
        if locale.as_str() == name { Ok(locale) } else { Err(Refused::new("must be `en` or `de`")) }
    }
}
