//! WorkOS's Rust SDK, unmodified, with workos-emulator: receives webhooks, and lists what a directory holds.
//!
//! ```sh
//! cargo run -p workos-emulator -- serve --users 50 --endpoint http://127.0.0.1:3000/webhooks
//! cargo run --manifest-path contracts/Cargo.toml --example emulator
//! ```

use std::env;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::TryStreamExt;
use workos::directory_sync::{ListDirectoriesParams, ListGroupsParams, ListUsersParams};
use workos::events::ListEventsParams;
use workos::{Client, WebhookVerifier};

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The raw text is what was signed; `construct_event` verifies it, and parses it only then.
async fn webhook(request: HttpRequest, body: Bytes, verifier: Data<WebhookVerifier>) -> HttpResponse {
    let header = request.headers().get("WorkOS-Signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    match verifier.construct_event(header, &body) {
        Ok(event) => {
            println!("webhook {} {}", event.event, event.id);
            HttpResponse::Ok().finish()
        }
        Err(error) => {
            println!("refused: {error}");
            HttpResponse::Unauthorized().finish()
        }
    }
}

async fn list(client: &Client) -> Result<(), workos::Error> {
    let api = client.directory_sync();
    let directories: Vec<_> = api.list_directories_auto_paging(ListDirectoriesParams::default()).try_collect().await?;
    println!("{} directories", directories.len());
    for directory in directories {
        let of = Some(directory.id);
        let users = ListUsersParams { directory: of.clone(), limit: Some(100), ..Default::default() };
        let users: Vec<_> = api.list_users_auto_paging(users).try_collect().await?;
        let groups = ListGroupsParams { directory: of, limit: Some(100), ..Default::default() };
        let groups: Vec<_> = api.list_groups_auto_paging(groups).try_collect().await?;
        println!("{}: {} users, {} groups", directory.name, users.len(), groups.len());
    }
    let events = ListEventsParams {
        limit: Some(100),
        ..ListEventsParams::new(vec!["dsync.user.created".to_owned(), "dsync.group.created".to_owned()])
    };
    let events: Vec<_> = client.events().list_events_auto_paging(events).try_collect().await?;
    println!("{} events", events.len());
    Ok(())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder()
        .api_key(variable("WORKOS_API_KEY", "sk_test_emulator"))
        .base_url(variable("WORKOS_API_BASE_URL", "http://127.0.0.1:8085"))
        .build();
    let verifier = Data::new(WebhookVerifier::new(variable("WORKOS_WEBHOOK_SECRET", "whsec_emulator")));
    let port = variable("PORT", "3000").parse()?;
    let server =
        HttpServer::new(move || App::new().app_data(verifier.clone()).route("/webhooks", web::post().to(webhook)))
            .workers(1)
            .bind(("127.0.0.1", port))?
            .run();
    let handle = server.handle();
    let listing = actix_web::rt::spawn(async move {
        let listed = list(&client).await;
        if listed.is_ok() {
            println!("listed; change something, or stop with Ctrl-C");
        } else {
            handle.stop(true).await;
        }
        listed
    });
    server.await?;
    Ok(listing.await??)
}
