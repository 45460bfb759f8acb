//! Chaos as a receiver of webhooks and a reader of the API meet it.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use workos_emulator::{
    ApiChaos, DeliveryFilter, DeliveryKind, DeliveryOptions, DeliveryOutcome, Emulator, NewDirectory, NewUser, Options,
    UserChange, WebhookChaos, sign,
};

type TestResult = Result<(), Box<dyn Error>>;

const DOMAIN: &str = "acme.example";
const SECRET: &str = "secret";
const PATIENCE: Duration = Duration::from_secs(30);
const EVENTS: usize = 61;

/// Keeps what it gets, and accepts either everything or what is rightly signed.
#[derive(Clone)]
struct Receiver {
    received: Arc<Mutex<Vec<Bytes>>>,
    credulous: bool,
}

impl Receiver {
    fn start(credulous: bool) -> std::io::Result<(Self, String)> {
        let receiver = Self { received: Arc::default(), credulous };
        let data = Data::new(receiver.clone());
        let server = HttpServer::new(move || {
            let app = App::new().app_data(data.clone());
            app.default_service(web::to(Self::receive))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", server.addrs()[0]);
        tokio::spawn(server.run());
        Ok((receiver, url))
    }

    async fn receive(this: Data<Self>, request: HttpRequest, body: Bytes) -> HttpResponse {
        let header = request.headers().get("workos-signature").and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default();
        let time = header.strip_prefix("t=").and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0_i64);
        let age = chrono::Utc::now().timestamp_millis() - time;
        if !this.credulous && (sign(SECRET, time, &body) != header || age.abs() > 180_000) {
            return HttpResponse::Unauthorized().finish();
        }
        let mut received = this.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(body);
        HttpResponse::Ok().finish()
    }
}

/// An emulator whose events come one after the other, with one sending at a time, and somebody who asks it.
struct Scene {
    emulator: Emulator,
    client: Client,
    directory: String,
}

impl Scene {
    async fn start(webhook_chaos: WebhookChaos, seed: u64) -> Result<Self, Box<dyn Error>> {
        let delivery = DeliveryOptions { concurrency: 1, ..DeliveryOptions::default() };
        let options = Options {
            requests_per_minute: 0,
            directory_users_per_second: 0,
            delivery,
            webhook_chaos,
            chaos_seed: seed,
            ..Options::default()
        };
        let emulator = Emulator::start(options).await?;
        Ok(Self { emulator, client: Client::builder().no_proxy().build()?, directory: String::new() })
    }

    /// Makes as many events as there are to be, and waits for what comes of them.
    async fn run(&mut self) -> TestResult {
        self.directory = self.emulator.create_directory(NewDirectory::named("Acme"));
        for number in 1..EVENTS {
            let new = NewUser::named("Ada", &number.to_string(), DOMAIN);
            self.emulator.create_user(&self.directory, new)?;
        }
        assert!(self.emulator.wait_for_deliveries(PATIENCE).await);
        Ok(())
    }

    /// For each webhook that was accepted, which event it told of.
    fn order(&self, receiver: &Receiver) -> Vec<usize> {
        let events = self.emulator.events();
        let received = receiver.received.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |body: &Bytes| events.iter().position(|event| event.body == *body);
        received.iter().filter_map(place).collect()
    }

    fn count(&self, kind: DeliveryKind, outcome: DeliveryOutcome) -> usize {
        let all = self.emulator.deliveries();
        all.iter().filter(|record| (record.kind, record.outcome) == (kind, outcome)).count()
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let request = self.client.request(method, format!("{}{path}", self.emulator.url()));
        let request = request.bearer_auth(self.emulator.api_key()).timeout(PATIENCE);
        match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        }
    }

    async fn get(&self, path: &str) -> reqwest::Result<Value> {
        self.send(Method::GET, path, None).await?.json().await
    }
}

