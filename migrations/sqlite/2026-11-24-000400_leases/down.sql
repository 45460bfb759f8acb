ALTER TABLE directory_work DROP COLUMN shard;
ALTER TABLE directory_work DROP COLUMN lease_until;
ALTER TABLE worker_epochs DROP COLUMN alive_until;
