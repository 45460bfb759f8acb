//! The control routes, as the README tells of them.

use std::error::Error;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use workos_emulator::{Emulator, Options};

type TestResult = Result<(), Box<dyn Error>>;

struct Control {
    emulator: Emulator,
    client: Client,
}

impl Control {
    async fn start(options: Options) -> Result<Self, Box<dyn Error>> {
        let emulator = Emulator::start(options).await?;
        Ok(Self { emulator, client: Client::builder().no_proxy().build()? })
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let request = self.client.request(method, format!("{}/emulator{path}", self.emulator.url()));
        let response = if body.is_null() { request } else { request.json(body) }.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or_default()))
    }

    async fn post(&self, path: &str, body: Value) -> reqwest::Result<Value> {
        let (status, answer) = self.send(Method::POST, path, &body).await?;
        assert_eq!(status, 200, "{path}: {answer}");
        Ok(answer["result"].clone())
    }

    /// The id that was made.
    async fn made(&self, path: &str, body: Value) -> reqwest::Result<String> {
        Ok(self.post(path, body).await?.as_str().unwrap_or_default().to_owned())
    }

    /// The types of all events since the last call.
    fn emitted(&self) -> Vec<String> {
        let events = self.emulator.events().into_iter().map(|event| event.event).collect();
        self.emulator.forget_events();
        events
    }
}

#[tokio::test]
async fn an_endpoint_needs_a_url() -> TestResult {
    let control = Control::start(Options::default()).await?;
    let (status, _) =
        control.send(Method::POST, "/webhook_endpoints", &json!({"endpoint_url": "localhost:9999/hook"})).await?;
    assert_eq!(status, 422);
    assert_eq!(control.emulator.change(|world| world.webhook_endpoints().len()), 0);
    Ok(())
}

#[tokio::test]
async fn a_life_by_curl() -> TestResult {
    let control = Control::start(Options::default()).await?;
    assert_eq!(control.made("/organizations", json!({"name": "Acme", "id": "org_acme"})).await?, "org_acme");
    let new = json!({"name": "Acme", "organization_id": "org_acme"});
    let directory = control.made("/directories", new).await?;
    let user = control.made(&format!("/directories/{directory}/users"), json!({"email": "ada@acme.example"})).await?;
    control.emitted();

    control.post(&format!("/users/{user}/suspend"), Value::Null).await?;
    let (status, answer) = control.send(Method::PUT, "/faults", &json!({"fault": {"status": 7}})).await?;
    assert_eq!(status, 422, "no status of an error: {answer}");
    let (status, _) = control.send(Method::PUT, &format!("/users/{user}/state"), &json!({"state": "odd"})).await?;
    assert_eq!((status, control.emulator.truth().users[&user].state.as_str()), (200, "odd"));
    control.post(&format!("/users/{user}/reactivate"), Value::Null).await?;
    assert_eq!(control.emitted(), ["dsync.user.updated"; 3]);
    let (status, _) = control.send(Method::POST, &format!("/users/{user}/rehire"), &Value::Null).await?;
    assert_eq!(status, 409, "still active");
    assert_eq!(control.send(Method::DELETE, &format!("/users/{user}"), &Value::Null).await?.0, 200);
    let again = control.made(&format!("/users/{user}/rehire"), Value::Null).await?;
    assert_eq!(control.emitted(), ["dsync.user.deleted", "dsync.user.created"]);
    assert!(control.emulator.truth().users.keys().eq([&again]));

    let token = control.made(&format!("/directories/{directory}/tokens"), Value::Null).await?;
    assert_eq!(control.send(Method::DELETE, &format!("/tokens/{token}"), &Value::Null).await?.0, 200);
    assert_eq!(control.emitted(), ["dsync.token.created", "dsync.token.revoked"]);
    let path = format!("/directories/{directory}");
    control.send(Method::PATCH, &path, &json!({"state": "invalid_credentials"})).await?;
    assert_eq!(control.emulator.truth().directories[&directory].state, "invalid_credentials");
    control.post(&format!("{path}/unlink"), Value::Null).await?;
    control.post(&format!("{path}/activate"), Value::Null).await?;
    assert_eq!(control.emitted(), ["dsync.deactivated", "dsync.activated", "dsync.user.created"]);

    let (_, truth) = control.send(Method::GET, "/truth", &Value::Null).await?;
    assert_eq!(truth["users"][&again]["email"], "ada@acme.example");
    control.emulator.stop().await;
    Ok(())
}