#[tokio::test]
async fn each_chaos_of_webhooks_strikes_and_repeats() -> TestResult {
    let calm = WebhookChaos::default;
    let delay = "0..20ms".parse()?;
    let cases = [
        ("none", calm()),
        ("duplicate", WebhookChaos { duplicate: 0.3, ..calm() }),
        ("drop", WebhookChaos { drop: 0.3, ..calm() }),
        ("stale", WebhookChaos { stale_redelivery: 0.3, ..calm() }),
        ("reorder", WebhookChaos { reorder_window: 5, ..calm() }),
        ("delay", WebhookChaos { delay, ..calm() }),
    ];
    for (name, chaos) in cases {
        let mut orders = Vec::new();
        for seed in [1, 1, 2] {
            let mut scene = Scene::start(chaos.clone(), seed).await?;
            let (receiver, url) = Receiver::start(false)?;
            scene.emulator.register_endpoint(&url, SECRET);
            scene.run().await?;
            orders.push(scene.order(&receiver));
            let dropped = scene.count(DeliveryKind::Emission, DeliveryOutcome::Dropped);
            let sent = scene.count(DeliveryKind::Emission, DeliveryOutcome::Acknowledged);
            let more = scene.count(DeliveryKind::Duplicate, DeliveryOutcome::Acknowledged)
                + scene.count(DeliveryKind::Stale, DeliveryOutcome::Acknowledged);
            assert_eq!(dropped + sent, EVENTS, "{name}");
            assert_eq!(sent + more, receiver.received.lock().map_or(0, |received| received.len()), "{name}");
            assert_eq!(dropped > 0, name == "drop");
            assert_eq!(more > 0, name == "duplicate" || name == "stale");
        }
        if name == "none" {
            assert!(orders[0].iter().copied().eq(0..EVENTS));
            continue;
        }
        assert_ne!(orders[0], orders[2], "{name}");
        // How long it takes from one event to the next is not in the seed's hands.
        if name != "delay" {
            assert_eq!(orders[0], orders[1], "{name}");
        }
        if name == "reorder" || name == "delay" {
            assert!(!orders[0].is_sorted(), "{name}");
        }
        if name == "reorder" {
            for (place, event) in orders[0].iter().enumerate() {
                let earlier = orders[0][..place].iter().filter(|other| *other > event).count();
                assert!(earlier <= 5, "{event} was overtaken by {earlier}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn forgeries_come_on_top_and_only_once() -> TestResult {
    for credulous in [false, true] {
        let chaos = WebhookChaos { tampered: 0.3, mistimed: 0.3, ..WebhookChaos::default() };
        let mut scene = Scene::start(chaos, 1).await?;
        let (receiver, url) = Receiver::start(credulous)?;
        scene.emulator.register_endpoint(&url, SECRET);
        scene.run().await?;
        assert_eq!(scene.count(DeliveryKind::Emission, DeliveryOutcome::Acknowledged), EVENTS);
        let forged = scene.emulator.deliveries_where(DeliveryFilter::Forged);
        for kind in [DeliveryKind::Tampered, DeliveryKind::Mistimed] {
            assert!(forged.iter().any(|record| record.kind == kind));
        }
        assert!(forged.iter().all(|record| record.attempts == 1 && record.last_status.is_some()));
        let refused = forged.iter().filter(|record| record.outcome == DeliveryOutcome::Refused).count();
        let accepted = scene.emulator.forged_accepted();
        assert_eq!(if credulous { (accepted, refused) } else { (refused, accepted) }, (forged.len(), 0));
        let received = receiver.received.lock().map_or(0, |received| received.len());
        assert_eq!(received, EVENTS + accepted);
    }
    Ok(())
}

#[tokio::test]
async fn a_lagging_answer_shows_what_was() -> TestResult {
    let scene = Scene::start(WebhookChaos::default(), 1).await?;
    let emulator = &scene.emulator;
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    let ada = emulator.create_user(&acme, NewUser::named("Ada", "L", DOMAIN))?;
    let team = emulator.create_group(&acme, "Team")?;
    emulator.add_member(&team, &ada)?;
    let paths = [
        format!("/directory_users/{ada}"),
        format!("/directory_users?group={team}"),
        format!("/directory_groups?user={ada}"),
        format!("/directory_users?directory={acme}"),
        format!("/directories/{acme}"),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(scene.get(path).await?);
    }
    // Up to an hour back: for these requests the seed draws minutes, and the changes take less.
    emulator.set_api_chaos(ApiChaos { lag: Duration::from_secs(3600), ..ApiChaos::default() })?;
    emulator.update_user(&ada, UserChange { job_title: Some("Countess".to_owned()), ..UserChange::default() })?;
    emulator.remove_member(&team, &ada)?;
    emulator.create_user(&acme, NewUser::named("Alan", "T", DOMAIN))?;
    let mut past = Vec::new();
    for path in &paths {
        past.push(scene.get(path).await?);
    }
    assert_eq!(past, before);
    emulator.set_api_chaos(ApiChaos { lag_share: 0.0, ..emulator.api_chaos() })?;
    for (path, before) in paths.iter().zip(before) {
        assert_ne!(scene.get(path).await?, before, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_meet_chaos_and_are_counted() -> TestResult {
    let scene = Scene::start(WebhookChaos::default(), 1).await?;
    let chaos = ApiChaos { rate_limited_rate: 0.3, server_error_rate: 0.3, ..ApiChaos::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        // The same chaos, set again, starts again.
        scene.emulator.set_api_chaos(chaos.clone())?;
        let mut statuses = Vec::new();
        for _ in 0..40 {
            let response = scene.send(Method::GET, "/directories", None).await?;
            if response.status() == 429 {
                assert_eq!(response.headers()["retry-after"], "1");
            }
            statuses.push(response.status().as_u16());
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    let throttled = runs[0].iter().filter(|status| **status == 429).count();
    assert!(throttled > 0 && runs[0].contains(&200) && runs[0].iter().any(|status| *status >= 500));
    let counts = scene.get("/emulator/requests").await?;
    assert_eq!(counts["by_path"]["/directories"], 80);
    assert_eq!(counts["by_path"]["429"], 2 * throttled);
    assert_eq!(counts["by_status"]["/directories"]["429"], 2 * throttled);
    scene.send(Method::DELETE, "/emulator/requests", None).await?.error_for_status()?;
    assert_eq!(scene.get("/emulator/requests").await?, json!({"by_path": {}, "by_directory": {}, "by_status": {}}));
    Ok(())
}

#[tokio::test]
async fn chaos_and_faults_by_hand() -> TestResult {
    let scene = Scene::start(WebhookChaos::default(), 1).await?;
    let put = |path: &'static str, body: Value| scene.send(Method::PUT, path, Some(body));
    let body = json!({"seed": 9, "webhooks": {"drop": 0.5}, "api": {"latency": "1ms..2ms"}});
    let chaos: Value = put("/emulator/chaos", body).await?.error_for_status()?.json().await?;
    assert_eq!((&chaos["seed"], &chaos["webhooks"]["drop"]), (&json!(9), &json!(0.5)));
    let chaos: Value = put("/emulator/chaos", json!({"webhooks": {"duplicate": 1.0}})).await?.json().await?;
    assert_eq!(chaos["webhooks"]["drop"], 0.5);
    assert_eq!(scene.get("/emulator/chaos").await?, chaos);
    assert_eq!(scene.emulator.webhook_chaos(), WebhookChaos { drop: 0.5, duplicate: 1.0, ..WebhookChaos::default() });
    for (path, body, named) in [
        ("/emulator/chaos", json!({"webhooks": {"dropp": 1}}), "dropp"),
        ("/emulator/chaos", json!({"webhooks": {"drop": 2}}), "drop must be a share"),
        ("/emulator/faults", json!({"latence": "1s"}), "latence"),
        ("/emulator/faults", json!({"fault": "rain"}), "rain"),
    ] {
        let response = put(path, body).await?;
        assert_eq!(response.status(), 422);
        let message = response.json::<Value>().await?["message"].to_string();
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(scene.get("/emulator/chaos").await?, chaos);

    for (fault, status) in [
        (json!({"fault": {"status": 502}}), 502),
        (json!({"fault": "html_not_found"}), 404),
        (json!({"fault": "rate_limited"}), 429),
        (json!({"fault": "none"}), 200),
    ] {
        put("/emulator/faults", fault.clone()).await?.error_for_status()?;
        assert_eq!(scene.send(Method::GET, "/directories", None).await?.status(), status, "{fault}");
    }
    put("/emulator/faults", json!({"api_key": "other", "latency": "1ms"})).await?.error_for_status()?;
    assert_eq!(scene.emulator.api_key(), "other");
    let faults = json!({"fault": "none", "latency": "1ms", "api_key": "other"});
    assert_eq!(scene.get("/emulator/faults").await?, faults);
    Ok(())
}

#[tokio::test]
async fn what_was_emitted_and_delivered_is_listed() -> TestResult {
    let chaos = WebhookChaos { drop: 0.3, tampered: 0.3, ..WebhookChaos::default() };
    let mut scene = Scene::start(chaos, 1).await?;
    let (_, url) = Receiver::start(false)?;
    scene.emulator.register_endpoint(&url, SECRET);
    scene.run().await?;
    let counts = scene.get("/emulator/deliveries/counts").await?;
    for filter in ["delivered", "refused", "pending", "dropped", "forged", "forged_accepted"] {
        let listed = scene.get(&format!("/emulator/deliveries?outcome={filter}")).await?;
        assert_eq!(listed.as_array().map(Vec::len), counts[filter].as_u64().map(|count| count as usize), "{filter}");
        let some = matches!(filter, "delivered" | "dropped" | "forged");
        assert_eq!(counts[filter].as_u64().is_some_and(|count| count > 0), some, "{filter}");
    }
    let unknown = scene.send(Method::GET, "/emulator/deliveries?outcom=forged", None).await?;
    assert_eq!(unknown.status(), 422);

    let events = scene.get("/emulator/events").await?;
    assert_eq!(events.as_array().map(Vec::len), Some(EVENTS));
    let first = scene.get("/emulator/events?event=dsync.activated").await?;
    assert_eq!(first[0], events[0]);
    let newest = scene.get("/emulator/events?limit=1").await?;
    assert_eq!(newest[0], events[EVENTS - 1]);

    let id = events[0]["id"].as_str().unwrap_or_default();
    let again = format!("/emulator/events/{id}/redeliver");
    scene.send(Method::POST, &again, None).await?.error_for_status()?;
    assert!(scene.emulator.wait_for_deliveries(PATIENCE).await);
    assert_eq!(scene.count(DeliveryKind::Redelivery, DeliveryOutcome::Acknowledged), 1);
    scene.send(Method::DELETE, "/emulator/events", None).await?.error_for_status()?;
    assert_eq!(scene.get("/emulator/events").await?, json!([]));
    assert_eq!(scene.get("/emulator/deliveries").await?, json!([]));
    assert_eq!(scene.send(Method::POST, &again, None).await?.status(), 404);
    Ok(())
}
