//! Plans the webhooks of one event after the other, and remembers the events that may be sent again.

use std::collections::VecDeque;

use crate::events::EmittedEvent;
use crate::webhook_chaos::{PlannedDelivery, STALE_REACH, WebhookChaos};

/// Chaos, and the position of the next event in it.
#[derive(Debug, Default)]
pub(crate) struct WebhookPlanner {
    chaos: WebhookChaos,
    seed: u64,
    position: u64,
    /// The last events, the newest at the back; kept only if one can be sent again.
    past: VecDeque<EmittedEvent>,
}

impl WebhookPlanner {
    pub(crate) fn new(chaos: WebhookChaos, seed: u64) -> Self {
        Self { chaos, seed, position: 0, past: VecDeque::new() }
    }

    pub(crate) fn chaos(&self) -> &WebhookChaos {
        &self.chaos
    }

    /// The position of the event, and what is to be sent for it; a past event that was forgotten is left out.
    pub(crate) fn next(&mut self, event: &EmittedEvent) -> (u64, Vec<(EmittedEvent, PlannedDelivery)>) {
        let position = self.position;
        self.position += 1;
        let plan = self.chaos.plan(self.seed, position).into_iter();
        let sent = plan.filter_map(|planned| Some((self.event(event, planned.back)?, planned))).collect();
        if self.chaos.stale_redelivery > 0.0 {
            if self.past.len() as u64 == STALE_REACH {
                self.past.pop_front();
            }
            self.past.push_back(event.clone());
        }
        (position, sent)
    }

    pub(crate) fn forget_past(&mut self) {
        self.past.clear();
    }

    fn event(&self, present: &EmittedEvent, back: u64) -> Option<EmittedEvent> {
        match usize::try_from(back).ok()? {
            0 => Some(present.clone()),
            back => self.past.get(self.past.len().checked_sub(back)?).cloned(),
        }
    }
}
