//! The emulator from outside, over HTTP.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use workos_emulator::{ApiFault, Deactivation, Emulator, NewDirectory, NewUser, Options};

type TestResult = Result<(), Box<dyn Error>>;

const DOMAIN: &str = "acme.example";
const PATIENCE: Duration = Duration::from_secs(30);

fn unlimited() -> Options {
    Options { requests_per_minute: 0, directory_users_per_second: 0, ..Options::default() }
}

/// An emulator and somebody who asks it.
struct Api {
    emulator: Emulator,
    client: Client,
}

impl Api {
    async fn start(options: Options) -> Result<Self, Box<dyn Error>> {
        let emulator = Emulator::start(options).await?;
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { emulator, client })
    }

    async fn send(&self, path: &str) -> reqwest::Result<Response> {
        let url = format!("{}{path}", self.emulator.url());
        let request = self.client.get(url).bearer_auth(self.emulator.api_key());
        request.send().await
    }

    async fn get(&self, path: &str) -> reqwest::Result<(u16, Value)> {
        let response = self.send(path).await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// The ids on every page of a list.
    async fn ids(&self, path: &str) -> reqwest::Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = self.get(&format!("{path}&limit=4{cursor}")).await?;
            assert_eq!((status, &page["object"]), (200, &json!("list")));
            let data = page["data"].as_array().cloned().unwrap_or_default();
            ids.extend(data.iter().map(|record| text(&record["id"])));
            match page["list_metadata"]["after"].as_str() {
                Some(after) => cursor = format!("&after={after}"),
                None => return Ok(ids),
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn records_and_lists() -> TestResult {
    let api = Api::start(unlimited()).await?;
    let emulator = &api.emulator;
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    let team = emulator.create_group(&acme, "Team")?;
    let mut users = BTreeSet::new();
    for number in 0..13 {
        let new = NewUser::named("Ada", &format!("L{number}"), DOMAIN);
        users.insert(emulator.create_user(&acme, new)?);
    }
    let members: BTreeSet<String> = users.iter().skip(3).cloned().collect();
    for user in &members {
        emulator.add_member(&team, user)?;
    }
    let member = members.first().cloned().unwrap_or_default();

    let listed = api.ids(&format!("/directory_users?directory={acme}")).await?;
    assert!(listed.iter().eq(users.iter().rev()));
    let listed = api.ids(&format!("/directory_users?group={team}&order=asc")).await?;
    assert!(listed.iter().eq(members.iter()));
    let listed = api.ids(&format!("/directory_groups?user={member}")).await?;
    assert_eq!(listed, [team.as_str()]);

    let truth = emulator.truth();
    let (_, directory) = api.get(&format!("/directories/{acme}")).await?;
    assert_eq!(directory, serde_json::to_value(&truth.directories[&acme])?);
    assert_eq!(directory["metadata"]["users"]["active"], 13);
    let (_, group) = api.get(&format!("/directory_groups/{team}")).await?;
    assert_eq!(group, serde_json::to_value(&truth.groups[&team])?);
    let (_, user) = api.get(&format!("/directory_users/{member}")).await?;
    let mut expected = serde_json::to_value(&truth.users[&member])?;
    expected["groups"] = json!([]);
    assert_eq!(user, expected);
    let counts = emulator.request_counts();
    assert_eq!(counts["/directory_users/{id}"], 1);
    assert_eq!(emulator.request_counts_by_directory()[&acme], counts);
    emulator.stop().await;
    Ok(())
}

#[tokio::test]
async fn refusals() -> TestResult {
    let api = Api::start(unlimited()).await?;
    let emulator = &api.emulator;
    let (status, body) = api.get("/directory_users/directory_user_0").await?;
    assert_eq!((status, text(&body["code"])), (404, "entity_not_found".to_owned()));
    assert_eq!(body["entity_id"], "directory_user_0");
    let (status, body) = api.get("/directory_users?directory=directory_0").await?;
    assert_eq!(status, 404);
    assert!(body["message"].is_string());
    let (status, body) = api.get("/directory_users?group=directory_group_0").await?;
    assert_eq!(status, 200);
    let cursors = json!({"before": null, "after": null});
    assert_eq!(body, json!({"object": "list", "data": [], "list_metadata": cursors}));
    for path in ["/directory_groups", "/directories?limit=101", "/directories?order=up"] {
        let (status, body) = api.get(path).await?;
        assert_eq!(status, 422, "{path}");
        assert!(body["message"].is_string());
    }

    let url = format!("{}/directories", emulator.url());
    let response = api.client.get(&url).bearer_auth("wrong").send().await?;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.json::<Value>().await?, json!({"message": "Unauthorized"}));

    emulator.set_fault(ApiFault::Status(500));
    assert_eq!(api.get("/directories").await?.0, 500);
    emulator.set_fault(ApiFault::HtmlNotFound);
    let response = api.send("/directories").await?;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.text().await?.starts_with("<!doctype html>"));
    emulator.set_fault(ApiFault::Hang);
    let patience = Duration::from_millis(100);
    let hung = api.client.get(&url).timeout(patience).send().await;
    assert!(hung.is_err_and(|error| error.is_timeout()));
    emulator.set_fault(ApiFault::None);
    assert_eq!(api.get("/directories").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn rate_limits() -> TestResult {
    let options = Options { directory_users_per_second: 1, requests_per_minute: 4, ..unlimited() };
    let api = Api::start(options).await?;
    let acme = api.emulator.create_directory(NewDirectory::named("Acme"));
    let other = api.emulator.create_directory(NewDirectory::named("Other"));
    let new = NewUser::named("Ada", "Lovelace", DOMAIN);
    let ada = api.emulator.create_user(&acme, new)?;
    let listed = api.get(&format!("/directory_users?directory={acme}")).await?;
    assert_eq!(listed.0, 200);

    let response = api.send(&format!("/directory_users/{ada}")).await?;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = response.json().await?;
    assert_eq!(body["code"], "rate_limit_exceeded");
    assert!(body["message"].is_string());
    let listed = api.get(&format!("/directory_users?directory={other}")).await?;
    assert_eq!(listed.0, 200);
    assert_eq!(api.get("/directories").await?.0, 200);
    assert_eq!(api.get("/directories").await?.0, 429);
    assert_eq!(api.emulator.request_counts()["429"], 2);
    Ok(())
}

#[tokio::test]
async fn environments_differ() -> TestResult {
    let options = Options { embed_groups: true, omit_inactive_from_group_members: true, ..unlimited() };
    let api = Api::start(options).await?;
    let emulator = &api.emulator;
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    let ada = emulator.create_user(&acme, NewUser::named("Ada", "Lovelace", DOMAIN))?;
    let team = emulator.create_group(&acme, "Team")?;
    emulator.add_member(&team, &ada)?;
    let members = format!("/directory_users?group={team}");
    assert_eq!(api.ids(&members).await?, [ada.as_str()]);
    emulator.deactivate_user(&ada, Deactivation::DeletedKept)?;
    assert!(api.ids(&members).await?.is_empty());
    let (_, user) = api.get(&format!("/directory_users/{ada}")).await?;
    assert_eq!(user["state"], "inactive");
    assert_eq!(user["groups"][0]["id"], team.as_str());
    Ok(())
}

#[tokio::test]
async fn changes_by_hand() -> TestResult {
    let api = Api::start(unlimited()).await?;
    let base = format!("{}/emulator", api.emulator.url());
    let post = |path: String, body: Value| {
        let request = api.client.post(format!("{base}{path}")).json(&body);
        async move { request.send().await?.json::<Value>().await }
    };
    let acme = post("/directories".to_owned(), json!({"name": "Acme"})).await?;
    let acme = text(&acme["result"]);
    let ada = post(format!("/directories/{acme}/users"), json!({"first_name": "Ada"})).await?;
    let ada = text(&ada["result"]);
    let team = post(format!("/directories/{acme}/groups"), json!({"name": "Team"})).await?;
    let team = text(&team["result"]);
    let member = format!("{base}/groups/{team}/members/{ada}");
    let added = api.client.put(member).send().await?;
    assert_eq!(added.json::<Value>().await?, json!({"result": true}));
    let url = format!("{base}/users/{ada}/deactivate");
    let refused = api.client.post(&url).body(r#"{"how":"?"}"#).send().await?;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    api.client.post(&url).send().await?.error_for_status()?;
    assert!(api.emulator.truth().users.is_empty());
    assert_eq!(api.emulator.events().len(), 5);
    Ok(())
}

#[tokio::test]
async fn stopping_ends_requests_that_hang() -> TestResult {
    let api = Api::start(unlimited()).await?;
    api.emulator.set_fault(ApiFault::Hang);
    let url = format!("{}/directories", api.emulator.url());
    let hanging = tokio::spawn(api.client.get(&url).send());
    let arrived = async {
        while api.emulator.request_counts().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await?;
    tokio::time::timeout(PATIENCE, api.emulator.stop()).await?;
    let hung = tokio::time::timeout(PATIENCE, hanging).await??;
    assert!(hung.is_err());
    assert!(api.send("/directories").await.is_err());
    Ok(())
}
