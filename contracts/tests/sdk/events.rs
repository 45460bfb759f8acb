//! The Events API, webhook endpoints, the Admin Portal's link and the wish for a sync.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use workos::admin_portal::GenerateLinkParams;
use workos::events::ListEventsParams;
use workos::webhooks::{CreateWebhookEndpointParams, ListWebhookEndpointsParams, UpdateWebhookEndpointParams};
use workos::{
    CreateWebhookEndpoint, CreateWebhookEndpointEvents, Error, GenerateLink, GenerateLinkIntent, PaginationOrder,
    UpdateWebhookEndpoint, UpdateWebhookEndpointStatus, WebhookVerifier,
};
use workos_emulator::{NewDirectory, NewUser};

use crate::support::{PATIENCE, change_everything, client, decode_event, emulator, receiver, unlimited};

#[tokio::test]
async fn events_are_read_by_pages_and_are_those_of_the_webhooks() {
    let emulator = emulator(unlimited()).await;
    change_everything(&emulator);
    let client = client(&emulator, &emulator.api_key());
    let sent = emulator.events();
    let kinds: BTreeSet<String> = sent.iter().map(|event| event.event.clone()).collect();
    let params = ListEventsParams {
        limit: Some(7),
        order: Some(PaginationOrder::Asc),
        ..ListEventsParams::new(kinds.into_iter().collect())
    };
    let read: Vec<_> = client.events().list_events_auto_paging(params).try_collect().await.unwrap();
    let ids = |events: &[workos::EventSchema]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&read), sent.iter().map(|event| event.id.clone()).collect::<Vec<_>>());
    for event in &read {
        decode_event(&event.event, &serde_json::to_string(event).unwrap());
    }
    let params = ListEventsParams {
        limit: Some(100),
        ..ListEventsParams::new(vec!["dsync.user.deleted".to_owned(), "dsync.deleted".to_owned()])
    };
    let some = client.events().list_events(params).await.unwrap();
    assert_eq!(some.data.len(), 3);
    emulator.stop().await;
}

#[tokio::test]
async fn a_registered_endpoint_answers_the_secret_that_signs() {
    let (url, mut arrivals) = receiver().await;
    let emulator = emulator(unlimited()).await;
    let client = client(&emulator, &emulator.api_key());
    let api = client.webhooks();
    let body = CreateWebhookEndpoint {
        endpoint_url: url.clone(),
        events: vec![CreateWebhookEndpointEvents::DsyncActivated, CreateWebhookEndpointEvents::DsyncUserCreated],
    };
    let endpoint = api.create_webhook_endpoint(CreateWebhookEndpointParams::new(body)).await.unwrap();
    assert_eq!(endpoint.endpoint_url, url);
    let listed = api.list_webhook_endpoints(ListWebhookEndpointsParams::default()).await.unwrap();
    assert_eq!(listed.data.iter().map(|known| &known.id).collect::<Vec<_>>(), [&endpoint.id]);

    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    emulator.create_group(&acme, "Not asked for").unwrap();
    emulator.create_user(&acme, NewUser::named("Ada", "Lovelace", "acme.example")).unwrap();
    let secret: &str = endpoint.secret.as_ref();
    let verifier = WebhookVerifier::new(secret);
    let mut kinds = BTreeSet::new();
    for _ in 0..2 {
        let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        kinds.insert(verifier.construct_event(&arrival.header, &arrival.body).unwrap().event);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["dsync.activated", "dsync.user.created"]);

    let off =
        UpdateWebhookEndpoint { endpoint_url: None, events: None, status: Some(UpdateWebhookEndpointStatus::Disabled) };
    let updated = api.update_webhook_endpoint(&endpoint.id, UpdateWebhookEndpointParams::new(off)).await.unwrap();
    assert_eq!(updated.status.to_string(), "disabled");
    api.delete_webhook_endpoint(&endpoint.id).await.unwrap();
    let Err(Error::Api(error)) = api.delete_webhook_endpoint(&endpoint.id).await else { panic!("it is still there") };
    assert_eq!((error.status, error.code.as_deref()), (404, Some("entity_not_found")));
    emulator.stop().await;
}

#[tokio::test]
async fn the_portal_gives_a_link() {
    let emulator = emulator(unlimited()).await;
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    let client = client(&emulator, &emulator.api_key());
    let body = GenerateLink {
        return_url: None,
        success_url: None,
        organization: emulator.truth().directories[&acme].organization_id.clone(),
        external_user_id: None,
        intent: Some(GenerateLinkIntent::Dsync),
        it_contact_emails: None,
    };
    let answer = client.admin_portal().generate_link(GenerateLinkParams::new(body)).await.unwrap();
    let link: &str = answer.link.as_ref();
    assert!(link.starts_with("http"), "{link}");
    emulator.stop().await;
}

#[tokio::test]
async fn only_google_directories_are_synced_on_demand_and_not_twice_in_a_row() {
    let emulator = emulator(unlimited()).await;
    let google = NewDirectory { kind: "gsuite directory".to_owned(), ..NewDirectory::named("Google") };
    let google = emulator.create_directory(google);
    let client = client(&emulator, &emulator.api_key());
    let answer = client.directory_sync().create_directory_sync(&google).await.unwrap();
    assert!(!answer.status.is_empty());
    let Err(Error::Api(error)) = client.directory_sync().create_directory_sync(&google).await else {
        panic!("a second one within five minutes")
    };
    assert_eq!(error.status, 429);
    let okta = emulator.create_directory(NewDirectory::named("Okta"));
    assert!(client.directory_sync().create_directory_sync(&okta).await.is_err());
    emulator.stop().await;
}
