//! Notifications by e-mail, to addresses that their owners have verified.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_plane::outgoing::mail::{Letter, NotSent, escaped};

use crate::deliveries::checking::check;
use crate::deliveries::telling::line;

pub async fn send(ctx: &Ctx, delivery: &Delivery) -> Result<Outcome> {
    if !ctx.outgoing.mail.is_on() {
        return Ok(Outcome::Failed("no server"));
    }
    let wanted = match check(ctx, delivery).await? {
        Ok(wanted) => wanted,
        Err(outcome) => return Ok(outcome),
    };
    let line = line(&wanted);
    let greeting = format!("Hello {},", wanted.place.name);
    let end = "You can change what you are told of in your preferences.";
    let letter = Letter {
        to: wanted.place.email.clone(),
        subject: line.clone(),
        text: format!("{greeting}\n\n{line}.\n\n{end}\n"),
        html: format!("<p>{}</p><p>{}.</p><p>{end}</p>", escaped(&greeting), escaped(&line)),
        id: delivery.subject.to_string(),
    };
    Ok(match ctx.outgoing.mail.send(letter).await {
        Ok(()) => Outcome::Sent,
        Err(NotSent::Off) => Outcome::Failed("no server"),
        Err(NotSent::Refused) => Outcome::Failed("refused"),
        Err(NotSent::Failed) => Outcome::Again { reason: "the server failed", after: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escaped("<b>\"A&B\"</b>"), "&lt;b&gt;&quot;A&amp;B&quot;&lt;/b&gt;");
    }
}
