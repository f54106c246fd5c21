//! The audit trail as administrators and as each person read it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use optimist_tests::{Answer, Client, Origin, System};
use serde_json::{Value, json};

use super::{Cast, on_system, problem};

/// Waits until a page has a record of this kind.
async fn recorded(client: &Client, path: &str, kind: &str) -> Answer {
    let deadline = optimist_tests::patience();
    loop {
        let page = client.get(path).await.expect(200);
        if items(&page).iter().any(|item| item["kind"] == kind) {
            return page;
        }
        assert!(Instant::now() < deadline, "{kind} is not recorded: {page:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn items(page: &Answer) -> Vec<Value> {
    page.body["items"].as_array().unwrap().clone()
}

fn kinds(page: &Answer) -> Vec<String> {
    items(page).iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
}

pub async fn administrator(system: &System) -> Client {
    let root = system.register("Root").await;
    assert!(Origin::command(&system.environment(), &["admin", "grant", &root.email]).0);
    root
}

#[test]
fn administrators_read_the_trail_by_circle_account_and_actor() {
    on_system(|system| async move {
        let root = administrator(system).await;
        let cast = Cast::new(system, "private").await;
        for client in [&cast.owner, &cast.member, &cast.stranger] {
            problem(client.get("/v1/admin/audit").await, 403);
            problem(client.get(&format!("/v1/admin/audit?user={}", client.user)).await, 403);
        }
        problem(system.client().get("/v1/admin/audit").await, 401);

        let of_circle = format!("/v1/admin/audit?circle={}", cast.circle);
        let page = recorded(&root, &of_circle, "member.removed").await;
        assert_eq!(
            kinds(&page),
            [
                "member.removed",
                "member.left",
                "member.role",
                "member.joined",
                "invite.created",
                "member.joined",
                "invite.created",
                "member.joined",
                "invite.created",
                "member.joined",
                "invite.created",
                "circle.created",
            ]
        );
        let removed = &items(&page)[0];
        assert_eq!(
            (&removed["actor"], &removed["circle"], &removed["user"], &removed["details"]),
            (
                &json!(cast.owner.user),
                &json!(cast.circle),
                &json!(cast.banned.user),
                &json!({"ban": true, "member": true})
            )
        );
        assert!(removed["at"].is_string() && page.body["next"].is_null());
        let as_of: DateTime<Utc> = page.text("/as_of").parse().unwrap();
        assert!((Utc::now() - as_of).num_seconds().abs() < 10);

        let of_user = root.get(&format!("/v1/admin/audit?user={}", cast.banned.user)).await.expect(200);
        assert_eq!(kinds(&of_user), ["member.removed", "member.joined", "user.registered"]);
        let upper = format!("/v1/admin/audit?actor={}", cast.owner.user.to_uppercase());
        let of_actor = root.get(&upper).await.expect(200);
        assert_eq!(kinds(&of_actor).len(), 8, "{of_actor:#?}");
        // Pages, and all of it together.
        let mut paged = Vec::new();
        let mut next = String::new();
        loop {
            let some = root.get(&format!("{of_circle}&limit=5{next}")).await.expect(200);
            paged.extend(items(&some));
            let Some(cursor) = some.body["next"].as_str() else { break };
            next = format!("&before={cursor}");
        }
        assert_eq!(paged, items(&page));
        let all = root.get("/v1/admin/audit?limit=100").await.expect(200);
        assert_eq!(items(&all).len(), 100.min(items(&all).len()));
        assert!(items(&all).windows(2).all(|two| two[0]["at"].as_str() >= two[1]["at"].as_str()), "{all:#?}");
        for bad in ["circle=x", "user=", "limit=0", "before=x", "from=1"] {
            problem(root.get(&format!("/v1/admin/audit?{bad}")).await, 400);
        }
        let two = format!("/v1/admin/audit?circle={}&user={}", cast.circle, cast.banned.user);
        problem(root.get(&two).await, 400);
    });
}

#[test]
fn a_person_reads_what_happened_to_their_account_and_what_they_did() {
    on_system(|system| async move {
        let cast = Cast::new(system, "private").await;
        problem(system.client().get("/v1/me/audit").await, 401);
        let of_banned = recorded(&cast.banned, "/v1/me/audit", "member.removed").await;
        // What a person did to their own account is there once.
        assert_eq!(kinds(&of_banned), ["member.removed", "member.joined", "user.registered"]);
        assert_eq!(items(&of_banned)[0]["actor"], cast.owner.user.as_str());
        let of_owner = cast.owner.get("/v1/me/audit?limit=100").await.expect(200);
        assert_eq!(
            kinds(&of_owner),
            [
                "member.removed",
                "member.role",
                "invite.created",
                "invite.created",
                "invite.created",
                "invite.created",
                "circle.created",
                "user.registered",
            ]
        );
        // Nobody reads of what is no business of theirs.
        let of_stranger = recorded(&cast.stranger, "/v1/me/audit", "user.registered").await;
        assert_eq!(kinds(&of_stranger), ["user.registered"]);
        let of_member = cast.member.get("/v1/me/audit").await.expect(200);
        assert_eq!(kinds(&of_member), ["member.joined", "user.registered"]);
        for filter in ["user", "actor", "circle"] {
            problem(cast.stranger.get(&format!("/v1/me/audit?{filter}={}", cast.owner.user)).await, 400);
        }
        let first = cast.owner.get("/v1/me/audit?limit=3").await.expect(200);
        let rest = format!("/v1/me/audit?limit=100&before={}", first.text("/next"));
        let rest = cast.owner.get(&rest).await.expect(200);
        assert_eq!([items(&first), items(&rest)].concat(), items(&of_owner));
    });
}

#[test]
fn the_trail_is_read_over_all_its_months() {
    on_system(|system| async move {
        let ada = system.register("Ada").await;
        recorded(&ada, "/v1/me/audit", "user.registered").await;
        // Of months that lie apart: a statement reads two of them.
        for ago in [3, 4, 9, 14] {
            system.sql(&format!(
                "select make_leaf('audit', leaf_now('audit') - {ago});
                 insert into audit (at, xid, seq, kind, actor, circle_id, user_id, payload)
                 select month_begin(leaf_now('audit') - {ago}) + n * interval '5 days', '3', n, 'session.opened', null, null,
                     '{user}', jsonb_build_object('user', '{user}', 'ago', {ago} * 10 + n)
                 from generate_series(0, 3) n",
                user = ada.user
            ));
        }
        let whole = ada.get("/v1/me/audit?limit=100").await.expect(200);
        assert_eq!(items(&whole).len(), 17);
        assert!(whole.body["next"].is_null());
        for limit in [1, 4, 7] {
            let (mut paged, mut next) = (Vec::new(), String::new());
            loop {
                let some = ada.get(&format!("/v1/me/audit?limit={limit}{next}")).await.expect(200);
                assert!(items(&some).len() <= limit);
                paged.extend(items(&some));
                let Some(cursor) = some.body["next"].as_str() else { break };
                next = format!("&before={cursor}");
            }
            assert_eq!(paged, items(&whole), "{limit}");
        }
    });
}
