//! The Directory Sync API.
//!
//! Source of paths, parameters and answers: WorkOS's OpenAPI document; of the errors' bodies: WorkOS documentation,
//! "API reference: errors" and "rate limits".

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;

use crate::paging::{Page, PageQuery};
use crate::records::{List, UserWithGroups};
use crate::shared::{ApiFault, Shared};
use crate::world::{DirectoryFilter, World};

pub(crate) fn configure(config: &mut ServiceConfig) {
    for route in [Route::Directories, Route::Directory, Route::Users, Route::User, Route::Groups, Route::Group] {
        let handler =
            move |shared: Data<Shared>, request: HttpRequest| async move { serve(&shared, &request, route).await };
        config.route(route.template(), web::get().to(handler));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Directories,
    Directory,
    Users,
    User,
    Groups,
    Group,
}

impl Route {
    fn template(self) -> &'static str {
        match self {
            Self::Directories => "/directories",
            Self::Directory => "/directories/{id}",
            Self::Users => "/directory_users",
            Self::User => "/directory_users/{id}",
            Self::Groups => "/directory_groups",
            Self::Group => "/directory_groups/{id}",
        }
    }
}

/// A request, as far as answers depend on it.
struct Call {
    route: Route,
    id: String,
    parameters: HashMap<String, String>,
    key: Option<String>,
}

impl Call {
    fn read(request: &HttpRequest, route: Route) -> Self {
        let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let parameters = query.map(web::Query::into_inner).unwrap_or_default();
        let authorization = request.headers().get(AUTHORIZATION);
        Self {
            route,
            id: request.match_info().query("id").to_owned(),
            parameters: parameters.into_iter().collect(),
            key: authorization
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Bearer "))
                .map(str::to_owned),
        }
    }

    /// A parameter; SDKs may send an empty one for one that is not set.
    fn parameter(&self, name: &str) -> Option<&str> {
        let value = self.parameters.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The directory that the request is about, if it exists.
    fn directory_id<'a>(&self, world: &'a World) -> Option<&'a str> {
        let of_user = |id| world.user(id).map(|user| user.directory_id.as_str());
        let of_group = |id| world.group(id).map(|group| group.directory_id.as_str());
        let directory = |id| world.directory(id).map(|directory| directory.id.as_str());
        match self.route {
            Route::Directories => None,
            Route::Directory => directory(&self.id),
            Route::User => of_user(&self.id),
            Route::Group => of_group(&self.id),
            Route::Users | Route::Groups => self
                .parameter("directory")
                .and_then(directory)
                .or_else(|| self.parameter("group").and_then(of_group))
                .or_else(|| self.parameter("user").and_then(of_user)),
        }
    }
}

