//! Webhooks, as a receiver sees them.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use workos_emulator::{
    DeliveryOptions, DeliveryOutcome, Emulator, EndpointChange, EndpointStatus, NewDirectory, NewUser, Options, sign,
};

type TestResult = Result<(), Box<dyn Error>>;

const DOMAIN: &str = "acme.example";
const SECRET: &str = "secret";
const PATIENCE: Duration = Duration::from_secs(30);

fn impatient() -> Options {
    Options {
        delivery: DeliveryOptions {
            first_retry: Duration::from_millis(5),
            max_retry: Duration::from_millis(20),
            ..DeliveryOptions::default()
        },
        ..Options::default()
    }
}

/// What a webhook brought: the signature and the body.
type Received = Arc<Mutex<Vec<(String, Bytes)>>>;

#[derive(Clone, Default)]
struct Receiver {
    received: Received,
    refusals_left: Arc<AtomicUsize>,
}

impl Receiver {
    /// A receiver that answers 503 to the first `refusals` webhooks, and its URL.
    fn start(refusals: usize) -> std::io::Result<(Self, String)> {
        Self::start_at(refusals, "127.0.0.1:0")
    }

    fn start_at(refusals: usize, address: &str) -> std::io::Result<(Self, String)> {
        let receiver = Self { received: Arc::default(), refusals_left: Arc::new(AtomicUsize::new(refusals)) };
        let data = Data::new(receiver.clone());
        let server = HttpServer::new(move || {
            let app = App::new().app_data(data.clone());
            app.default_service(web::to(Self::receive))
        });
        let server = server.workers(1).disable_signals().bind(address)?;
        let url = format!("http://{}/hook", server.addrs()[0]);
        tokio::spawn(server.run());
        Ok((receiver, url))
    }

    async fn receive(this: Data<Self>, request: HttpRequest, body: Bytes) -> HttpResponse {
        let signature = request.headers().get("workos-signature");
        let signature = signature.and_then(|value| value.to_str().ok());
        let received = (signature.unwrap_or_default().to_owned(), body);
        let mut all = this.received.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(received);
        let refused = this.refusals_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match refused {
            Ok(_) => HttpResponse::ServiceUnavailable().finish(),
            Err(_) => HttpResponse::Ok().finish(),
        }
    }

    fn received(&self) -> Vec<(String, Bytes)> {
        let all = self.received.lock();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test]
async fn webhooks_are_retried_until_acknowledged() -> TestResult {
    let emulator = Emulator::start(impatient()).await?;
    let (receiver, url) = Receiver::start(3)?;
    let acme = emulator.create_directory(NewDirectory::named("Before"));
    let endpoint = emulator.register_endpoint(&url, SECRET);
    emulator.create_user(&acme, NewUser::named("Ada", "Lovelace", DOMAIN))?;
    assert!(emulator.wait_for_deliveries(PATIENCE).await);

    let deliveries = emulator.deliveries();
    assert_eq!(deliveries.len(), 1, "only what came after the registration");
    assert_eq!(deliveries[0].outcome, DeliveryOutcome::Acknowledged);
    assert_eq!((deliveries[0].attempts, deliveries[0].last_status), (4, Some(200)));
    assert!(deliveries[0].acknowledged_latency.is_some());
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    let event = &emulator.events()[1];
    for (signature, body) in received {
        assert_eq!(body, event.body);
        let time = signature.strip_prefix("t=").and_then(|rest| rest.split(',').next());
        let time: i64 = time.unwrap_or_default().parse()?;
        assert_eq!(signature, sign(SECRET, time, &body));
    }

    assert!(emulator.redeliver(&event.id));
    assert!(emulator.wait_for_deliveries(PATIENCE).await);
    assert_eq!(receiver.received().len(), 5);
    emulator.remove_endpoint(endpoint);
    emulator.delete_directory(&acme)?;
    assert_eq!(emulator.deliveries().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_down_is_given_up() -> TestResult {
    let emulator = Emulator::start(impatient()).await?;
    let unused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    emulator.register_endpoint(&format!("http://{unused}"), SECRET);
    emulator.create_directory(NewDirectory::named("Acme"));
    assert!(emulator.wait_for_deliveries(PATIENCE).await);
    let deliveries = emulator.deliveries();
    assert_eq!(deliveries[0].outcome, DeliveryOutcome::GivenUp);
    assert_eq!((deliveries[0].attempts, deliveries[0].last_status), (7, None));
    Ok(())
}

#[tokio::test]
async fn a_backlog_is_worked_off() -> TestResult {
    let emulator = Emulator::start(impatient()).await?;
    let (receiver, url) = Receiver::start(20)?;
    emulator.register_endpoint(&url, SECRET);
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    for number in 0..2000 {
        let new = NewUser::named("Ada", &number.to_string(), DOMAIN);
        emulator.create_user(&acme, new)?;
    }
    assert!(emulator.wait_for_deliveries(PATIENCE).await);
    let sent: BTreeSet<Bytes> = receiver.received().into_iter().map(|(_, body)| body).collect();
    assert_eq!(sent.len(), 2001);
    assert_eq!(receiver.received().len(), 2021);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_gets_what_it_subscribed_to_while_it_is_enabled() -> TestResult {
    let emulator = Emulator::start(impatient()).await?;
    let (receiver, url) = Receiver::start(0)?;
    let events = Some(vec!["dsync.group.created".to_owned()]);
    let secret = Some(SECRET.to_owned());
    let change = EndpointChange { events, secret, ..EndpointChange::default() };
    let id = emulator.change(|world| world.add_webhook_endpoint(&url, change));
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    emulator.create_group(&acme, "First")?;
    let set = |status| {
        let change = EndpointChange { status: Some(status), ..EndpointChange::default() };
        emulator.change(|world| world.change_webhook_endpoint(&id, change))
    };
    set(EndpointStatus::Disabled)?;
    emulator.create_group(&acme, "Second")?;
    set(EndpointStatus::Enabled)?;
    emulator.create_group(&acme, "Third")?;
    assert!(emulator.wait_for_deliveries(PATIENCE).await);
    // Sent again by hand it goes the same way.
    assert!(emulator.redeliver(&emulator.events()[0].id));
    assert!(emulator.wait_for_deliveries(PATIENCE).await);

    let bodies = receiver.received().into_iter().map(|(_, body)| serde_json::from_slice::<serde_json::Value>(&body));
    let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<_> = bodies.iter().map(|body| body["data"]["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from([Some("First"), Some("Third")]));
    assert_eq!(bodies.len(), 2);
    emulator.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_consumer_who_comes_late_gets_everything_once() -> TestResult {
    let mut options = impatient();
    options.delivery.wait_for_first_answer = true;
    options.delivery.max_attempts = 1;
    let emulator = Emulator::start(options).await?;
    // The port is free again when the listener is gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    emulator.register_endpoint(&format!("http://{address}/hook"), SECRET);
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    for number in 0..100 {
        emulator.create_group(&acme, &format!("Group {number}"))?;
    }
    assert!(!emulator.wait_for_deliveries(Duration::from_millis(300)).await);
    let (receiver, _) = Receiver::start_at(0, &address.to_string())?;
    assert!(emulator.wait_for_deliveries(PATIENCE).await);
    let deliveries = emulator.deliveries();
    assert!(deliveries.iter().all(|delivery| delivery.outcome == DeliveryOutcome::Acknowledged));
    assert!(deliveries.iter().all(|delivery| delivery.attempts == 1), "attempts at nobody do not count");
    assert_eq!(receiver.received().len(), 101);
    emulator.stop().await;
    Ok(())
}
