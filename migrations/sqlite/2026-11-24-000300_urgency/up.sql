-- Marks that verify a revocation go first; and who has something due is asked directory by directory.
ALTER TABLE marks ADD COLUMN urgent boolean NOT NULL DEFAULT false;
DROP INDEX marks_due;
CREATE INDEX marks_by_directory ON marks (directory_id, due_at);
CREATE INDEX marks_urgent ON marks (directory_id, due_at) WHERE urgent;
