-- With `kind` in it PostgreSQL looks through the whole index for some entities, as long as the table has no statistics.
DROP INDEX entity_memory_by_directory;
CREATE INDEX entity_memory_by_directory ON entity_memory (directory_id);
