//! What a delivery says to a person, in their language: a line that names who and where, and a subject that names nobody, since lists of
//! mails are read over shoulders and shown on locked screens. Neither has any text of a message.

use crate::deliveries::checking::Wanted;
use crate::people::letters::locale::Locale;

/// Characters of a name in a line.
const NAME: usize = 60;

/// A line for a person to read.
pub fn line(wanted: &Wanted) -> String {
    let short = |name: &str| name.chars().take(NAME).collect::<String>();
    let who = wanted.actor.as_ref().map(|(_, name)| short(name));
    let circle = wanted.circle.as_ref().map(|(_, name)| short(name));
    match wanted.locale {
        Locale::English => {
            english(wanted, who.as_deref().unwrap_or("Someone"), circle.as_deref().unwrap_or("a circle"))
        }
        Locale::German => {
            german(wanted, who.as_deref().unwrap_or("Jemand"), circle.as_deref().unwrap_or("einem Kreis"))
        }
    }
}

fn english(wanted: &Wanted, who: &str, circle: &str) -> String {
    match wanted.kind.as_str() {
        "message" => format!("{who} wrote in {circle}"),
        "mention" => format!("{who} mentioned you in {circle}"),
        "comment" => format!("{who} commented in a thread that you follow in {circle}"),
        "reaction" if wanted.actors > 1 => {
            format!("{who} and {} more reacted to your message in {circle}", wanted.actors - 1)
        }
        "reaction" => format!("{who} reacted to your message in {circle}"),
        "role" => format!("{who} made you {} of {circle}", wanted.role.as_deref().unwrap_or("a member")),
        "offer" => format!("{who} offers you to own {circle}"),
        "invite" => format!("{who} invited you to {circle}"),
        "report" => format!("A message in {circle} was reported"),
        "upheld" => format!("What you reported in {circle} was removed"),
        "dismissed" => format!("What you reported in {circle} was looked at, and stays"),
        "removed" => format!("A message of yours in {circle} was removed, because it was reported"),
        _ => "There is more news than we tell one by one".to_owned(),
    }
}

fn german(wanted: &Wanted, who: &str, circle: &str) -> String {
    match wanted.kind.as_str() {
        "message" => format!("{who} hat in {circle} geschrieben"),
        "mention" => format!("{who} hat Sie in {circle} erwähnt"),
        "comment" => format!("{who} hat in {circle} etwas kommentiert, dem Sie folgen"),
        "reaction" if wanted.actors > 2 => {
            format!("{who} und {} weitere haben auf Ihre Nachricht in {circle} reagiert", wanted.actors - 1)
        }
        "reaction" if wanted.actors == 2 => {
            format!("{who} und eine weitere Person haben auf Ihre Nachricht in {circle} reagiert")
        }
        "reaction" => format!("{who} hat auf Ihre Nachricht in {circle} reagiert"),
        "role" => {
            let role = match wanted.role.as_deref() {
                Some("owner") => "Leitung",
                Some("moderator") => "Moderation",
                _ => "Mitglied",
            };
            format!("{who} hat Ihre Rolle in {circle} geändert: {role}")
        }
        "offer" => format!("{who} bietet Ihnen an, {circle} zu leiten"),
        "invite" => format!("{who} lädt Sie zu {circle} ein"),
        "report" => format!("Eine Nachricht in {circle} wurde gemeldet"),
        "upheld" => format!("Was Sie in {circle} gemeldet haben, wurde entfernt"),
        "dismissed" => format!("Was Sie in {circle} gemeldet haben, wurde geprüft und bleibt"),
        "removed" => format!("Eine Nachricht von Ihnen in {circle} wurde entfernt, weil sie gemeldet wurde"),
        _ => "Es gibt mehr Neues, als wir einzeln melden".to_owned(),
    }
}

