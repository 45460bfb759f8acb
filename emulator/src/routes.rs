//! Which request is which. Source of methods and paths: WorkOS's OpenAPI document; of `POST /directories/{id}/sync`: the
//! official Rust SDK.

use actix_web::web::Query;
use serde::de::DeserializeOwned;

use crate::api_error::ApiError;
use crate::paging::PageQuery;
use crate::request::ApiRequest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Directories,
    Directory,
    DeleteDirectory,
    SyncDirectory,
    Users,
    User,
    Groups,
    Group,
    Events,
    PortalLink,
    Endpoints,
    CreateEndpoint,
    UpdateEndpoint,
    DeleteEndpoint,
}

impl Route {
    /// Whether it shows directories, what is in them, or events.
    pub(crate) fn reads_records(self) -> bool {
        matches!(
            self,
            Self::Directories | Self::Directory | Self::Users | Self::User | Self::Groups | Self::Group | Self::Events
        )
    }
}

const ROUTES: [(&str, &str, Route); 14] = [
    ("GET", "/directories", Route::Directories),
    ("GET", "/directories/{id}", Route::Directory),
    ("DELETE", "/directories/{id}", Route::DeleteDirectory),
    ("POST", "/directories/{id}/sync", Route::SyncDirectory),
    ("GET", "/directory_users", Route::Users),
    ("GET", "/directory_users/{id}", Route::User),
    ("GET", "/directory_groups", Route::Groups),
    ("GET", "/directory_groups/{id}", Route::Group),
    ("GET", "/events", Route::Events),
    ("POST", "/portal/generate_link", Route::PortalLink),
    ("GET", "/webhook_endpoints", Route::Endpoints),
    ("POST", "/webhook_endpoints", Route::CreateEndpoint),
    ("PATCH", "/webhook_endpoints/{id}", Route::UpdateEndpoint),
    ("DELETE", "/webhook_endpoints/{id}", Route::DeleteEndpoint),
];

/// A request, as far as answers depend on it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) route: Route,
    /// The path with its placeholder, such as `/directories/{id}`.
    pub(crate) template: &'static str,
    pub(crate) id: &'a str,
    parameters: Vec<(String, String)>,
    pub(crate) bearer: Option<&'a str>,
    body: &'a [u8],
}

impl<'a> Call<'a> {
    /// `None` for a path or method that there is not.
    pub(crate) fn read(request: &'a ApiRequest) -> Option<Self> {
        let (path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
        let mut routes = ROUTES.iter().filter(|(method, ..)| *method == request.method);
        let (template, route, id) =
            routes.find_map(|&(_, template, route)| Some((template, route, matched(template, path)?)))?;
        let parameters = Query::<Vec<(String, String)>>::from_query(query).map(Query::into_inner);
        Some(Self {
            route,
            template,
            id,
            parameters: parameters.unwrap_or_default(),
            bearer: request.bearer.as_deref(),
            body: &request.body,
        })
    }

    /// A parameter; SDKs may send an empty one for one that is not set.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A list in any of the forms that clients use: `a=1,2`, `a=1&a=2`, `a[]=1&a[]=2`, `a[0]=1`.
    pub(crate) fn list_parameter(&self, name: &str) -> Vec<&str> {
        let of_list = |key: &str| {
            let rest = key.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('[') && rest.ends_with(']')))
        };
        let values = self.parameters.iter().filter(|(key, _)| of_list(key));
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    pub(crate) fn page_query(&self) -> Result<PageQuery, ApiError> {
        PageQuery::parse(|name| self.parameter(name)).map_err(ApiError::Unprocessable)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body).map_err(|error| {
            let message = error.to_string();
            if error.is_data() { ApiError::BadParameters(message) } else { ApiError::BadRequest(message) }
        })
    }
}

/// The id in `path`, empty if there is none in `template`; `None` if they do not match.
fn matched<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = template.split_once("{id}") else {
        return (template == path).then_some("");
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        for (method, path, expected) in [
            ("GET", "/directories?limit=1", Some((Route::Directories, ""))),
            ("GET", "/directories/d", Some((Route::Directory, "d"))),
            ("DELETE", "/directories/d", Some((Route::DeleteDirectory, "d"))),
            ("POST", "/directories/d/sync", Some((Route::SyncDirectory, "d"))),
            ("PATCH", "/webhook_endpoints/we_1", Some((Route::UpdateEndpoint, "we_1"))),
            ("GET", "/webhook_endpoints/we_1", None),
            ("GET", "/directories/d/sync", None),
            ("GET", "/directories/", None),
            ("POST", "/directories", None),
        ] {
            let request = ApiRequest { method: method.to_owned(), ..ApiRequest::get(path, "key") };
            let call = Call::read(&request);
            assert_eq!(call.map(|call| (call.route, call.id)), expected, "{method} {path}");
        }
    }

    #[test]
    fn lists_in_every_form() {
        for query in [
            "events=a,b",
            "events=a&events=b",
            "events[]=a&events[]=b",
            "events%5B0%5D=a&events%5B1%5D=b",
            "events=a%2C%20b,",
        ] {
            let request = ApiRequest::get(&format!("/events?{query}&eventsx=c"), "key");
            let call = Call::read(&request).expect("a known path");
            assert_eq!(call.list_parameter("events"), ["a", "b"], "{query}");
        }
    }
}
