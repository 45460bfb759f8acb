//! An environment without sockets, threads or a clock.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use workos_emulator::{
    Amount, ApiRequest, BulkAction, BulkChange, BulkSpec, Deactivation, Edge, NewDirectory, NewUser, Options,
    UnknownCursor, World, WorldError,
};

const KEY: &str = "sk_test_emulator";
const DOMAIN: &str = "acme.example";

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).expect("the time is in range")
}

fn world(options: Options) -> World {
    let mut world = World::new(&options);
    world.set_now(at(0));
    world
}

fn unlimited() -> World {
    world(Options { limits_scale: 0.0, ..Options::default() })
}

fn get(world: &mut World, path: &str) -> (u16, Value) {
    let response = world.answer(&ApiRequest::get(path, KEY));
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

fn send(world: &mut World, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let response = world.answer(&ApiRequest::with_json(method, path, KEY, body));
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().into_iter().flatten().filter_map(|record| record["id"].as_str()).collect()
}

/// The types of the events since the last call.
fn emitted(world: &mut World) -> Vec<String> {
    world.take_events().into_iter().map(|event| event.event).collect()
}

fn ada() -> NewUser {
    NewUser::named("Ada", "Lovelace", DOMAIN)
}

/// Acme with two users in one group; its events are taken.
fn acme(world: &mut World) -> Result<(String, String, String, String), WorldError> {
    let acme = world.create_directory(NewDirectory::named("Acme"));
    let (ada, alan) =
        (world.create_user(&acme, ada())?, world.create_user(&acme, NewUser::named("Alan", "T", DOMAIN))?);
    let team = world.create_group(&acme, "Team")?;
    world.add_member(&team, &ada)?;
    world.add_member(&team, &alan)?;
    world.take_events();
    Ok((acme, ada, alan, team))
}

#[test]
fn a_seed_and_the_same_requests_make_the_same_bytes() -> Result<(), WorldError> {
    let run = |seed| {
        let mut world = world(Options { seed, ..Options::default() });
        let (acme, ada, ..) = acme(&mut world)?;
        world.deactivate_user(&ada, Deactivation::DeletedGone)?;
        world.rehire_user(&ada)?;
        let mut answers = Vec::new();
        for second in 0..3 {
            world.set_now(at(second));
            for _ in 0..6 {
                answers.push(world.answer(&ApiRequest::get(&format!("/directory_users?directory={acme}"), KEY)));
            }
        }
        Ok::<_, WorldError>((answers, world.take_events()))
    };
    let (answers, events) = run(7)?;
    assert_eq!((answers.clone(), events.clone()), run(7)?);
    assert_ne!(events, run(8)?.1);
    // The limit of four a second goes by the time that was set.
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429].repeat(3));
    let retry_after = answers[4].headers.iter().find(|(name, _)| *name == "retry-after");
    assert_eq!(retry_after.map(|(_, value)| value.as_str()), Some("1"));
    Ok(())
}

#[test]
fn events_are_narrowed_and_paged() -> Result<(), WorldError> {
    let mut world = unlimited();
    let acme =
        world.create_directory(NewDirectory { organization_id: Some("org_a".into()), ..NewDirectory::named("A") });
    let other =
        world.create_directory(NewDirectory { organization_id: Some("org_b".into()), ..NewDirectory::named("B") });
    for second in 1..=5 {
        world.set_now(at(second));
        world.create_user(if second == 3 { &other } else { &acme }, ada())?;
    }
    world.create_group(&acme, "Team")?;
    let all = world.take_events();
    let made: Vec<&str> = all[2..7].iter().map(|event| event.id.as_str()).collect();

    let (status, list) = get(&mut world, "/events?events=dsync.user.created&order=asc");
    assert_eq!((status, ids(&list)), (200, made.clone()));
    assert_eq!(list["data"][0], serde_json::from_slice::<Value>(&all[2].body).unwrap_or_default());
    let (_, list) = get(&mut world, "/events?events[]=dsync.user.created&events[]=dsync.group.created");
    assert_eq!((ids(&list).len(), ids(&list)[0]), (6, all[7].id.as_str()), "newest first, unless asked otherwise");
    let (_, list) = get(&mut world, "/events?events=dsync.user.created&organization_id=org_b");
    assert_eq!(ids(&list), [made[2]]);
    let range = format!("range_start={}&range_end={}", at(1).format("%FT%TZ"), at(4).format("%FT%TZ"));
    let (_, list) = get(&mut world, &format!("/events?events=dsync.user.created&order=asc&{range}"));
    assert_eq!(ids(&list), made[1..3]);

    let first = "/events?events=dsync.user.created&order=asc&limit=2";
    let (mut read, mut path) = (Vec::new(), first.to_owned());
    loop {
        let (_, list) = get(&mut world, &path);
        read.extend(ids(&list).into_iter().map(str::to_owned));
        let Some(after) = list["list_metadata"]["after"].as_str() else { break };
        path = format!("{first}&after={after}");
    }
    assert_eq!(read, made);
    Ok(())
}

