DROP INDEX inbox_events_removals;
DROP INDEX inbox_events_pending;
CREATE INDEX inbox_events_pending ON inbox_events (received_at) WHERE status = 'pending';
ALTER TABLE entity_memory DROP CONSTRAINT entity_memory_pkey, ADD PRIMARY KEY (kind, entity_id);
