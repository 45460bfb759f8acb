DROP INDEX marks_urgent;
DROP INDEX marks_by_directory;
CREATE INDEX marks_due ON marks (due_at);
ALTER TABLE marks DROP COLUMN urgent;
