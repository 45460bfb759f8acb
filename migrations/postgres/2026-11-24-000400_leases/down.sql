DROP TRIGGER inbox_events_arrived ON inbox_events;
DROP FUNCTION inbox_events_arrived();
ALTER TABLE directory_work DROP COLUMN shard;
ALTER TABLE directory_work DROP COLUMN lease_until;
ALTER TABLE worker_epochs DROP COLUMN alive_until;