#[tokio::test]
async fn crowds_and_seed_files_by_curl() -> TestResult {
    let control = Control::start(Options::default()).await?;
    let seed = include_str!("../examples/acme.yaml");
    let url = format!("{}/emulator/seed", control.emulator.url());
    let answer: Value = control.client.post(&url).body(seed).send().await?.json().await?;
    let directory = answer["result"][0].as_str().ok_or("an id")?.to_owned();
    let truth = control.emulator.truth();
    assert_eq!((truth.directories.len(), truth.users.len(), truth.groups.len()), (3, 51, 7));
    assert_eq!(truth.members.len(), 105);
    assert!(truth.directories.values().any(|directory| directory.state == "invalid_credentials"));
    assert!(truth.users.values().any(|user| user.state == "suspended" && user.idp_id == "00u-alan"));
    let wrong = control.client.post(&url).body(seed.replace("00u-alan]", "alan]")).send().await?;
    assert_eq!(wrong.status(), 422);
    let message = wrong.json::<Value>().await?["message"].to_string();
    assert!(message.contains("line 22") && message.contains("'alan'"), "{message}");

    control.emitted();
    let bulk = format!("/directories/{directory}/bulk");
    let spec = json!({"users": [{"first_name": "Ken"}, {"first_name": "Joan"}], "groups": ["Crew"],
        "memberships": [{"group": 0, "user": 1}]});
    assert_eq!(control.post(&bulk, spec).await?, json!({"users": 2, "groups": 1, "memberships": 1}));
    assert_eq!(control.emitted().len(), 4);
    control.post(&bulk, json!({"users": 10, "silent": true})).await?;
    assert!(control.emitted().is_empty());
    let change = json!({"action": "deactivate", "share": 0.5, "seed": 7});
    let active = control.emulator.truth().directories[&directory].metadata.users.active;
    let changed = control.post(&format!("{bulk}-change"), change).await?;
    assert_eq!(changed, json!(active.div_ceil(2)));
    assert_eq!(control.emitted(), vec!["dsync.user.deleted"; active.div_ceil(2) as usize]);
    let (status, _) = control.send(Method::POST, &bulk, &json!({"users": 1, "memberships": 1})).await?;
    assert_eq!(status, 422);
    control.emulator.stop().await;
    Ok(())
}

#[tokio::test]
async fn endpoints_and_settings_by_curl() -> TestResult {
    let control = Control::start(Options::default()).await?;
    let new = json!({"endpoint_url": "http://127.0.0.1:9/hook", "secret": "pinned", "events": ["dsync.deleted"]});
    let id = control.made("/webhook_endpoints", new).await?;
    let path = format!("/webhook_endpoints/{id}");
    assert_eq!(control.send(Method::PATCH, &path, &json!({"status": "disabled"})).await?.0, 200);
    let (_, list) = control.send(Method::GET, "/webhook_endpoints", &Value::Null).await?;
    assert_eq!((&list[0]["secret"], &list[0]["status"]), (&json!("pinned"), &json!("disabled")));
    assert_eq!(control.send(Method::DELETE, &path, &Value::Null).await?.0, 200);
    assert_eq!(control.send(Method::DELETE, &path, &Value::Null).await?.0, 404);

    let settings = json!({"older_deletions": true, "unknown_cursor": "refuse"});
    assert_eq!(control.send(Method::PATCH, "/settings", &settings).await?.0, 200);
    let directory = control.made("/directories", json!({"name": "Acme"})).await?;
    let user = control.made(&format!("/directories/{directory}/users"), json!({"first_name": "Ada"})).await?;
    control.post(&format!("/users/{user}/deactivate"), Value::Null).await?;
    assert_eq!(control.emulator.truth().users[&user].state, "inactive");
    let url = format!("{}/events?events=dsync.deleted&after=event_0", control.emulator.url());
    let answer = control.client.get(url).bearer_auth(control.emulator.api_key()).send().await?;
    assert_eq!(answer.status(), 422);
    control.emitted();
    control.send(Method::DELETE, &format!("/directories/{directory}"), &Value::Null).await?;
    assert_eq!(control.emitted(), ["dsync.user.deleted", "dsync.deleted"]);

    control.made("/directories", json!({"name": "Acme"})).await?;
    assert_eq!(control.send(Method::POST, "/events/prune?before=2020-01-01T00:00:00Z", &Value::Null).await?.0, 200);
    assert_eq!(control.emulator.events().len(), 1);
    assert_eq!(control.send(Method::POST, "/events/prune", &Value::Null).await?.0, 200);
    assert_eq!(control.emulator.events().len(), 0);
    control.emulator.stop().await;
    Ok(())
}