#[test]
fn what_is_wrong_with_a_request_for_events() {
    let mut world = unlimited();
    world.create_directory(NewDirectory::named("Acme"));
    let day = |days: i64| (at(0) + TimeDelta::days(days)).format("%F");
    for (path, field) in [
        ("/events".to_owned(), "events"),
        ("/events?events=dsync.deleted&limit=0".to_owned(), "limit"),
        ("/events?events=dsync.deleted&limit=101".to_owned(), "limit"),
        ("/events?events=dsync.deleted&order=up".to_owned(), "order"),
        ("/events?events=dsync.deleted&range_start=soon".to_owned(), "range_start"),
        (format!("/events?events=dsync.deleted&range_start={}&range_end={}", day(0), day(31)), "range_end"),
    ] {
        let (status, body) = get(&mut world, &path);
        assert_eq!((status, &body["errors"][0]["field"]), (422, &json!(field)), "{path}");
        assert_eq!(body["message"], "Validation failed.");
    }
}

#[test]
fn an_unknown_cursor_starts_again_or_is_refused() {
    for (unknown_cursor, expected) in [(UnknownCursor::Restart, (200, 1)), (UnknownCursor::Refuse, (422, 0))] {
        let mut world = world(Options { unknown_cursor, ..Options::default() });
        world.create_directory(NewDirectory::named("Acme"));
        let (status, body) = get(&mut world, "/events?events=dsync.activated&after=event_00000000000000000000000000");
        assert_eq!((status, ids(&body).len()), expected);
        // A known one is at the end.
        let event = world.take_events().remove(0).id;
        let (status, body) = get(&mut world, &format!("/events?events=dsync.activated&order=asc&after={event}"));
        assert_eq!((status, ids(&body).len()), (200, 0));
    }
}

#[test]
fn events_are_kept_for_ninety_days() {
    let mut world = unlimited();
    world.create_directory(NewDirectory::named("Acme"));
    let mut kept = |time| {
        world.set_now(time);
        ids(&get(&mut world, "/events?events=dsync.activated").1).len()
    };
    assert_eq!(kept(at(0) + TimeDelta::days(90)), 1);
    assert_eq!(kept(at(0) + TimeDelta::days(90) + TimeDelta::milliseconds(1)), 0);
}

#[test]
fn the_portal_and_a_wish_for_a_sync() {
    let mut world = unlimited();
    world.add_organization("org_acme", "Acme");
    let link = |organization: &str, intent: &str| json!({"organization": organization, "intent": intent});
    let (status, body) = send(&mut world, "POST", "/portal/generate_link", &link("org_acme", "dsync"));
    assert!(status == 201 && body["link"].as_str().is_some_and(|link| link.starts_with("https://")));
    assert_eq!(send(&mut world, "POST", "/portal/generate_link", &link("org_other", "dsync")).0, 404);
    assert_eq!(send(&mut world, "POST", "/portal/generate_link", &link("org_acme", "lunch")).0, 422);

    let mut world = self::world(Options::default());
    let okta = world.create_directory(NewDirectory::named("Acme"));
    let google = NewDirectory { kind: "gsuite directory".to_owned(), ..NewDirectory::named("Acme") };
    let google = world.create_directory(google);
    let mut sync = |second, id: &str| {
        world.set_now(at(second));
        send(&mut world, "POST", &format!("/directories/{id}/sync"), &json!({})).0
    };
    assert_eq!((sync(0, &okta), sync(0, "directory_0"), sync(0, &google)), (422, 404, 202));
    assert_eq!((sync(299, &google), sync(300, &google)), (429, 202));
}

