//! Chaos, and what is told of requests and deliveries, by the handle of an emulator.

use std::collections::BTreeMap;

use crate::api_chaos::ApiChaos;
use crate::chaos::ChaosError;
use crate::delivery::{DeliveryFilter, DeliveryRecord};
use crate::emulator::Emulator;
use crate::shared::{Counts, Shared};
use crate::webhook_chaos::WebhookChaos;

impl Emulator {
    /// What befalls webhooks at present.
    pub fn webhook_chaos(&self) -> WebhookChaos {
        self.shared().deliveries.chaos()
    }

    /// Plans the webhooks of the events to come by this chaos; the next event has position 0 in it. What was planned
    /// before is sent as it was planned.
    ///
    /// # Errors
    /// A share is not from 0 to 1.
    pub fn set_webhook_chaos(&self, chaos: WebhookChaos) -> Result<(), ChaosError> {
        self.shared().set_webhook_chaos(chaos)
    }

    /// What befalls requests to the API at present.
    pub fn api_chaos(&self) -> ApiChaos {
        self.shared().api_chaos()
    }

    /// Lets this chaos befall requests from now on; the next has position 0 in it. Answers lag behind the changes from
    /// now on only. `/emulator/…` is spared.
    ///
    /// # Errors
    /// A share is not from 0 to 1.
    pub fn set_api_chaos(&self, chaos: ApiChaos) -> Result<(), ChaosError> {
        self.shared().set_api_chaos(chaos)
    }

    /// Decides anew what chaos strikes; its positions start again at 0.
    pub fn set_chaos_seed(&self, seed: u64) {
        self.shared().reseed_chaos(seed);
    }

    /// The deliveries of one list, in the order of queueing.
    pub fn deliveries_where(&self, filter: DeliveryFilter) -> Vec<DeliveryRecord> {
        self.shared().deliveries.records_where(|record| filter.accepts(record))
    }

    /// How many forgeries were accepted since the start or the last [`Emulator::forget_events`]. Each is a fault of the
    /// consumer.
    pub fn forged_accepted(&self) -> usize {
        self.deliveries_where(DeliveryFilter::ForgedAccepted).len()
    }

    /// Number of answers by path and status. Requests that were never answered are left out.
    pub fn request_counts_by_status(&self) -> BTreeMap<String, BTreeMap<u16, u64>> {
        self.shared().counts().by_status.clone()
    }

    /// Starts all counters of requests again at zero.
    pub fn reset_request_counts(&self) {
        *self.shared().counts() = Counts::default();
    }
}

impl Shared {
    pub(crate) fn set_webhook_chaos(&self, chaos: WebhookChaos) -> Result<(), ChaosError> {
        chaos.check()?;
        self.deliveries.set_chaos(chaos, self.chaos_seed());
        Ok(())
    }

    pub(crate) fn set_api_chaos(&self, chaos: ApiChaos) -> Result<(), ChaosError> {
        chaos.check()?;
        self.start_api_chaos(chaos);
        Ok(())
    }

    pub(crate) fn reseed_chaos(&self, seed: u64) {
        self.set_chaos_seed(seed);
        self.deliveries.set_chaos(self.deliveries.chaos(), seed);
        self.start_api_chaos(self.api_chaos());
    }
}