#[derive(Debug)]
enum ApiError {
    Unauthorized,
    NotFound { entity: &'static str, id: String },
    UnknownDirectory { id: String },
    Unprocessable(&'static str),
    Limited(Duration),
}

impl ApiError {
    fn respond(self) -> HttpResponse {
        match self {
            Self::Unauthorized => HttpResponse::Unauthorized().json(json!({"message": "Unauthorized"})),
            Self::NotFound { entity, id } => HttpResponse::NotFound().json(json!({
                "message": format!("{entity} not found: '{id}'."),
                "code": "entity_not_found",
                "entity_id": id,
            })),
            Self::UnknownDirectory { id } => {
                HttpResponse::NotFound().json(json!({"message": format!("Directory not found: '{id}'.")}))
            }
            Self::Unprocessable(message) => HttpResponse::UnprocessableEntity().json(json!({"message": message})),
            Self::Limited(wait) => {
                let seconds = wait.as_millis().div_ceil(1000).max(1);
                HttpResponse::TooManyRequests().insert_header((RETRY_AFTER, seconds.to_string())).json(json!({
                    "message": "Rate limit exceeded.",
                    "code": "rate_limit_exceeded",
                }))
            }
        }
    }
}

/// The answer is made when the request arrives and held back by the latency, so that changes can overtake it.
async fn serve(shared: &Shared, request: &HttpRequest, route: Route) -> HttpResponse {
    let call = Call::read(request, route);
    let directory_id = shared.read(|world| call.directory_id(world).map(str::to_owned));
    shared.counts().count(route.template(), directory_id.as_deref());
    let plan = shared.plan_request();
    let response = match plan.fault {
        ApiFault::None => answer(shared, &call, directory_id.as_deref(), plan.lag),
        ApiFault::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = status.canonical_reason().unwrap_or("Unknown");
            HttpResponse::build(status).json(json!({"message": message}))
        }
        ApiFault::HtmlNotFound => HttpResponse::NotFound()
            .content_type("text/html; charset=utf-8")
            .body("<!doctype html><title>404 Not Found</title><h1>Not Found</h1>"),
        ApiFault::Hang => std::future::pending().await,
        ApiFault::RateLimited => limited(shared, Duration::from_secs(1), directory_id.as_deref()),
    };
    shared.counts().count_answer(route.template(), response.status().as_u16());
    if !plan.latency.is_zero() {
        tokio::time::sleep(plan.latency).await;
    }
    response
}

/// The answer as of `lag` ago.
fn answer(shared: &Shared, call: &Call, directory_id: Option<&str>, lag: Duration) -> HttpResponse {
    let answered =
        admit(shared, call, directory_id).and_then(|()| shared.read_past(lag, |world| respond(shared, call, world)));
    match answered {
        Ok(body) => HttpResponse::Ok().content_type("application/json; charset=utf-8").body(body),
        Err(ApiError::Limited(wait)) => limited(shared, wait, directory_id),
        Err(error) => error.respond(),
    }
}

fn limited(shared: &Shared, wait: Duration, directory_id: Option<&str>) -> HttpResponse {
    shared.counts().count("429", directory_id);
    ApiError::Limited(wait).respond()
}

fn admit(shared: &Shared, call: &Call, directory_id: Option<&str>) -> Result<(), ApiError> {
    let key = match &call.key {
        Some(key) if *key == shared.api_key() => key,
        _ => return Err(ApiError::Unauthorized),
    };
    let now = Instant::now();
    shared.limits.admit_request(key, now).map_err(ApiError::Limited)?;
    match (call.route, directory_id) {
        (Route::Users | Route::User, Some(id)) => shared.limits.admit_users(id, now).map_err(ApiError::Limited),
        _ => Ok(()),
    }
}

fn respond(shared: &Shared, call: &Call, world: &World) -> Result<Vec<u8>, ApiError> {
    let missing = |entity| ApiError::NotFound { entity, id: call.id.clone() };
    match call.route {
        Route::Directories => list_directories(call, world),
        Route::Users => list_users(shared, call, world),
        Route::Groups => list_groups(call, world),
        Route::Directory => {
            let directory = world.directory(&call.id);
            Ok(body(directory.ok_or_else(|| missing("Directory"))?))
        }
        Route::Group => {
            let group = world.group(&call.id);
            Ok(body(group.ok_or_else(|| missing("Directory Group"))?))
        }
        Route::User => {
            let user = world.user(&call.id);
            let user = user.ok_or_else(|| missing("Directory User"))?;
            let groups = if shared.embed_groups { world.groups_of(&call.id) } else { Vec::new() };
            Ok(body(&UserWithGroups { user, groups }))
        }
    }
}

fn list_directories(call: &Call, world: &World) -> Result<Vec<u8>, ApiError> {
    let query = page_query(call)?;
    let filter = DirectoryFilter {
        organization_id: call.parameter("organization_id"),
        search: call.parameter("search").map(str::to_lowercase),
        domain: call.parameter("domain"),
    };
    let page = world.directories_page(&query, &filter);
    Ok(list(&page, |id| world.directory(id)))
}

fn list_users(shared: &Shared, call: &Call, world: &World) -> Result<Vec<u8>, ApiError> {
    let query = page_query(call)?;
    let page = match filters(call, world, "group")? {
        (Some(directory), None) => world.directory_users_page(directory, &query),
        (directory, Some(group)) => match world.group(group) {
            Some(record) if directory.is_none_or(|id| id == record.directory_id) => {
                world.members_page(group, &query, shared.omit_inactive_from_group_members)
            }
            _ => Page::default(),
        },
        (None, None) => return Err(missing_filter()),
    };
    Ok(list(&page, |id| world.user(id).map(|user| UserWithGroups { user, groups: Vec::new() })))
}

fn list_groups(call: &Call, world: &World) -> Result<Vec<u8>, ApiError> {
    let query = page_query(call)?;
    let page = match filters(call, world, "user")? {
        (Some(directory), None) => world.directory_groups_page(directory, &query),
        (directory, Some(user)) => match world.user(user) {
            Some(record) if directory.is_none_or(|id| id == record.directory_id) => {
                world.user_groups_page(user, &query)
            }
            _ => Page::default(),
        },
        (None, None) => return Err(missing_filter()),
    };
    Ok(list(&page, |id| world.group(id)))
}

/// The directory, which has to exist, and the other filter, which need not.
fn filters<'a>(call: &'a Call, world: &World, other: &str) -> Result<(Option<&'a str>, Option<&'a str>), ApiError> {
    let directory = call.parameter("directory");
    match directory {
        Some(id) if world.directory(id).is_none() => Err(ApiError::UnknownDirectory { id: id.to_owned() }),
        _ => Ok((directory, call.parameter(other))),
    }
}

fn missing_filter() -> ApiError {
    ApiError::Unprocessable("A directory, or a group or user respectively, must be given.")
}

fn page_query(call: &Call) -> Result<PageQuery, ApiError> {
    PageQuery::parse(|name| call.parameter(name)).map_err(ApiError::Unprocessable)
}

fn list<'a, T: Serialize>(page: &Page<'a>, record: impl Fn(&'a str) -> Option<T>) -> Vec<u8> {
    body(&List {
        object: "list",
        data: page.ids.iter().filter_map(|id| record(id)).collect(),
        list_metadata: page.metadata,
    })
}

fn body(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("records have string keys only")
}
