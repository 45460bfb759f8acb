//! The log of what was emitted, as the Events API reads it.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use crate::events::EmittedEvent;
use crate::paging::{Ordered, Page, PageQuery, page};

/// How long events are kept. Source: WorkOS documentation, "Events API".
const KEPT: TimeDelta = TimeDelta::days(90);

/// Events in the order of their ids, which is that of their times.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    events: VecDeque<EmittedEvent>,
    /// How many at the end have not been taken yet.
    untaken: usize,
}

/// What narrows the list of events. Source: parameters of `GET /events` in WorkOS's OpenAPI document.
#[derive(Debug, Default)]
pub(crate) struct EventFilter<'a> {
    pub(crate) events: Vec<&'a str>,
    pub(crate) organization_id: Option<&'a str>,
    /// Later than this.
    pub(crate) range_start: Option<DateTime<Utc>>,
    /// Earlier than this.
    pub(crate) range_end: Option<DateTime<Utc>>,
    /// Not later than this: what happened since is not to be seen yet.
    pub(crate) until: DateTime<Utc>,
}

impl EventLog {
    pub(crate) fn push(&mut self, event: EmittedEvent) {
        self.events.push_back(event);
        self.untaken += 1;
    }

    /// Those since the last call.
    pub(crate) fn take(&mut self) -> Vec<EmittedEvent> {
        let first = self.events.len() - self.untaken;
        self.untaken = 0;
        self.events.range(first..).cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&EmittedEvent> {
        let index = self.events.binary_search_by(|event| event.id.as_str().cmp(id)).ok()?;
        self.events.get(index)
    }

    pub(crate) fn all(&self) -> Vec<EmittedEvent> {
        self.events.iter().cloned().collect()
    }

    /// Forgets what is older than `before`; the memory is free once nobody else holds it.
    pub(crate) fn prune(&mut self, before: DateTime<Utc>) {
        let keep_from = self.events.partition_point(|event| event.created_at < before);
        self.events.drain(..keep_from);
        self.events.shrink_to(self.events.len().saturating_mul(2));
        self.untaken = self.untaken.min(self.events.len());
    }

    /// Forgets what WorkOS would not answer any more.
    pub(crate) fn expire(&mut self, now: DateTime<Utc>) {
        let oldest = now - KEPT;
        if self.events.front().is_some_and(|event| event.created_at < oldest) {
            self.prune(oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn page(&self, query: &PageQuery, filter: &EventFilter<'_>) -> Page<'_> {
        page(self, query, |id| self.get(id).is_some_and(|event| filter.accepts(event)))
    }
}

impl EventFilter<'_> {
    fn accepts(&self, event: &EmittedEvent) -> bool {
        event.created_at <= self.until
            && self.range_start.is_none_or(|start| event.created_at > start)
            && self.range_end.is_none_or(|end| event.created_at < end)
            && self.organization_id.is_none_or(|id| *event.organization_id == *id)
            && self.events.contains(&event.event.as_str())
    }
}

impl Ordered for EventLog {
    fn between(&self, lower: Option<&str>, upper: Option<&str>) -> impl DoubleEndedIterator<Item = &str> {
        let from = lower.map_or(0, |id| self.events.partition_point(|event| event.id.as_str() <= id));
        let to = upper.map_or(self.events.len(), |id| self.events.partition_point(|event| event.id.as_str() < id));
        self.events.range(from.min(to)..to).map(|event| event.id.as_str())
    }
}
