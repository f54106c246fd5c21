//! Shapes of accounts, sessions and limits.

use serde_json::{Value, json};

use super::{
    answer, change, count, id, line, lines, list, optional, reference, request, secret, string, text, time,
    zone,
};
use crate::people::{auth, me};

pub fn schemas() -> Vec<(&'static str, Value)> {
    let seconds_left = || count("Seconds until it is over if it stays idle.");
    let session = answer(json!({"token": string(), "expires_in": seconds_left()}), &[]);
    vec![
        (
            "Register",
            request(
                &["email", "password", "name"],
                json!({
                    "email": {"type": "string", "format": "email", "maxLength": 254},
                    "password": secret(auth::SHORTEST_PASSWORD..=auth::LONGEST_PASSWORD),
                    "name": line(me::NAME),
                    "time_zone": optional(zone()),
                }),
            ),
        ),
        (
            "Login",
            request(
                &["email", "password"],
                json!({
                    "email": {"type": "string", "format": "email", "maxLength": 254},
                    "password": secret(1..=auth::LONGEST_PASSWORD),
                }),
            ),
        ),
        ("Refresh", request(&["refresh_token"], json!({"refresh_token": string()}))),
        (
            "Opened",
            answer(json!({"user": reference("Me"), "session": session, "refresh_token": string()}), &[]),
        ),
        ("Refreshed", answer(json!({"session": session, "refresh_token": string()}), &[])),
        (
            "SessionInfo",
            answer(json!({"user_id": id(), "session_id": id(), "expires_in": seconds_left()}), &[]),
        ),
        (
            "Me",
            answer(
                json!({
                    "id": id(), "email": string(), "name": text(me::NAME), "bio": text(me::BIO), "time_zone": zone(),
                    "email_verified": {"type": "boolean"}, "created_at": time(), "updated_at": time(),
                }),
                &[],
            ),
        ),
        ("UpdateMe", change(json!({"name": line(me::NAME), "bio": lines(me::BIO), "time_zone": zone()}))),
        (
            "Profile",
            answer(
                json!({"id": id(), "name": text(me::NAME), "bio": text(me::BIO), "created_at": time()}),
                &[],
            ),
        ),
        (
            "LimitState",
            answer(
                json!({
                    "name": string(),
                    "policy": {"type": "string", "description": "As `RateLimit` and `RateLimit-Policy` name it."},
                    "limit": count("Admitted in any window."),
                    "window_seconds": count("The window's length."),
                    "remaining": count("Admitted at once."),
                    "resets_in": count("Seconds until at least one more is."),
                }),
                &[],
            ),
        ),
        ("Limits", list("LimitState")),
        (
            "Session",
            answer(
                json!({
                    "id": id(), "created_at": time(), "expires_at": time(), "user_agent": optional(string()),
                    "current": {"type": "boolean", "description": "The one that asks."},
                }),
                &[],
            ),
        ),
        ("Sessions", list("Session")),
    ]
}
