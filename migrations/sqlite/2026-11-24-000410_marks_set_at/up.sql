-- When a mark was first set since it was last clear, and when the first hint was received that set it since then.
ALTER TABLE marks ADD COLUMN set_at bigint NOT NULL DEFAULT 0;
ALTER TABLE marks ADD COLUMN hinted_at bigint;
-- Marks that stand already: of what is known, the nearest is when they are due, if that has come.
UPDATE marks SET set_at = min(due_at, CAST(strftime('%s', 'now') AS integer) * 1000000);
