//! An emulator with a company in it, the SDK pointed at it, and a place where webhooks arrive.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use workos::Client;
use workos_emulator::{Deactivation, Emulator, NewDirectory, NewUser, Options, UserChange};

pub const SECRET: &str = "whsec_contract";
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An emulator without limits, unless `options` says otherwise.
pub async fn emulator(options: Options) -> Emulator {
    Emulator::start(options).await.unwrap()
}

pub fn unlimited() -> Options {
    Options { requests_per_minute: 0, directory_users_per_second: 0, embed_groups: true, ..Options::default() }
}

/// How the SDK is pointed at the emulator: by its base URL.
pub fn client(emulator: &Emulator, key: &str) -> Client {
    Client::builder().api_key(key).base_url(emulator.url()).max_retries(0).build()
}

/// Ids of what [`found`] made.
pub struct Company {
    pub directory: String,
    pub users: Vec<String>,
    pub groups: Vec<String>,
}

/// A company of `people` in three groups.
pub fn found(emulator: &Emulator, people: usize) -> Company {
    let directory = emulator.create_directory(NewDirectory::named("Acme"));
    let groups: Vec<String> =
        (0..3).map(|number| emulator.create_group(&directory, &format!("Team {number}")).unwrap()).collect();
    let mut users = Vec::new();
    for number in 0..people {
        let mut person = NewUser::named("Ada", &format!("Number{number}"), "acme.example");
        person.role = number.is_multiple_of(2).then(|| "admin".to_owned());
        let user = emulator.create_user(&directory, person).unwrap();
        emulator.add_member(&groups[number % 3], &user).unwrap();
        users.push(user);
    }
    Company { directory, users, groups }
}

/// Every kind of change that the emulator knows.
pub fn change_everything(emulator: &Emulator) -> Company {
    let company = found(emulator, 6);
    let Company { directory, users, groups } = &company;
    let mut nameless = NewUser::named("", "", "");
    nameless.email = String::new();
    emulator.create_user(directory, nameless).unwrap();
    let change = UserChange {
        email: Some("new@acme.example".to_owned()),
        role: Some("owner".to_owned()),
        job_title: Some("Countess".to_owned()),
        ..UserChange::default()
    };
    emulator.update_user(&users[0], change).unwrap();
    emulator.deactivate_user(&users[1], Deactivation::UpdatedInactive).unwrap();
    emulator.reactivate_user(&users[1]).unwrap();
    emulator.deactivate_user(&users[2], Deactivation::DeletedKept).unwrap();
    emulator.deactivate_user(&users[3], Deactivation::DeletedGone).unwrap();
    emulator.rename_group(&groups[0], "Renamed").unwrap();
    emulator.remove_member(&groups[1], &users[4]).unwrap();
    emulator.delete_group(&groups[2]).unwrap();
    let other = emulator.create_directory(NewDirectory::named("Other"));
    emulator.delete_directory(&other).unwrap();
    company
}

/// A webhook as it arrived.
pub struct Arrival {
    pub header: String,
    pub body: String,
}

/// A server that takes every webhook.
pub async fn receiver() -> (String, UnboundedReceiver<Arrival>) {
    async fn take(request: HttpRequest, body: Bytes, arrivals: Data<UnboundedSender<Arrival>>) -> HttpResponse {
        let header = request.headers().get("workos-signature").unwrap().to_str().unwrap().to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap();
        arrivals.send(Arrival { header, body }).unwrap();
        HttpResponse::Ok().finish()
    }
    let (sender, arrivals) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sender = Data::new(sender);
    let server = HttpServer::new(move || App::new().app_data(sender.clone()).route("/", web::post().to(take)));
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    (url, arrivals)
}

/// Files of JSON in a folder of fixtures, by name.
pub fn fixtures(folder: &str) -> BTreeMap<String, String> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .map(|file| (file.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&file).unwrap()))
        .collect()
}

/// Decodes an event with the SDK's own type for it, and demands that the type left nothing out.
pub fn decode_event(name: &str, body: &str) {
    let raw: Value = serde_json::from_str(body).unwrap();
    match raw["event"].as_str().unwrap() {
        "dsync.activated" => decode::<workos::DsyncActivated>(name, &raw),
        // The SDK has no type of its own for it; WorkOS's OpenAPI document gives it that of `dsync.activated`.
        "dsync.deactivated" => decode::<workos::DsyncActivated>(name, &raw),
        "dsync.deleted" => decode::<workos::DsyncDeleted>(name, &raw),
        "dsync.user.created" => decode::<workos::DsyncUserCreated>(name, &raw),
        "dsync.user.updated" => decode::<workos::DsyncUserUpdated>(name, &raw),
        "dsync.user.deleted" => decode::<workos::DsyncUserDeleted>(name, &raw),
        "dsync.group.created" => decode::<workos::DsyncGroupCreated>(name, &raw),
        "dsync.group.updated" => decode::<workos::DsyncGroupUpdated>(name, &raw),
        "dsync.group.deleted" => decode::<workos::DsyncGroupDeleted>(name, &raw),
        "dsync.group.user_added" => decode::<workos::DsyncGroupUserAdded>(name, &raw),
        "dsync.group.user_removed" => decode::<workos::DsyncGroupUserRemoved>(name, &raw),
        "dsync.token.created" => decode::<workos::DsyncTokenCreated>(name, &raw),
        "dsync.token.revoked" => decode::<workos::DsyncTokenRevoked>(name, &raw),
        other => panic!("{name}: the SDK has no {other}"),
    }
}

fn decode<T: DeserializeOwned + serde::Serialize>(name: &str, raw: &Value) {
    let typed: T = serde_json::from_value(raw.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(without_null(&serde_json::to_value(&typed).unwrap()), without_null(raw), "{name}");
}

/// The SDK writes no nulls for what is absent.
fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name.clone(), without_null(field)))
            .collect(),
        Value::Array(items) => items.iter().map(without_null).collect(),
        other => other.clone(),
    }
}
