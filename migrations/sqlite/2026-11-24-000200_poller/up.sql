-- Private, one row: how far the Events API has been read.
CREATE TABLE events_poller (
    id integer PRIMARY KEY CHECK (id = 1),
    started_at bigint NOT NULL,
    read_to bigint,
    round_at bigint,
    cursor text,
    cursor_at bigint,
    newest_at bigint,
    polled_at bigint,
    last_error text
);
