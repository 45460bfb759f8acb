//! Waits for endpoints that are not up yet. Of everything that is for one of them a single delivery goes on trying.

use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Queue;

/// How often an endpoint is asked that has never answered.
const UNREACHED_RETRY: Duration = Duration::from_secs(1);

/// Whether anybody is there, of an endpoint that is waited for.
#[derive(Debug, Default)]
pub(crate) enum Reached {
    /// Nothing is known yet.
    #[default]
    Untold,
    /// It has answered.
    Yes,
    /// It has not answered: one delivery tries, and the others wait for it.
    No { trying: u64, waiting: Vec<u64> },
}

impl Queue {
    /// Whether the delivery has to wait until its endpoint answers another one; it does so then.
    pub(crate) fn waits_for_endpoint(&mut self, number: u64) -> bool {
        let endpoint = self.deliveries.get(&number).map(|delivery| delivery.record.endpoint);
        match endpoint.and_then(|id| self.endpoints.get_mut(&id)).map(|endpoint| &mut endpoint.reached) {
            Some(Reached::No { trying, waiting }) if *trying != number => {
                waiting.push(number);
                true
            }
            _ => false,
        }
    }

    /// Takes notice that the endpoint answered `number`, or did not. `true`: the delivery waits, and its attempt does
    /// not count.
    pub(crate) fn endpoint_reached(&mut self, number: u64, answered: bool) -> bool {
        let Self { endpoints, deliveries, due, .. } = self;
        let Some(delivery) = deliveries.get_mut(&number) else { return false };
        let Some(endpoint) = endpoints.get_mut(&delivery.record.endpoint) else { return false };
        if answered {
            if let Reached::No { waiting, .. } = std::mem::replace(&mut endpoint.reached, Reached::Yes) {
                due.extend(waiting.into_iter().map(|number| (Instant::now(), number)));
            }
            return false;
        }
        match &mut endpoint.reached {
            Reached::Yes => return false,
            Reached::No { trying, waiting } if *trying != number => waiting.push(number),
            reached => {
                if let Reached::Untold = reached {
                    tracing::info!(url = %endpoint.url, "nobody answers yet; webhooks wait");
                    *reached = Reached::No { trying: number, waiting: Vec::new() };
                }
                due.insert((Instant::now() + UNREACHED_RETRY, number));
            }
        }
        delivery.record.attempts -= 1;
        true
    }
}
