//! The handle of a running emulator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use tokio::task::AbortHandle;

use crate::bulk::{BulkChange, BulkResult, BulkSpec};
use crate::chaos::ChaosError;
use crate::delivery::{Deliveries, DeliveryRecord, EndpointId};
use crate::events::EmittedEvent;
use crate::inputs::{Deactivation, NewDirectory, NewUser, UserChange, WorldError};
use crate::options::Options;
use crate::records::Truth;
use crate::shared::{ApiFault, Shared};
use crate::world::World;
use crate::{api, control};

/// Threads that answer requests.
const WORKERS: usize = 2;

/// An emulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The client that sends webhooks could not be made.
    #[error("cannot make the HTTP client for webhooks")]
    Client(#[from] reqwest::Error),
    /// The chaos of the options is not possible.
    #[error("impossible chaos")]
    Chaos(#[from] ChaosError),
}

/// A running emulator. Clones are handles of the same one; it stops with the last of them.
///
/// Changes take effect for the API before they return, and their events are queued by then.
#[derive(Clone)]
pub struct Emulator {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    url: String,
    server: ServerHandle,
    dispatcher: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.dispatcher.abort();
        // The command to stop is sent by the call; waiting for its end is left to `stop`.
        drop(self.server.stop(false));
    }
}

impl Emulator {
    /// Starts the API and the sender of webhooks, in the background of the current tokio runtime.
    ///
    /// # Errors
    /// The address is taken, no HTTP client can be made, or a share of chaos is not between 0 and 1.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let deliveries = Arc::new(Deliveries::new(options.delivery.clone())?);
        let shared = Arc::new(Shared::new(&options, deliveries.clone()));
        shared.set_webhook_chaos(options.webhook_chaos)?;
        shared.set_api_chaos(options.api_chaos)?;
        let data = Data::from(shared.clone());
        let make_app =
            move || App::new().app_data(data.clone()).configure(control::configure).configure(api::configure);
        let bind_error = |source| StartError::Bind { address: options.bind, source };
        let server = HttpServer::new(make_app)
            .workers(WORKERS)
            .disable_signals()
            // Otherwise a request that hangs would keep its socket after the client has gone.
            .h1_allow_half_closed(false)
            .bind(options.bind)
            .map_err(bind_error)?;
        let address = server.addrs().first().copied().unwrap_or(options.bind);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let dispatcher = tokio::spawn(deliveries.run()).abort_handle();
        tracing::info!(%address, "emulator listens");
        let running = Running { shared, url: format!("http://{address}"), server: handle, dispatcher };
        Ok(Self { running: Arc::new(running) })
    }

    /// The API's base URL, such as `http://127.0.0.1:40123`, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.running.url
    }

    /// The bearer key that the API accepts at present.
    pub fn api_key(&self) -> String {
        self.shared().api_key()
    }

    /// Stops the API at once, requests under way included, and sends no more webhooks. The state can still be read.
    pub async fn stop(&self) {
        self.running.dispatcher.abort();
        self.running.server.stop(false).await;
    }

    /// Sends every event from now on to `url`, signed with `secret`.
    pub fn register_endpoint(&self, url: &str, secret: &str) -> EndpointId {
        self.shared().register_endpoint(url, secret)
    }

    /// Sends nothing more to the endpoint; what is pending for it is given up.
    pub fn remove_endpoint(&self, id: EndpointId) {
        self.shared().remove_endpoint(id);
    }

    /// Runs any change of the [`World`] and sends off what it emits, as one step.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        self.shared().change(change)
    }

    /// Reads the [`World`]; nothing changes meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        self.shared().read(read)
    }

    /// Makes users, groups and memberships in bulk. Each emits its event, unless `silent`.
    ///
    /// # Errors
    /// See [`World::bulk_create`].
    pub fn bulk_create(&self, directory_id: &str, spec: BulkSpec) -> Result<BulkResult, WorldError> {
        self.change(|world| world.bulk_create(directory_id, spec))
    }

    /// Changes a share of a directory's people and returns how many.
    ///
    /// # Errors
    /// See [`World::bulk_change`].
    pub fn bulk_change(&self, directory_id: &str, change: &BulkChange) -> Result<usize, WorldError> {
        self.change(|world| world.bulk_change(directory_id, change))
    }

    /// Makes the API misbehave for requests from now on; `/emulator/…` is spared.
    pub fn set_fault(&self, fault: ApiFault) {
        self.shared().set_fault(fault);
    }

    /// Accepts only this key from now on.
    pub fn set_api_key(&self, key: &str) {
        self.shared().set_api_key(key);
    }

    /// Holds back each answer of the API for so long. It is made when the request arrives, so that a later change can
    /// overtake it.
    pub fn set_latency(&self, latency: Duration) {
        self.shared().set_latency(latency);
    }

    /// Makes a directory, linked and empty, and returns its id. Emits `dsync.activated`.
    pub fn create_directory(&self, new: NewDirectory) -> String {
        self.shared().change(|world| world.create_directory(new))
    }

    /// Sets a directory's state, in the API's words (`linked`, `unlinked`, …). Emits nothing.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn set_directory_state(&self, id: &str, state: &str) -> Result<(), WorldError> {
        self.shared().change(|world| world.set_directory_state(id, state))
    }

    /// Deletes a directory and everything in it. Emits `dsync.deleted` and no more.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn delete_directory(&self, id: &str) -> Result<(), WorldError> {
        self.shared().change(|world| world.delete_directory(id))
    }

    /// Makes an active user and returns its id. Emits `dsync.user.created`.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_user(&self, directory_id: &str, new: NewUser) -> Result<String, WorldError> {
        self.shared().change(|world| world.create_user(directory_id, new))
    }

    /// Changes a user. Emits `dsync.user.updated`, unless every value was the same before.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn update_user(&self, id: &str, change: UserChange) -> Result<(), WorldError> {
        self.shared().change(|world| world.update_user(id, change))
    }

    /// Deactivates a user, in one of the ways that environments have; see [`Deactivation`] for what is emitted.
    /// Nothing is, if there is nothing left to change.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn deactivate_user(&self, id: &str, how: Deactivation) -> Result<(), WorldError> {
        self.shared().change(|world| world.deactivate_user(id, how))
    }

    /// Makes a kept user active again. Emits `dsync.user.updated` if it was not; memberships are not announced again.
    ///
    /// # Errors
    /// The user does not exist.
    pub fn reactivate_user(&self, id: &str) -> Result<(), WorldError> {
        self.shared().change(|world| world.reactivate_user(id))
    }

    /// Makes an empty group and returns its id. Emits `dsync.group.created`.
    ///
    /// # Errors
    /// The directory does not exist.
    pub fn create_group(&self, directory_id: &str, name: &str) -> Result<String, WorldError> {
        self.shared().change(|world| world.create_group(directory_id, name))
    }

    /// Renames a group. Emits `dsync.group.updated`, unless it had that name.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn rename_group(&self, id: &str, name: &str) -> Result<(), WorldError> {
        self.shared().change(|world| world.rename_group(id, name))
    }

    /// Deletes a group and its memberships. Emits `dsync.group.deleted` and no more.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn delete_group(&self, id: &str) -> Result<(), WorldError> {
        self.shared().change(|world| world.delete_group(id))
    }

    /// Makes a user a member, and says whether it was not one. Emits `dsync.group.user_added` if so.
    ///
    /// # Errors
    /// The group does not exist, or no such user in its directory.
    pub fn add_member(&self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
        self.shared().change(|world| world.add_member(group_id, user_id))
    }

    /// Ends a membership, and says whether there was one. Emits `dsync.group.user_removed` if so.
    ///
    /// # Errors
    /// The group does not exist, or no such user in its directory.
    pub fn remove_member(&self, group_id: &str, user_id: &str) -> Result<bool, WorldError> {
        self.shared().change(|world| world.remove_member(group_id, user_id))
    }

    /// A copy of everything that the API could answer, all of one moment.
    pub fn truth(&self) -> Truth {
        self.shared().read(World::truth)
    }

    /// Every event since the start or the last [`Emulator::forget_events`], in order.
    pub fn events(&self) -> Vec<EmittedEvent> {
        self.shared().events()
    }

    /// Frees the memory of events and of finished deliveries; what is pending is still sent. For the making of large
    /// worlds, whose events are of no interest.
    pub fn forget_events(&self) {
        self.shared().forget_events();
    }

    /// What became of each event at each endpoint, in the order of queueing.
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.shared().deliveries.records()
    }

    /// Sends an event again to every endpoint of this moment, signed afresh. `false` if there is no such event.
    pub fn redeliver(&self, event_id: &str) -> bool {
        self.shared().redeliver(event_id)
    }

    /// Waits until no delivery is pending; `false` if some still are after `timeout`.
    pub async fn wait_for_deliveries(&self, timeout: Duration) -> bool {
        self.shared().deliveries.wait(timeout).await
    }

    /// Number of requests by path, such as `/directory_users/{id}`, whatever their answer; `429` counts those refused for
    /// a rate limit, once more.
    pub fn request_counts(&self) -> BTreeMap<String, u64> {
        self.shared().counts().by_path.clone()
    }

    /// The same counts by the id of the directory that a request was about. Requests about none, or about something
    /// that did not exist, are left out.
    pub fn request_counts_by_directory(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.shared().counts().by_directory.clone()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.running.shared
    }
}
