//! Time zones, by the names of the IANA's database.

use serde::Deserialize;

use super::{Refused, describe};

/// An IANA name, such as `Europe/Vienna`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeZone(pub String);

describe!(TimeZone, {
    "type": "string",
    "format": "time-zone",
    "description": "The IANA name of a time zone: `Europe/Vienna`.",
});

impl TryFrom<String> for TimeZone {
    type Error = Refused;

    fn try_from(name: String) -> Result<TimeZone, Refused> {
        name.parse::<chrono_tz::Tz>()
            .map(|zone| TimeZone(zone.name().to_owned()))
            .map_err(|_| Refused::new("must be the IANA name of a time zone"))
    }
}

impl Default for TimeZone {
    fn default() -> TimeZone {
        TimeZone("UTC".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_iana_names() {
        assert!(TimeZone::try_from("Europe/Vienna".to_owned()).is_ok());
        assert!(TimeZone::try_from(TimeZone::default().0).is_ok());
        assert!(TimeZone::try_from("Mars/Olympus".to_owned()).is_err());
    }
}
