//! Routes under `/emulator` to make changes by hand. They need no key, and no fault or limit concerns them.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, Json, JsonConfig, Path, PayloadConfig, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::control_chaos;
use crate::control_world;
use crate::inputs::{Deactivation, NewDirectory, NewUser, UserChange, WorldError};
use crate::shared::Shared;
use crate::world::World;

/// Lists of 100,000 people fit.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

pub(crate) fn configure(config: &mut ServiceConfig) {
    let member = "/groups/{id}/members/{user}";
    let scope = web::scope("/emulator")
        .app_data(JsonConfig::default().limit(MAX_BODY_BYTES))
        .app_data(PayloadConfig::new(MAX_BODY_BYTES))
        .configure(control_chaos::configure)
        .configure(control_world::configure)
        .route("/directories", web::post().to(create_directory))
        .route("/directories/{id}", web::delete().to(delete_directory))
        .route("/directories/{id}/users", web::post().to(create_user))
        .route("/directories/{id}/groups", web::post().to(create_group))
        .route("/users/{id}", web::patch().to(update_user))
        .route("/users/{id}/deactivate", web::post().to(deactivate_user))
        .route("/users/{id}/reactivate", web::post().to(reactivate_user))
        .route("/groups/{id}", web::patch().to(rename_group))
        .route("/groups/{id}", web::delete().to(delete_group))
        .route(member, web::put().to(add_member))
        .route(member, web::delete().to(remove_member));
    config.service(scope);
}

#[derive(Deserialize)]
struct GroupName {
    name: String,
}

#[derive(Deserialize)]
struct DeactivationBody {
    how: Deactivation,
}

/// 200 with what `change` returns (for a new record its id), or why not.
pub(crate) fn changed<T: Serialize>(
    shared: &Shared,
    change: impl FnOnce(&mut World) -> Result<T, WorldError>,
) -> HttpResponse {
    match shared.change(change) {
        Ok(result) => HttpResponse::Ok().json(json!({"result": result})),
        Err(error) => {
            let mut refusal = match error {
                WorldError::StillActive(_) => HttpResponse::Conflict(),
                WorldError::Bulk(_) => HttpResponse::UnprocessableEntity(),
                _ => HttpResponse::NotFound(),
            };
            refusal.json(json!({"message": error.to_string()}))
        }
    }
}

async fn create_directory(shared: Data<Shared>, new: Json<NewDirectory>) -> HttpResponse {
    changed(&shared, |world| Ok(world.create_directory(new.0)))
}

async fn delete_directory(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.delete_directory(&id))
}

async fn create_user(shared: Data<Shared>, id: Path<String>, new: Json<NewUser>) -> HttpResponse {
    changed(&shared, |world| world.create_user(&id, new.0))
}

async fn create_group(shared: Data<Shared>, id: Path<String>, new: Json<GroupName>) -> HttpResponse {
    changed(&shared, |world| world.create_group(&id, &new.name))
}

async fn update_user(shared: Data<Shared>, id: Path<String>, change: Json<UserChange>) -> HttpResponse {
    changed(&shared, |world| world.update_user(&id, change.0))
}

/// Without a body the user goes as in newer environments: a deletion, and 404 afterwards; or, with the older deletions, as
/// in those.
async fn deactivate_user(shared: Data<Shared>, id: Path<String>, body: Bytes) -> HttpResponse {
    let how = if body.is_empty() {
        None
    } else {
        match serde_json::from_slice::<DeactivationBody>(&body) {
            Ok(body) => Some(body.how),
            Err(error) => {
                return HttpResponse::BadRequest().json(json!({"message": error.to_string()}));
            }
        }
    };
    changed(&shared, |world| world.deactivate_user(&id, how.unwrap_or(world.default_deactivation())))
}

async fn reactivate_user(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.reactivate_user(&id))
}

async fn rename_group(shared: Data<Shared>, id: Path<String>, name: Json<GroupName>) -> HttpResponse {
    changed(&shared, |world| world.rename_group(&id, &name.name))
}

async fn delete_group(shared: Data<Shared>, id: Path<String>) -> HttpResponse {
    changed(&shared, |world| world.delete_group(&id))
}

async fn add_member(shared: Data<Shared>, ids: Path<(String, String)>) -> HttpResponse {
    changed(&shared, |world| world.add_member(&ids.0, &ids.1))
}

async fn remove_member(shared: Data<Shared>, ids: Path<(String, String)>) -> HttpResponse {
    changed(&shared, |world| world.remove_member(&ids.0, &ids.1))
}
