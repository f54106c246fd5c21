//! Mails about accounts: confirming an address, choosing a new password, moving to another address.

use optimist_tests::client::PASSWORD;
use optimist_tests::mailbox::{Answers, Mail};
use optimist_tests::{Answer, Client, Mailbox, Options, Origin, System, until};
use serde_json::{Value, json};

use super::api::problem;

const OTHER: &str = "another horse battery";

/// A system that sends mail; `unverified` says what people may do before they have confirmed their address.
async fn with_mail(unverified: &str) -> (System, Mailbox) {
    let mailbox = Mailbox::start().await;
    let settings = mailbox.settings(unverified);
    (System::with(Options { settings, ..Options::default() }).await, mailbox)
}

fn an_address() -> String {
    format!("{}@example.org", uuid::Uuid::new_v4().simple())
}

async fn post(system: &System, path: &str, body: Value) -> Answer {
    system.forget_address_limits().await;
    system.client().post(path, body).await
}

async fn forgot(system: &System, email: &str) {
    let answer = post(system, "/v1/auth/password/forgot", json!({"email": email})).await.expect(202);
    assert_eq!(answer.body, Value::Null);
}

async fn verify(system: &System, token: &str) -> Answer {
    post(system, "/v1/auth/verify", json!({"token": token})).await
}

async fn reset(system: &System, token: &str, password: &str) -> Answer {
    post(system, "/v1/auth/password/reset", json!({"token": token, "password": password})).await
}

async fn log_in(system: &System, email: &str, password: &str) -> Answer {
    post(system, "/v1/auth/login", json!({"email": email, "password": password})).await
}

async fn register(system: &System, email: &str, password: &str) -> Answer {
    post(system, "/v1/auth/register", json!({"email": email, "password": password, "name": "Ada"})).await
}

fn token_of(mail: &Mail) -> String {
    mail.token().unwrap_or_else(|| panic!("no token in {mail:#?}"))
}

