DROP INDEX inbox_events_finished;
CREATE INDEX inbox_events_finished ON inbox_events (processed_at) WHERE status <> 'pending';
