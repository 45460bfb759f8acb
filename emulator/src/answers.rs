//! The API's answers about directories, users and groups, and the way to all others.
//!
//! Source of parameters and answers: WorkOS's OpenAPI document.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;

use crate::api_error::ApiError;
use crate::paging::Page;
use crate::records::{List, UserWithGroups};
use crate::request::{ApiRequest, ApiResponse};
use crate::routes::{Call, Route};
use crate::world::{DirectoryFilter, World};

/// How long one sync of a directory keeps off the next. Source: the official Rust SDK, `create_directory_sync`.
const SYNC_COOLDOWN: TimeDelta = TimeDelta::minutes(5);

impl World {
    /// The API's answer to a request, at the time set last. Rate limits count it.
    pub fn answer(&mut self, request: &ApiRequest) -> ApiResponse {
        self.answer_from(request, TimeDelta::zero())
    }

    /// As [`World::answer`], from the state of `lag` ago, as a replica would that has not caught up yet; as far back as
    /// [`World::keep_history`] has it. Portal links, webhook endpoints and whatever changes something are of the present.
    pub fn answer_from(&mut self, request: &ApiRequest, lag: TimeDelta) -> ApiResponse {
        let Some(call) = Call::read(request) else {
            return ApiResponse::not_found();
        };
        let lag = if call.route.reads_records() { lag.max(TimeDelta::zero()) } else { TimeDelta::zero() };
        let answered = self.admit(&call).and_then(|()| match self.now().checked_sub_signed(lag) {
            Some(time) if !lag.is_zero() => self.read_as_of(time, |world| world.read(&call, time)),
            _ => self.respond(&call),
        });
        answered.unwrap_or_else(ApiError::respond)
    }

    /// The directory that a request is about, if it exists.
    pub(crate) fn subject(&self, call: &Call<'_>) -> Option<&str> {
        let of_user = |id| self.users.get(id).map(|user| &*user.home.directory_id);
        let of_group = |id| self.groups.get(id).map(|group| &*group.home.directory_id);
        let directory = |id| self.directory(id).map(|directory| directory.id.as_str());
        match call.route {
            Route::Directory | Route::DeleteDirectory | Route::SyncDirectory => directory(call.id),
            Route::User => of_user(call.id),
            Route::Group => of_group(call.id),
            Route::Users | Route::Groups => call
                .parameter("directory")
                .and_then(directory)
                .or_else(|| call.parameter("group").and_then(of_group))
                .or_else(|| call.parameter("user").and_then(of_user)),
            _ => None,
        }
    }

    fn admit(&self, call: &Call<'_>) -> Result<(), ApiError> {
        let key = call.bearer.filter(|key| *key == self.settings.api_key).ok_or(ApiError::Unauthorized)?;
        let now = self.instant();
        self.limits.admit_request(key, now).map_err(ApiError::Limited)?;
        match (call.route, self.subject(call)) {
            (Route::Users | Route::User, Some(id)) => self.limits.admit_users(id, now).map_err(ApiError::Limited),
            _ => Ok(()),
        }
    }

    fn respond(&mut self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        match call.route {
            Route::DeleteDirectory => {
                self.delete_directory(call.id).map_err(|_| missing("Directory", call))?;
                Ok(ApiResponse::json(202, &json!({})))
            }
            Route::SyncDirectory => self.sync_directory(call.id),
            Route::PortalLink => self.generate_link(call),
            Route::CreateEndpoint => self.create_endpoint(call),
            Route::UpdateEndpoint => self.update_endpoint(call),
            Route::DeleteEndpoint => self.delete_endpoint(call),
            _ => self.read(call, self.now()),
        }
    }

    /// What needs no change, with the events up to `time`.
    fn read(&self, call: &Call<'_>, time: DateTime<Utc>) -> Result<ApiResponse, ApiError> {
        match call.route {
            Route::Directories => self.list_directories(call),
            Route::Users => self.list_users(call),
            Route::Groups => self.list_groups(call),
            Route::Directory => ok(self.directory(call.id).ok_or_else(|| missing("Directory", call))?),
            Route::Group => ok(self.group(call.id).ok_or_else(|| missing("Directory Group", call))?),
            Route::User => {
                let user = self.user(call.id).ok_or_else(|| missing("Directory User", call))?;
                let groups = if self.settings.embed_groups { self.groups_of(call.id) } else { Vec::new() };
                ok(&UserWithGroups { user, groups })
            }
            Route::Events => self.list_events(call, time),
            Route::Endpoints => self.list_endpoints(call),
            _ => Ok(ApiResponse::not_found()),
        }
    }

