DROP INDEX entity_memory_by_directory;
CREATE INDEX entity_memory_by_directory ON entity_memory (directory_id, kind);
