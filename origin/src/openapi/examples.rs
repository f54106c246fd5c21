//! A body for each schema of a request, as somebody might send it.

use serde_json::{Value, json};

/// Null for what is not a request's.
pub fn of(schema: &str) -> Value {
    const ID: &str = "0190a0a0-0000-7000-8000-000000000001";
    match schema {
        "Register" => json!({
            "email": "ada@example.org", "password": "correct horse battery", "name": "Ada", "time_zone": "Europe/Vienna",
        }),
        "Login" => json!({"email": "ada@example.org", "password": "correct horse battery"}),
        "Refresh" => json!({"refresh_token": format!("{ID}.c2VjcmV0")}),
        "UpdateMe" => json!({"bio": "Early riser."}),
        "CreateCircle" => json!({"name": "Morning pages", "visibility": "private"}),
        "UpdateCircle" => json!({"description": "Three pages each morning."}),
        "Join" => json!({"invite": "2e-Mbyg5T80-LWFzEni780EHJ3LSA0aF80nLFQ5H-gg"}),
        "UpdateMember" => json!({"role": "moderator"}),
        "CreateInvite" => json!({}),
        "WriteMessage" => json!({"body": "Good morning."}),
        "SaveDraft" => json!({"body": "Slept well.", "base_version": null}),
        "SaveEntry" => json!({"body": "Slept well.", "mood": 4, "tags": ["morning"], "draft_id": ID}),
        "EditEntry" => json!({"mood": null}),
        "LogMood" => json!({"score": 4, "emotions": ["calm"]}),
        _ => Value::Null,
    }
}