#[track_caller]
fn refused(answer: Answer) {
    let body = problem(answer, 422);
    assert_eq!(body["errors"][0]["field"], "token", "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_confirmed_by_the_token_of_a_mail_to_it() {
    let (system, mailbox) = with_mail("allow").await;
    let ada = system.register("Ada").await;
    assert_eq!(ada.get("/v1/me").await.expect(200).body["email_verified"], false);
    let mail = mailbox.nth(&ada.email, 1).await;
    assert_eq!(mail.subject, "Confirm your address");
    let token = token_of(&mail);
    assert!(mail.text.contains(&format!("https://app.example.org/verify#{token}")), "{mail:#?}");
    assert!(mail.html.contains(&format!("href=\"https://app.example.org/verify#{token}\"")), "{mail:#?}");
    refused(verify(&system, "made-up").await);
    refused(reset(&system, &token, OTHER).await);
    let verified = verify(&system, &token).await.expect(200);
    assert_eq!(verified.body, json!({"email": ada.email, "opened": null}));
    // The copy that was read before is not served again.
    assert_eq!(ada.get("/v1/me").await.expect(200).body["email_verified"], true);
    refused(verify(&system, &token).await);
    let again = json!({"email": ada.email});
    post(&system, "/v1/auth/verify/resend", again).await.expect(202);
    assert_eq!(mailbox.nth(&ada.email, 2).await.subject, "Your address is confirmed");
    // No store and no log has a token.
    assert!(!String::from_utf8_lossy(&system.logs()).contains(&token));
    assert_eq!(
        system.sql(&format!("select count(*) from deliveries where about::text like '%{token}%'")),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced_by_the_token_of_a_mail() {
    let (system, mailbox) = with_mail("allow").await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let device = log_in(&system, &ada.email, PASSWORD).await.expect(200).text("/device");
    forgot(&system, &ada.email.to_uppercase()).await;
    forgot(&system, &ada.email).await;
    let (first, second) = (mailbox.nth(&ada.email, 2).await, mailbox.nth(&ada.email, 3).await);
    assert_eq!(first.subject, "Choose a new password");
    assert!(first.text.contains("https://app.example.org/reset#"), "{first:#?}");
    let (first, second) = (token_of(&first), token_of(&second));
    let short = problem(reset(&system, &first, "short").await, 422);
    assert_eq!(short["errors"][0]["field"], "password");
    refused(verify(&system, &first).await);
    reset(&system, &first, OTHER).await.expect(204);
    problem(ada.get("/v1/me").await, 401);
    bo.get("/v1/me").await.expect(200);
    problem(log_in(&system, &ada.email, PASSWORD).await, 401);
    let opened = log_in(&system, &ada.email, OTHER).await.expect(200);
    assert_eq!(opened.body["user"]["email_verified"], true);
    let known = json!({"email": ada.email, "password": OTHER, "device": device});
    let known = post(&system, "/v1/auth/login", known).await.expect(200);
    assert_ne!(known.text("/device"), device, "the former device is void");
    // Neither this one again, nor one from before the change.
    refused(reset(&system, &first, PASSWORD).await);
    refused(reset(&system, &second, PASSWORD).await);
    // One that is too old.
    forgot(&system, &ada.email).await;
    let token = token_of(&mailbox.nth(&ada.email, 4).await);
    system.sql("update account_tokens set expires_at = now()");
    refused(reset(&system, &token, PASSWORD).await);
    log_in(&system, &ada.email, OTHER).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_opened_by_no_mail() {
    let (system, mailbox) = with_mail("allow").await;
    let ada = system.register("Ada").await;
    forgot(&system, &ada.email).await;
    let token = token_of(&mailbox.nth(&ada.email, 2).await);
    let (succeeded, output) = Origin::command(&system.environment(), &["admin", "suspend", &ada.email]);
    assert!(succeeded, "{output}");
    // The person is told, once, and again when it is over.
    let told = mailbox.nth(&ada.email, 3).await;
    assert_eq!((told.subject.as_str(), told.token()), ("Your account is suspended", None));
    assert!(Origin::command(&system.environment(), &["admin", "suspend", &ada.email, "--reason", "Spam."]).0);
    refused(reset(&system, &token, OTHER).await);
    refused(verify(&system, &token_of(&mailbox.nth(&ada.email, 1).await)).await);
    let refusal = problem(log_in(&system, &ada.email, PASSWORD).await, 403);
    assert!(refusal["detail"].as_str().unwrap().ends_with("The reason: Spam."), "{refusal}");
    forgot(&system, &ada.email).await;
    assert_eq!(mailbox.nth(&ada.email, 4).await.subject, "There is no account with this address");
    assert!(Origin::command(&system.environment(), &["admin", "restore", &ada.email]).0);
    assert_eq!(mailbox.nth(&ada.email, 5).await.subject, "You can log in again");
}

/// The same answer, and the same statements before it, whoever has the address.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_from_an_answer_who_has_an_account() {
    let (system, mailbox) = with_mail("refuse").await;
    let ada = account(&system, &mailbox).await;
    let (known, unknown) = (ada.email.clone(), an_address());
    let mut seen = Vec::new();
    for email in [&known, &unknown] {
        for path in ["/v1/auth/password/forgot", "/v1/auth/verify/resend", "/v1/auth/register"] {
            let body = match path {
                "/v1/auth/register" => json!({"email": email, "password": PASSWORD, "name": "Ada"}),
                _ => json!({"email": email}),
            };
            system.forget_address_limits().await;
            let before = asked(&system).await;
            let answer = system.client().post(path, body).await.expect(202);
            let mut statements = asked(&system).await;
            statements.iter_mut().for_each(|(name, count)| *count -= before.get(name).unwrap_or(&0));
            statements.retain(|_, count| *count > 0);
            let fields: Vec<String> =
                answer.body.as_object().map(|body| body.keys().cloned().collect()).unwrap_or_default();
            seen.push((path, fields, statements));
        }
    }
    let (with, without) = seen.split_at(3);
    assert_eq!(with, without);
    assert_eq!(with.iter().map(|(_, _, statements)| statements.values().sum::<u64>()).min(), Some(1));
    let subjects = async |email: &str, from: usize| {
        mailbox.nth(email, from + 2).await;
        let mut subjects: Vec<String> =
            mailbox.mails_to(email)[from - 1..].iter().map(|mail| mail.subject.clone()).collect();
        subjects.sort();
        subjects
    };
    let taken = ["Choose a new password", "You have an account already", "Your address is confirmed"];
    assert_eq!(subjects(&known, 2).await, taken);
    let none = "There is no account with this address";
    assert_eq!(subjects(&unknown, 1).await, ["Confirm your address", none, none]);
}

/// How often the statements of these requests have run; not those of senders and jobs.
async fn asked(system: &System) -> std::collections::BTreeMap<String, u64> {
    let mut statements = system.origins[0].statements().await;
    statements
        .retain(|name, _| matches!(name.as_str(), "letters::owner" | "letters::asked" | "letters::register"));
    statements
}

/// A person on a system where addresses are confirmed first.
async fn account(system: &System, mailbox: &Mailbox) -> Client {
    let mut client = system.client();
    client.email = an_address();
    register(system, &client.email, PASSWORD).await.expect(202);
    let token = token_of(&mailbox.nth(&client.email, 1).await);
    let verified = verify(system, &token).await.expect(200);
    let opened = Answer { body: verified.body["opened"].clone(), ..verified };
    client.adopt(&opened);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn where_addresses_are_confirmed_first_the_mail_makes_the_account() {
    let (system, mailbox) = with_mail("refuse").await;
    let email = an_address();
    // Somebody else asks for the address too, before and after its owner.
    let theirs = register(&system, &email, "the password of a thief").await.expect(202);
    let own = register(&system, &email, PASSWORD).await.expect(202);
    register(&system, &email, "the password of a thief").await.expect(202);
    for password in [PASSWORD, "the password of a thief"] {
        problem(log_in(&system, &email, password).await, 401);
    }
    mailbox.nth(&email, 3).await;
    // The owner lost their mail, and asks for another.
    let again = json!({"email": email, "registration": own.text("/registration")});
    post(&system, "/v1/auth/verify/resend", again).await.expect(202);
    let mail = mailbox.nth(&email, 4).await;
    assert_eq!(mail.subject, "Confirm your address");
    let verified = verify(&system, &token_of(&mail)).await.expect(200);
    assert_eq!(verified.text("/email"), email);
    assert_eq!(verified.body["opened"]["user"]["email_verified"], true);
    let mut ada = system.client();
    ada.adopt(&Answer { body: verified.body["opened"].clone(), ..verified });
    assert_eq!(ada.get("/v1/me").await.expect(200).text("/email"), email);
    log_in(&system, &email, PASSWORD).await.expect(200);
    problem(log_in(&system, &email, "the password of a thief").await, 401);
    // The thief's mails went to the owner; nothing in them is good any more.
    for mail in mailbox.mails_to(&email) {
        refused(verify(&system, &token_of(&mail)).await);
    }
    // A registration of one address gets no mail to another.
    let elsewhere = an_address();
    let foreign = json!({"email": elsewhere, "registration": theirs.text("/registration")});
    post(&system, "/v1/auth/verify/resend", foreign).await.expect(202);
    assert_eq!(mailbox.nth(&elsewhere, 1).await.subject, "There is no account with this address");
    assert_eq!(system.sql("select count(*) from registrations"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_moves_to_an_address_that_its_owner_has_confirmed() {
    let (system, mailbox) = with_mail("allow").await;
    let (ada, bo) = (system.register("Ada").await, system.register("Bo").await);
    let (former, new) = (ada.email.clone(), an_address());
    let ask = async |client: &Client, email: &str, password: &str| {
        client.post("/v1/me/email", json!({"email": email, "password": password})).await
    };
    problem(ask(&system.client(), &new, PASSWORD).await, 401);
    let wrong = problem(ask(&ada, &new, "not the right one").await, 422);
    assert_eq!(wrong["errors"][0]["field"], "password");
    // Bo's address is taken: the answer is the same, and Bo is told.
    ask(&ada, &bo.email, PASSWORD).await.expect(202);
    assert_eq!(mailbox.nth(&bo.email, 2).await.subject, "You have an account already");
    ask(&ada, &new, PASSWORD).await.expect(202);
    assert_eq!(ada.get("/v1/me").await.expect(200).text("/email"), former);
    let mail = mailbox.nth(&new, 1).await;
    assert_eq!(mail.subject, "Confirm your new address");
    let token = token_of(&mail);
    // What was sent to the former address is void once the account has moved.
    forgot(&system, &former).await;
    let stale = token_of(&mailbox.nth(&former, 2).await);
    let verified = verify(&system, &token).await.expect(200);
    assert_eq!(verified.body, json!({"email": new, "opened": null}));
    let me = ada.get("/v1/me").await.expect(200);
    assert_eq!((me.text("/email"), &me.body["email_verified"]), (new.clone(), &json!(true)));
    assert_eq!(mailbox.nth(&former, 3).await.subject, "Your address has changed");
    refused(reset(&system, &stale, OTHER).await);
    log_in(&system, &new, PASSWORD).await.expect(200);
    problem(log_in(&system, &former, PASSWORD).await, 401);
    // Meanwhile somebody else may have taken the address that one wants.
    let contested = an_address();
    ask(&bo, &contested, PASSWORD).await.expect(202);
    let token = token_of(&mailbox.nth(&contested, 1).await);
    register(&system, &contested, PASSWORD).await.expect(201);
    problem(verify(&system, &token).await, 409);
    assert_eq!(bo.get("/v1/me").await.expect(200).text("/email"), bo.email);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_in_the_language_of_the_account() {
    let (system, mailbox) = with_mail("allow").await;
    let email = an_address();
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada", "locale": "de"});
    let mut ada = system.client();
    ada.adopt(&post(&system, "/v1/auth/register", body).await.expect(201));
    assert_eq!(mailbox.nth(&email, 1).await.subject, "Bestätigen Sie Ihre Adresse");
    let body = json!({"email": an_address(), "password": PASSWORD, "name": "Ada", "locale": "tlh"});
    assert_eq!(problem(post(&system, "/v1/auth/register", body).await, 422)["errors"][0]["field"], "locale");
    let me = ada.patch("/v1/me", json!({"locale": "en"})).await.expect(200);
    assert_eq!(me.text("/locale"), "en");
    forgot(&system, &email).await;
    assert_eq!(mailbox.nth(&email, 2).await.subject, "Choose a new password");
    // Nobody's account: the language that the request names.
    let nobody = an_address();
    post(&system, "/v1/auth/password/forgot", json!({"email": nobody, "locale": "de"})).await.expect(202);
    assert_eq!(mailbox.nth(&nobody, 1).await.subject, "Es gibt kein Konto mit dieser Adresse");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_flood_an_address_nor_keep_its_owner_from_a_mail() {
    let (system, mailbox) = with_mail("allow").await;
    let ada = system.register("Ada").await;
    for _ in 0..4 {
        forgot(&system, &ada.email).await;
    }
    let refused = post(&system, "/v1/auth/password/forgot", json!({"email": ada.email})).await;
    assert_eq!(problem(refused, 429)["limit"], "mails-account-3600s");
    // From another address there are more.
    let origin = super::origin::OriginClient::new(&system);
    let body = json!({"email": ada.email});
    origin.post_from("203.0.113.7", "/v1/auth/password/forgot", body).await.expect(202);
    mailbox.nth(&ada.email, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_sent_although_the_server_fails_and_the_origin_dies() {
    let (mut system, mailbox) = with_mail("allow").await;
    system.origins[0].disable("pauses", true).await;
    mailbox.set(Answers::Defers);
    let ada = system.register("Ada").await;
    system.origins[0].wait_for_passes("outgoing.sent", 2).await;
    // It dies after it has sent the mail, and before it has noted that.
    system.origins[0].arm("outgoing.sent", "abort", 0, 1).await;
    mailbox.set(Answers::Accepts);
    let first = mailbox.nth(&ada.email, 1).await;
    until("it dies", async || !system.origins[0].is_running()).await;
    system.replace_origin(0);
    // The claim lapses.
    system.sql("update deliveries set due_at = now()");
    // The server takes the mail, and does not say so.
    mailbox.set(Answers::Breaks);
    let second = mailbox.nth(&ada.email, 2).await;
    until("it waits again", async || {
        system.sql("select count(*) from deliveries where state = 'queued'") == "1"
    })
    .await;
    mailbox.set(Answers::Accepts);
    system.sql("update deliveries set due_at = now()");
    let third = mailbox.nth(&ada.email, 3).await;
    assert!(first.id == second.id && second.id == third.id, "a reader's program shows it once");
    assert_ne!(token_of(&first), token_of(&third));
    // Whichever of them has arrived.
    verify(&system, &token_of(&first)).await.expect(200);
    until("it is sent", async || system.sql("select count(*) from deliveries where state = 'sent'") == "1")
        .await;
    // What the server refuses for good is not tried again.
    mailbox.set(Answers::Refuses);
    forgot(&system, &ada.email).await;
    until("it is refused", async || {
        system.sql("select state || attempts from deliveries where state <> 'sent'") == "failed1"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_mail_says_so() {
    let system = System::start().await;
    let ada = system.register("Ada").await;
    let answer = post(&system, "/v1/auth/password/forgot", json!({"email": ada.email})).await;
    assert_eq!(problem(answer, 503)["detail"], "This service sends no mail.");
    let mut environment = system.environment();
    environment.retain(|(name, _)| name != "OPTIMIST_UNVERIFIED_ACCOUNTS");
    for command in ["serve", "check-config"] {
        let (succeeded, output) = Origin::command(&environment, &[command]);
        assert!(!succeeded && output.contains("OPTIMIST_SMTP_URL is required"), "{output}");
    }
}
