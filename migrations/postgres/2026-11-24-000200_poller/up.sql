-- Private, one row: how far the Events API has been read.
CREATE TABLE events_poller (
    id integer PRIMARY KEY CHECK (id = 1),
    started_at timestamptz NOT NULL,
    read_to timestamptz,
    round_at timestamptz,
    cursor text,
    cursor_at timestamptz,
    newest_at timestamptz,
    polled_at timestamptz,
    last_error text
);