#[test]
fn webhook_endpoints_from_making_to_deletion() {
    let mut world = unlimited();
    let new = json!({"endpoint_url": "https://acme.example/a", "events": ["dsync.deleted"]});
    let (status, made) = send(&mut world, "POST", "/webhook_endpoints", &new);
    assert_eq!((status, &made["status"]), (201, &json!("enabled")));
    assert!(made["secret"].as_str().is_some_and(|secret| secret.len() > 20));
    let (status, refusal) = send(&mut world, "POST", "/webhook_endpoints", &new);
    assert_eq!((status, &refusal["code"]), (409, &json!("duplicate_endpoint")));
    for (body, code) in [
        (json!({"endpoint_url": "nowhere", "events": []}), "invalid_url"),
        (json!({"endpoint_url": "https://b.example", "events": ["dsync.lunch"]}), "invalid_request_parameters"),
        (json!({"endpoint_url": "https://b.example"}), "invalid_request_parameters"),
    ] {
        let (status, refusal) = send(&mut world, "POST", "/webhook_endpoints", &body);
        assert_eq!((status, &refusal["code"]), (422, &json!(code)), "{body}");
    }
    let path = format!("/webhook_endpoints/{}", made["id"].as_str().unwrap_or_default());
    let (status, changed) = send(&mut world, "PATCH", &path, &json!({"status": "disabled"}));
    assert_eq!((status, &changed["status"], &changed["events"]), (200, &json!("disabled"), &new["events"]));
    assert_eq!(get(&mut world, "/webhook_endpoints").1["data"], json!([changed]));
    assert_eq!(world.answer(&ApiRequest::with_json("DELETE", &path, KEY, &json!({}))).status, 204);
    for method in ["PATCH", "DELETE"] {
        let (status, refusal) = send(&mut world, method, &path, &json!({"status": "enabled"}));
        assert_eq!((status, &refusal["code"]), (404, &json!("entity_not_found")));
    }
    let mut world = self::world(Options { webhook_secret: Some("pinned".to_owned()), ..Options::default() });
    assert_eq!(send(&mut world, "POST", "/webhook_endpoints", &new).1["secret"], "pinned");
}

#[test]
fn a_directory_deleted_over_the_api_is_one_event() -> Result<(), WorldError> {
    let mut world = unlimited();
    let (acme, ada, ..) = acme(&mut world)?;
    assert_eq!(send(&mut world, "DELETE", &format!("/directories/{acme}"), &json!({})).0, 202);
    assert_eq!(emitted(&mut world), ["dsync.deleted"]);
    assert_eq!(get(&mut world, &format!("/directory_users/{ada}")).0, 404);
    assert_eq!(send(&mut world, "DELETE", &format!("/directories/{acme}"), &json!({})).0, 404);
    Ok(())
}

#[test]
fn older_environments_announce_everybody_first() -> Result<(), WorldError> {
    let mut world = world(Options { older_deletions: true, ..Options::default() });
    let (acme, ada, ..) = acme(&mut world)?;
    assert_eq!(world.default_deactivation(), Deactivation::UpdatedInactive);
    // Whose deletion was announced is not announced again.
    world.deactivate_user(&ada, Deactivation::DeletedKept)?;
    world.take_events();
    world.delete_directory(&acme)?;
    let expected = [
        "dsync.group.user_removed",
        "dsync.group.user_removed",
        "dsync.user.deleted",
        "dsync.group.deleted",
        "dsync.deleted",
    ];
    assert_eq!(emitted(&mut world), expected);
    Ok(())
}