/// The subject of a mail.
pub fn subject(kind: &str, locale: Locale) -> &'static str {
    match (locale, kind) {
        (Locale::English, "message") => "A new message in one of your circles",
        (Locale::English, "mention") => "You were mentioned in one of your circles",
        (Locale::English, "comment") => "A new comment in a thread that you follow",
        (Locale::English, "reaction") => "A reaction to your message",
        (Locale::English, "role") => "You have another role in a circle",
        (Locale::English, "offer") => "A circle is offered to you",
        (Locale::English, "invite") => "An invitation to a circle",
        (Locale::English, "report") => "A message was reported",
        (Locale::English, "upheld") => "What you reported was removed",
        (Locale::English, "dismissed") => "What you reported was looked at",
        (Locale::English, "removed") => "A message of yours was removed",
        (Locale::English, _) => "More news in your circles",
        (Locale::German, "message") => "Eine neue Nachricht in einem Ihrer Kreise",
        (Locale::German, "mention") => "Sie wurden in einem Ihrer Kreise erwähnt",
        (Locale::German, "comment") => "Ein neuer Kommentar, dem Sie folgen",
        (Locale::German, "reaction") => "Eine Reaktion auf Ihre Nachricht",
        (Locale::German, "role") => "Sie haben eine andere Rolle in einem Kreis",
        (Locale::German, "offer") => "Ihnen wird ein Kreis angeboten",
        (Locale::German, "invite") => "Eine Einladung zu einem Kreis",
        (Locale::German, "report") => "Eine Nachricht wurde gemeldet",
        (Locale::German, "upheld") => "Was Sie gemeldet haben, wurde entfernt",
        (Locale::German, "dismissed") => "Was Sie gemeldet haben, wurde geprüft",
        (Locale::German, "removed") => "Eine Nachricht von Ihnen wurde entfernt",
        (Locale::German, _) => "Mehr Neues in Ihren Kreisen",
    }
}

/// How a mail begins and ends.
pub fn around(locale: Locale, name: &str) -> (String, &'static str) {
    match locale {
        Locale::English => {
            (format!("Hello {name},"), "You can change what you are told of in your preferences.")
        }
        Locale::German => (
            format!("Guten Tag, {name}!"),
            "In Ihren Einstellungen können Sie ändern, worüber Sie benachrichtigt werden.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::DateTime;
    use optimist_shared::ids::Uuid;

    use super::*;
    use crate::deliveries::checking::Place;

    const KINDS: [&str; 12] = [
        "message",
        "mention",
        "comment",
        "reaction",
        "role",
        "offer",
        "invite",
        "more",
        "report",
        "upheld",
        "dismissed",
        "removed",
    ];
    /// Those that name nobody.
    const NAMELESS: [&str; 4] = ["report", "upheld", "dismissed", "removed"];

    fn wanted(kind: &str, locale: Locale, actors: i32) -> Wanted {
        let named = |name: &str| Some((Uuid::nil(), name.to_owned()));
        Wanted {
            place: Place::default(),
            locale,
            kind: kind.to_owned(),
            circle: named(&"C".repeat(80)),
            message: None,
            actor: named(&"A".repeat(80)),
            actors,
            role: Some("owner".to_owned()),
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_kind_has_words_of_its_own_in_each_language() {
        let both = || {
            [Locale::English, Locale::German].into_iter().flat_map(|locale| KINDS.map(|kind| (kind, locale)))
        };
        let subjects: BTreeSet<&str> = both().map(|(kind, locale)| subject(kind, locale)).collect();
        let lines: BTreeSet<String> = both().map(|(kind, locale)| line(&wanted(kind, locale, 1))).collect();
        assert_eq!((subjects.len(), lines.len()), (24, 24));
        for (kind, locale) in both().filter(|(kind, _)| *kind != "more") {
            let line = line(&wanted(kind, locale, 1));
            let letters: &[&str] = if NAMELESS.contains(&kind) { &["C"] } else { &["A", "C"] };
            let mut names = letters.iter().map(|letter| letter.repeat(NAME));
            assert!(names.all(|name| line.contains(name.as_str())), "{line}");
            assert!(line.len() < 2 * NAME + 80, "names are cut: {line}");
        }
    }

    #[test]
    fn people_who_react_are_counted() {
        let line =
            |locale, actors| line(&wanted("reaction", locale, actors)).replace("AA", "").replace("CC", "");
        let english = [1, 2, 3].map(|actors| line(Locale::English, actors));
        assert_eq!(english[0], " reacted to your message in ");
        assert_eq!(english[2], " and 2 more reacted to your message in ");
        let german = [1, 2, 3].map(|actors| line(Locale::German, actors));
        assert_eq!(german[0], " hat auf Ihre Nachricht in  reagiert");
        assert_eq!(german[1], " und eine weitere Person haben auf Ihre Nachricht in  reagiert");
        assert_eq!(german[2], " und 2 weitere haben auf Ihre Nachricht in  reagiert");
    }
}
