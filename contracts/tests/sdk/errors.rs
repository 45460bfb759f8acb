//! Refusals, as the SDK understands them.

use std::time::Duration;

use workos::directory_sync::{ListDirectoriesParams, ListUsersParams};
use workos::{ApiError, Client, Error};
use workos_emulator::{ApiFault, Options};

use crate::support::{client, emulator, found, unlimited};

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> ApiError {
    match answer {
        Err(Error::Api(error)) => *error,
        other => panic!("not refused by the API: {other:?}"),
    }
}

#[tokio::test]
async fn refusals_are_api_errors_with_status_and_code() {
    let emulator = emulator(unlimited()).await;
    let unknown = client(&emulator, "sk_unknown");
    let error = refused(unknown.directory_sync().list_directories(ListDirectoriesParams::default()).await);
    assert_eq!((error.status, error.message.as_str()), (401, "Unauthorized"));

    let client = client(&emulator, &emulator.api_key());
    let api = client.directory_sync();
    for error in [
        refused(api.get_directory("directory_01").await),
        refused(api.get_user("directory_user_01").await),
        refused(api.get_group("directory_group_01").await),
    ] {
        assert_eq!((error.status, error.code.as_deref()), (404, Some("entity_not_found")));
    }

    let no_filter = refused(api.list_users(ListUsersParams::default()).await);
    assert_eq!(no_filter.status, 422);
    let too_many = ListDirectoriesParams { limit: Some(101), ..Default::default() };
    assert_eq!(refused(api.list_directories(too_many).await).status, 422);

    emulator.set_fault(ApiFault::Status(503));
    assert_eq!(refused(api.get_directory("directory_01").await).status, 503);
    emulator.set_fault(ApiFault::HtmlNotFound);
    let error = refused(api.get_directory("directory_01").await);
    assert_eq!((error.status, error.code), (404, None), "a proxy's 404 has no code");
    emulator.stop().await;
}

#[tokio::test]
async fn a_limit_says_when_to_come_back_and_the_sdk_does() {
    let options = Options { directory_users_per_second: 1, ..unlimited() };
    let emulator = emulator(options).await;
    let acme = found(&emulator, 1);
    let users = || ListUsersParams { directory: Some(acme.directory.clone()), ..Default::default() };
    let impatient = client(&emulator, &emulator.api_key());
    impatient.directory_sync().list_users(users()).await.unwrap();
    let error = refused(impatient.directory_sync().list_users(users()).await);
    assert_eq!((error.status, error.code.as_deref()), (429, Some("rate_limit_exceeded")));
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));

    let patient = Client::builder().api_key(emulator.api_key()).base_url(emulator.url()).max_retries(3).build();
    patient.directory_sync().list_users(users()).await.unwrap();
    emulator.stop().await;
}