#[test]
fn a_link_is_cut_and_made_again() -> Result<(), WorldError> {
    let mut world = unlimited();
    let (acme, ..) = acme(&mut world)?;
    world.unlink_directory(&acme)?;
    assert_eq!(emitted(&mut world), ["dsync.deactivated"]);
    assert_eq!(get(&mut world, &format!("/directories/{acme}")).1["state"], "unlinked");
    world.set_directory_state(&acme, "invalid_credentials")?;
    assert_eq!(emitted(&mut world), [""; 0]);
    assert_eq!(get(&mut world, &format!("/directories/{acme}")).1["state"], "invalid_credentials");
    world.activate_directory(&acme)?;
    let expected = [
        "dsync.activated",
        "dsync.user.created",
        "dsync.user.created",
        "dsync.group.created",
        "dsync.group.user_added",
        "dsync.group.user_added",
    ];
    assert_eq!(emitted(&mut world), expected);
    assert_eq!(get(&mut world, &format!("/directories/{acme}")).1["state"], "linked");
    let token = world.create_token(&acme)?;
    world.revoke_token(&token)?;
    assert_eq!(emitted(&mut world), ["dsync.token.created", "dsync.token.revoked"]);
    assert_eq!(world.revoke_token(&token), Err(WorldError::UnknownToken(token)));
    Ok(())
}

#[test]
fn somebody_comes_back_as_somebody_new() -> Result<(), WorldError> {
    let mut world = unlimited();
    let (_, ada, alan, _) = acme(&mut world)?;
    assert_eq!(world.rehire_user(&ada), Err(WorldError::StillActive(ada.clone())));
    world.suspend_user(&alan)?;
    assert_eq!(get(&mut world, &format!("/directory_users/{alan}")).1["state"], "suspended");
    let before = world.truth().users[&ada].clone();
    world.delete_user(&ada)?;
    world.take_events();
    let again = world.rehire_user(&ada)?;
    assert_eq!(emitted(&mut world), ["dsync.user.created"]);
    let after = &world.truth().users[&again];
    assert_ne!(again, ada);
    assert_eq!((&after.idp_id, &after.email, after.state.as_str()), (&before.idp_id, &before.email, "active"));
    assert_eq!(get(&mut world, &format!("/directory_groups?user={again}")).1["data"], json!([]));
    assert_eq!(world.rehire_user(&ada), Err(WorldError::StillActive(ada)), "once");
    Ok(())
}

#[test]
fn an_answer_can_be_of_an_earlier_instant() -> Result<(), WorldError> {
    let mut world = unlimited();
    world.keep_history(Duration::from_secs(10));
    let (acme, ada, _, team) = acme(&mut world)?;
    world.set_now(at(2));
    world.delete_user(&ada)?;
    world.set_now(at(4));
    world.delete_directory(&acme)?;
    let mut total = |path: &str, lag| {
        let response = world.answer_from(&ApiRequest::get(path, KEY), TimeDelta::milliseconds(lag));
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        (response.status, ids(&body).len())
    };
    let members = format!("/directory_users?group={team}");
    assert_eq!([0, 1, 2000, 2001, 3999].map(|lag| total(&members, lag).1), [0, 1, 1, 2, 2]);
    let user = format!("/directory_users/{ada}");
    assert_eq!([0, 2000, 2001].map(|lag| total(&user, lag).0), [404, 404, 200]);
    let deletions = "/events?events=dsync.user.deleted,dsync.deleted";
    assert_eq!([0, 1, 2000, 2001].map(|lag| total(deletions, lag).1), [2, 1, 1, 0]);
    Ok(())
}

