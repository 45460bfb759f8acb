//! The Events API poller: events whose webhooks never came reach the inbox by it, and are folded like any other.

mod rewind;
mod round;

use std::collections::BTreeMap;

pub use self::rewind::{Rewind, rewind};
use self::round::{Course, Next, PageSeen};
use super::{Engine, Step, SyncError};
use crate::clock::Timestamp;
use crate::db::{DbError, NewInboxEvent, PollerState};
use crate::metrics::Source;
use crate::webhook;
use crate::webhook::event::TYPES;
use crate::workos::{ApiError, EventsPage, WorkosClient};

/// What a step of the poller did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Polled {
    /// [`Step::Idle`] at the end of a round.
    pub(super) step: Step,
    /// How many events the inbox did not have.
    pub(super) new_events: usize,
}

impl Engine {
    /// Reads one page of events into the inbox; idle once the list was read to its end, until it is called again.
    ///
    /// # Errors
    /// [`SyncError`]; the next step tries again, by time if the API no longer knows the cursor.
    pub async fn poll_step(&self) -> Result<Step, SyncError> {
        Ok(self.poll().await?.step)
    }

    /// As [`Engine::poll_step`], for a caller that wakes fold. Notes a failure for the health report.
    pub(super) async fn poll(&self) -> Result<Polled, SyncError> {
        let Some(client) = &self.client else { return Ok(Polled { step: Step::Idle, new_events: 0 }) };
        let result = self.poll_page(client).await;
        if let Err(error) = &result
            && let Err(unnoted) = self.db.note_poll_error(&error.to_string()).await
        {
            tracing::warn!(error = %unnoted, "the poller's state cannot be noted");
        }
        result
    }

    async fn poll_page(&self, client: &WorkosClient) -> Result<Polled, SyncError> {
        let now = self.clock.now();
        let state = match self.db.poller().await? {
            Some(state) => state,
            None => {
                self.db.start_poller(now).await?;
                return Ok(Polled { step: Step::Ran, new_events: 0 });
            }
        };
        let from = match round::next(&state, now) {
            Next::Read(from) => from,
            Next::Lost => {
                tracing::warn!("events are older than the API keeps them: every directory is scanned");
                self.scan_everything(now).await?;
                self.db.advance_poller(&self.lease, &state.clone(), &round::skipped_to(state, now)).await?;
                return Ok(Polled { step: Step::Ran, new_events: 0 });
            }
        };
        match client.events(&TYPES, &from).await {
            Ok(page) => self.take_page(state, page).await,
            Err(error) => {
                if error == ApiError::UnknownCursor {
                    self.db.advance_poller(&self.lease, &state.clone(), &round::without_cursor(state)).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Stores a page's events, and then how far the list has been read: after a crash between, the page is read again.
    async fn take_page(&self, state: PollerState, page: EventsPage) -> Result<Polled, SyncError> {
        let received_at = self.clock.now();
        let events: Vec<NewInboxEvent> =
            page.bodies.into_iter().map(|body| webhook::inbox_event(body, received_at, "events_api")).collect();
        let instants = || events.iter().filter_map(|event| event.occurred_at.map(|at| at.0));
        let seen = PageSeen {
            first: instants().next(),
            newest: instants().max(),
            after: page.after.as_deref(),
            sent_at: page.sent_at,
            server_time: page.server_time,
        };
        let (to, course) = round::after_page(state.clone(), &seen);
        let read = events.len();
        let new_events = self.store_polled(events).await?;
        self.metrics.stored(Source::EventsApi, new_events);
        let stood = self.db.advance_poller(&self.lease, &state, &to).await?;
        if new_events > 0 {
            tracing::info!(read, new_events, "events polled that no webhook had brought");
        }
        if !stood {
            tracing::info!("another worker has read the events meanwhile");
            return Ok(Polled { step: Step::Idle, new_events });
        }
        match course {
            Course::StartedOver => Err(ApiError::UnknownCursor.into()),
            Course::GoesOn | Course::NextRange => Ok(Polled { step: Step::Ran, new_events }),
            Course::Ends => Ok(Polled { step: Step::Idle, new_events }),
        }
    }

    async fn store_polled(&self, events: Vec<NewInboxEvent>) -> Result<usize, DbError> {
        // Sorted, so that two writers never wait for each other; once each, since PostgreSQL takes no row twice.
        let events: BTreeMap<String, NewInboxEvent> =
            events.into_iter().map(|event| (event.event_id.clone(), event)).collect();
        if events.is_empty() {
            return Ok(0);
        }
        match self.db.store_events(events.values().collect()).await {
            Err(DbError::Data(_)) => {
                let mut stored = 0;
                for (event_id, event) in events {
                    match self.db.store_events(vec![&event]).await {
                        Ok(new) => stored += new,
                        // It would be refused again: it must not hold up those behind it.
                        Err(DbError::Data(reason)) => {
                            tracing::error!(event_id, reason, "the event cannot be stored; it is passed over");
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(stored)
            }
            other => other,
        }
    }

    /// Finds directories whose coming was missed, and has every live directory scanned anew.
    async fn scan_everything(&self, now: Timestamp) -> Result<(), SyncError> {
        self.discover_directories().await?;
        self.db.request_scan(None, now).await?;
        Ok(())
    }
}
