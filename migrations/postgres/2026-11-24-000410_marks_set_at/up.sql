-- When a mark was first set since it was last clear, and when the first hint was received that set it since then.
-- The default lets a process of the version before write marks until it is replaced.
ALTER TABLE marks ADD COLUMN set_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE marks ADD COLUMN hinted_at timestamptz;
-- Marks that stand already: of what is known, the nearest is when they are due, if that has come.
UPDATE marks SET set_at = least(due_at, now());
