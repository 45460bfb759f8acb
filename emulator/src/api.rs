//! The Directory Sync API over HTTP: what [`World::answer`](crate::World::answer) answers, and the faults around it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::api_error::ApiError;
use crate::request::{ApiRequest, ApiResponse};
use crate::shared::{ApiFault, Shared};

/// Every path that nobody else has is the API's.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config.default_service(web::to(serve));
}

/// The answer is made when the request arrives and held back by the latency, so that changes can overtake it.
async fn serve(shared: Data<Shared>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let request = read(&request, &body);
    let Some((template, directory_id)) = shared.subject(&request) else {
        return write(ApiResponse::not_found());
    };
    let directory_id = directory_id.as_deref();
    shared.counts().count(template, directory_id);
    let plan = shared.plan_request();
    let response = match plan.fault {
        ApiFault::None => write(shared.answer(&request, plan.lag)),
        ApiFault::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = status.canonical_reason().unwrap_or("Unknown");
            HttpResponse::build(status).json(json!({"message": message}))
        }
        ApiFault::HtmlNotFound => HttpResponse::NotFound()
            .content_type("text/html; charset=utf-8")
            .body("<!doctype html><title>404 Not Found</title><h1>Not Found</h1>"),
        ApiFault::Hang => std::future::pending().await,
        ApiFault::RateLimited => write(ApiError::Limited(Duration::from_secs(1)).respond()),
    };
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS && plan.fault != ApiFault::Status(status.as_u16()) {
        shared.counts().count("429", directory_id);
    }
    shared.counts().count_answer(template, status.as_u16());
    if !plan.latency.is_zero() {
        tokio::time::sleep(plan.latency).await;
    }
    response
}

fn read(request: &HttpRequest, body: &Bytes) -> ApiRequest {
    let path_and_query = request.uri().path_and_query().map(|path| path.as_str().to_owned());
    let authorization = request.headers().get(AUTHORIZATION);
    let bearer = authorization.and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    ApiRequest {
        method: request.method().as_str().to_owned(),
        path_and_query: path_and_query.unwrap_or_default(),
        bearer: bearer.map(str::to_owned),
        body: body.to_vec(),
    }
}

fn write(response: ApiResponse) -> HttpResponse {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    for header in response.headers {
        builder.insert_header(header);
    }
    builder.body(response.body)
}
