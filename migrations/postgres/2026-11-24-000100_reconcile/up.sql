ALTER TABLE directory_work ADD COLUMN scan_requested_at timestamptz;
ALTER TABLE directory_work ADD COLUMN removals bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_work ADD COLUMN removals_since timestamptz;
ALTER TABLE directory_work ADD COLUMN braked_at timestamptz;
ALTER TABLE directory_work ADD COLUMN removals_confirmed_until timestamptz;

-- The planner asks for places in the order of ids.
DROP INDEX users_by_directory;
CREATE INDEX users_by_directory ON users (directory_id, directory_user_id COLLATE "C");
CREATE INDEX inbox_events_finished ON inbox_events (processed_at) WHERE status <> 'pending';

-- A list that starts over is known by its first record.
ALTER TABLE directory_work ADD COLUMN scan_first text;
ALTER TABLE directory_work ADD COLUMN scan_pages bigint NOT NULL DEFAULT 0;
