-- An SQLite file has one worker, and these columns no meaning; the tables are the same on both engines.
ALTER TABLE worker_epochs ADD COLUMN alive_until bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_work ADD COLUMN lease_until bigint NOT NULL DEFAULT 0;
ALTER TABLE directory_work ADD COLUMN shard integer NOT NULL DEFAULT 0;