#[test]
fn a_crowd_is_made_and_changed() -> Result<(), WorldError> {
    let mut world = unlimited();
    let acme = world.create_directory(NewDirectory::named("Acme"));
    world.take_events();
    let spec = BulkSpec {
        users: Amount::Number(200),
        groups: Amount::Number(7),
        memberships: Amount::Number(1000),
        silent: false,
    };
    let made = world.bulk_create(&acme, spec.clone())?;
    assert_eq!((made.users.len(), made.groups.len(), made.memberships), (200, 7, 1000));
    assert_eq!(emitted(&mut world).len(), 1207);
    let truth = world.truth();
    assert_eq!((truth.users.len(), truth.groups.len(), truth.members.len()), (200, 7, 1000));
    let emails: BTreeSet<_> = truth.users.values().map(|user| user.email.clone()).collect();
    assert_eq!(emails.len(), 200);

    let change = |action, share| BulkChange { action, share, seed: 3, silent: false };
    assert_eq!(world.bulk_change(&acme, &change(BulkAction::Deactivate, 0.25))?, 50);
    assert_eq!(emitted(&mut world), ["dsync.user.deleted"; 50]);
    assert_eq!(world.truth().users.len(), 150);
    assert_eq!(world.bulk_change(&acme, &change(BulkAction::Rehire, 1.0))?, 50);
    assert_eq!(emitted(&mut world), ["dsync.user.created"; 50]);
    assert_eq!(world.bulk_change(&acme, &change(BulkAction::Rehire, 1.0))?, 0);
    for (action, count) in [
        (BulkAction::Update, 200),
        (BulkAction::Suspend, 200),
        (BulkAction::Update, 0),
        (BulkAction::Reactivate, 200),
        (BulkAction::DeactivateUpdated, 200),
    ] {
        assert_eq!(world.bulk_change(&acme, &change(action, 1.0))?, count, "{action:?}");
        assert_eq!(emitted(&mut world), vec!["dsync.user.updated"; count]);
    }
    // More people are other people.
    world.bulk_create(&acme, BulkSpec { silent: true, ..spec })?;
    assert_eq!(emitted(&mut world), [""; 0]);
    let emails: BTreeSet<_> = world.truth().users.values().map(|user| user.email.clone()).collect();
    assert_eq!(emails.len(), 400);
    Ok(())
}

#[test]
fn impossible_crowds_are_refused_whole() {
    let mut world = unlimited();
    let acme = world.create_directory(NewDirectory::named("Acme"));
    let two = || BulkSpec { users: Amount::Number(2), groups: Amount::Number(2), ..BulkSpec::default() };
    for memberships in [Amount::Number(5), Amount::List(vec![Edge { group: 0, user: 2 }])] {
        let made = world.bulk_create(&acme, BulkSpec { memberships, ..two() });
        assert!(matches!(made, Err(WorldError::Bulk(_))), "{made:?}");
    }
    assert!(world.truth().users.is_empty());
    let nowhere = world.bulk_create("directory_0", two());
    assert_eq!(nowhere, Err(WorldError::UnknownDirectory("directory_0".to_owned())));
    let share = BulkChange { action: BulkAction::Update, share: 1.5, seed: 0, silent: false };
    assert!(world.bulk_change(&acme, &share).is_err());
    assert!(world.bulk_create(&acme, two()).is_ok());
}

#[test]
fn who_was_kept_as_deleted_and_is_active_again_is_announced_when_leaving() -> Result<(), WorldError> {
    let mut world = World::new(&Options::default());
    let directory = world.create_directory(NewDirectory::named("Acme"));
    let ada = world.create_user(&directory, NewUser::named("Ada", "Allen", DOMAIN))?;
    world.deactivate_user(&ada, Deactivation::DeletedKept)?;
    world.set_user_state(&ada, "active")?;
    world.take_events();
    world.delete_user(&ada)?;
    let names: Vec<String> = world.take_events().into_iter().map(|event| event.event.to_string()).collect();
    assert_eq!(names, ["dsync.user.deleted"]);
    Ok(())
}

#[test]
fn nobody_comes_back_twice() -> Result<(), WorldError> {
    let mut world = World::new(&Options::default());
    let directory = world.create_directory(NewDirectory::named("Acme"));
    world.bulk_create(&directory, BulkSpec { users: Amount::Number(10), ..BulkSpec::default() })?;
    for (action, changed) in [
        (BulkAction::DeactivateKept, 10),
        (BulkAction::Rehire, 10),
        (BulkAction::Deactivate, 10),
        (BulkAction::Rehire, 10),
        (BulkAction::Rehire, 0),
    ] {
        let change = BulkChange { action, share: 1.0, seed: 1, silent: false };
        assert_eq!(world.bulk_change(&directory, &change)?, changed, "{action:?}");
    }
    let active = world.truth().users.values().filter(|user| user.state == "active").count();
    assert_eq!(active, 10);
    Ok(())
}

#[test]
fn more_than_memory_holds_is_refused() {
    let mut world = World::new(&Options::default());
    let directory = world.create_directory(NewDirectory::named("Acme"));
    let spec = BulkSpec { groups: Amount::Number(1_000_000_000_000_000), ..BulkSpec::default() };
    assert!(matches!(world.bulk_create(&directory, spec), Err(WorldError::Bulk(_))));
}
