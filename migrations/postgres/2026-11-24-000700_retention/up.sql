-- Dead events stay until an operator decides, so the search for what is to be pruned must not pass over them.
DROP INDEX inbox_events_finished;
CREATE INDEX inbox_events_finished ON inbox_events (processed_at) WHERE status <> 'pending' AND status <> 'dead';