    fn list_directories(&self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let query = call.page_query()?;
        let filter = DirectoryFilter {
            organization_id: call.parameter("organization_id"),
            search: call.parameter("search").map(str::to_lowercase),
            domain: call.parameter("domain"),
        };
        list(&self.directories_page(&query, &filter), |id| self.directory(id))
    }

    fn list_users(&self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let query = call.page_query()?;
        let page = match self.filters(call, "group")? {
            (Some(directory), None) => self.directory_users_page(directory, &query),
            (directory, Some(group)) => match self.group(group) {
                Some(record) if directory.is_none_or(|id| id == record.directory_id) => {
                    self.members_page(group, &query, self.settings.omit_inactive_from_group_members)
                }
                _ => Page::default(),
            },
            (None, None) => return Err(missing_filter()),
        };
        list(&page, |id| self.user(id).map(|user| UserWithGroups { user, groups: Vec::new() }))
    }

    fn list_groups(&self, call: &Call<'_>) -> Result<ApiResponse, ApiError> {
        let query = call.page_query()?;
        let page = match self.filters(call, "user")? {
            (Some(directory), None) => self.directory_groups_page(directory, &query),
            (directory, Some(user)) => match self.users.get(user) {
                Some(entry) if directory.is_none_or(|id| id == &*entry.home.directory_id) => {
                    self.user_groups_page(user, &query)
                }
                _ => Page::default(),
            },
            (None, None) => return Err(missing_filter()),
        };
        list(&page, |id| self.group(id))
    }

    /// The directory, which has to exist, and the other filter, which need not.
    fn filters<'a>(&self, call: &'a Call<'_>, other: &str) -> Result<(Option<&'a str>, Option<&'a str>), ApiError> {
        let directory = call.parameter("directory");
        match directory {
            Some(id) if self.directory(id).is_none() => Err(ApiError::UnknownDirectory { id: id.to_owned() }),
            _ => Ok((directory, call.parameter(other))),
        }
    }

    /// There is nothing to fetch, as changes are made here: only the answer and the cooldown are real.
    fn sync_directory(&mut self, id: &str) -> Result<ApiResponse, ApiError> {
        let (now, scale) = (self.now(), self.settings.limits_scale);
        let entry = self.directory_entry(id);
        let entry = entry.map_err(|_| ApiError::NotFound { entity: "Directory", id: id.to_owned() })?;
        if entry.record.kind != "gsuite directory" {
            return Err(ApiError::Unprocessable("Only Google Workspace directories can be synced on request."));
        }
        if !matches!(entry.record.state.as_str(), "linked" | "validating") {
            return Err(ApiError::Unprocessable("The directory is neither linked nor validating."));
        }
        if let Some(last) = entry.sync_requested_at.filter(|_| scale > 0.0) {
            let cooldown = SYNC_COOLDOWN.to_std().unwrap_or_default().div_f64(scale);
            let since = (now - last).to_std().unwrap_or_default();
            if let Some(left) = cooldown.checked_sub(since).filter(|left| !left.is_zero()) {
                return Err(ApiError::Limited(left));
            }
        }
        entry.sync_requested_at = Some(now);
        Ok(ApiResponse::json(202, &json!({"status": "queued"})))
    }
}

fn missing(entity: &'static str, call: &Call<'_>) -> ApiError {
    ApiError::NotFound { entity, id: call.id.to_owned() }
}

fn missing_filter() -> ApiError {
    ApiError::Unprocessable("A directory, or a group or user respectively, must be given.")
}

pub(crate) fn ok(body: &impl Serialize) -> Result<ApiResponse, ApiError> {
    Ok(ApiResponse::json(200, body))
}

pub(crate) fn list<'a, T: Serialize>(
    page: &Page<'a>,
    record: impl Fn(&'a str) -> Option<T>,
) -> Result<ApiResponse, ApiError> {
    ok(&List {
        object: "list",
        data: page.ids.iter().filter_map(|id| record(id)).collect(),
        list_metadata: page.metadata,
    })
}
