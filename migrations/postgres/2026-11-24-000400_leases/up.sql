-- Several workers share the directories: each says how long it counts as alive, and holds a directory until then.
ALTER TABLE worker_epochs ADD COLUMN alive_until timestamptz NOT NULL DEFAULT 'epoch';
ALTER TABLE directory_work ADD COLUMN lease_until timestamptz NOT NULL DEFAULT 'epoch';
ALTER TABLE directory_work ADD COLUMN shard integer NOT NULL DEFAULT 0;

-- Wakes the workers of other processes.
CREATE FUNCTION inbox_events_arrived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY directory_mirror_inbox;
    RETURN NULL;
END
$$;
CREATE TRIGGER inbox_events_arrived AFTER INSERT ON inbox_events
    FOR EACH STATEMENT EXECUTE FUNCTION inbox_events_arrived();
