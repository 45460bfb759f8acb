//! More routes under `/emulator`: bulk, directories' and users' states, tokens, webhook endpoints, settings, listings.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use crate::bulk::{BulkChange, BulkSpec};
use crate::control::changed;
use crate::endpoints::{EndpointChange, is_http_url};
use crate::options::UnknownCursor;
use crate::seed::SeedFile;
use crate::shared::Shared;
use crate::world::World;

pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .route("/organizations", web::post().to(create_organization))
        .route("/directories/{id}", web::patch().to(set_directory_state))
        .route("/directories/{id}/activate", web::post().to(activate_directory))
        .route("/directories/{id}/unlink", web::post().to(unlink_directory))
        .route("/directories/{id}/bulk", web::post().to(bulk_create))
        .route("/directories/{id}/bulk-change", web::post().to(bulk_change))
        .route("/directories/{id}/tokens", web::post().to(create_token))
        .route("/tokens/{id}", web::delete().to(revoke_token))
        .route("/users/{id}", web::delete().to(delete_user))
        .route("/users/{id}/state", web::put().to(set_user_state))
        .route("/users/{id}/suspend", web::post().to(suspend_user))
        .route("/users/{id}/rehire", web::post().to(rehire_user))
        .route("/webhook_endpoints", web::get().to(endpoints))
        .route("/webhook_endpoints", web::post().to(create_endpoint))
        .route("/webhook_endpoints/{id}", web::patch().to(change_endpoint))
        .route("/webhook_endpoints/{id}", web::delete().to(remove_endpoint))
        .route("/seed", web::post().to(plant))
        .route("/settings", web::patch().to(change_settings))
        .route("/events/prune", web::post().to(prune_events))
        .route("/truth", web::get().to(truth));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrganization {
    name: String,
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    state: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsChange {
    older_deletions: Option<bool>,
    unknown_cursor: Option<UnknownCursor>,
    api_key: Option<String>,
}

#[derive(Deserialize)]
struct Before {
    before: Option<DateTime<Utc>>,
}

async fn create_organization(shared: Data<Shared>, new: Json<NewOrganization>) -> HttpResponse {
    let NewOrganization { name, id } = new.0;
    changed(&shared, |world| match id {
        Some(id) => {
            world.add_organization(&id, &name);
            Ok(id)
        }
        None => Ok(world.create_organization(&name)),
    })
}

/// The body is the text of a seed file; the answer the directories' ids.
async fn plant(shared: Data<Shared>, body: String) -> HttpResponse {
    match SeedFile::parse(&body) {
        Ok(seed) => changed(&shared, |world| world.plant(seed)),
        Err(error) => HttpResponse::UnprocessableEntity().json(json!({"message": error.to_string()})),
    }
}

async fn set_directory_state(shared: Data<Shared>, id: Path<String>, state: Json<State>) -> HttpResponse {
    changed(&shared, |world| world.set_directory_state(&id, &state.state))
}

async fn activate_directory(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.activate_directory(&id))
}

async fn unlink_directory(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.unlink_directory(&id))
}

/// Only numbers are answered: the ids of a large directory are better read by pages.
async fn bulk_create(shared: Data<Shared>, id: Path<String>, spec: Json<BulkSpec>) -> HttpResponse {
    changed(&shared, |world| {
        let made = world.bulk_create(&id, spec.0)?;
        Ok(json!({"users": made.users.len(), "groups": made.groups.len(), "memberships": made.memberships}))
    })
}

async fn bulk_change(shared: Data<Shared>, id: Path<String>, change: Json<BulkChange>) -> HttpResponse {
    changed(&shared, |world| world.bulk_change(&id, &change))
}

async fn create_token(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.create_token(&id))
}

async fn revoke_token(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.revoke_token(&id))
}

async fn delete_user(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.delete_user(&id))
}

async fn set_user_state(shared: Data<Shared>, id: Path<String>, state: Json<State>) -> HttpResponse {
    changed(&shared, |world| world.set_user_state(&id, &state.state))
}

async fn suspend_user(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.suspend_user(&id))
}

async fn rehire_user(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.rehire_user(&id))
}

async fn endpoints(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.read(World::webhook_endpoints))
}

async fn create_endpoint(shared: Data<Shared>, new: Json<EndpointChange>) -> HttpResponse {
    let Some(url) = new.endpoint_url.clone() else {
        return HttpResponse::BadRequest().json(json!({"message": "endpoint_url is missing"}));
    };
    if !is_http_url(&url) {
        return no_url();
    }
    changed(&shared, |world| Ok(world.add_webhook_endpoint(&url, new.0)))
}

async fn change_endpoint(shared: Data<Shared>, id: Path<String>, change: Json<EndpointChange>) -> HttpResponse {
    if change.endpoint_url.as_deref().is_some_and(|url| !is_http_url(url)) {
        return no_url();
    }
    changed(&shared, |world| world.change_webhook_endpoint(&id, change.0))
}

fn no_url() -> HttpResponse {
    HttpResponse::UnprocessableEntity().json(json!({"message": "endpoint_url is no http or https URL"}))
}

async fn remove_endpoint(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.remove_webhook_endpoint(&id))
}

async fn change_settings(shared: Data<Shared>, change: Json<SettingsChange>) -> HttpResponse {
    changed(&shared, |world| {
        let settings = &mut world.settings;
        settings.older_deletions = change.older_deletions.unwrap_or(settings.older_deletions);
        settings.unknown_cursor = change.unknown_cursor.unwrap_or(settings.unknown_cursor);
        if let Some(key) = &change.api_key {
            settings.api_key.clone_from(key);
        }
        Ok(())
    })
}

/// Without a time nothing is left for the Events API.
async fn prune_events(shared: Data<Shared>, query: Query<Before>) -> HttpResponse {
    changed(&shared, |world| {
        let before = query.before.unwrap_or(DateTime::<Utc>::MAX_UTC);
        world.prune_events(before);
        Ok(())
    })
}

async fn truth(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.read(World::truth))
}
