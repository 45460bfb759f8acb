CREATE TABLE directories (
    directory_id text PRIMARY KEY,
    organization_id text,
    name text,
    type text,
    state text NOT NULL,
    domains jsonb NOT NULL,
    external_key text,
    enabled boolean NOT NULL DEFAULT true,
    sync_status text NOT NULL CHECK (sync_status IN ('never', 'running', 'synced', 'failed')),
    last_event_at timestamptz,
    last_synced_at timestamptz,
    deleted_at timestamptz,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE users (
    id uuid PRIMARY KEY,
    directory_user_id text UNIQUE,
    directory_id text REFERENCES directories (directory_id),
    organization_id text,
    idp_id text,
    email text,
    first_name text,
    last_name text,
    display_name text,
    username text,
    job_title text,
    state text NOT NULL CHECK (state IN ('active', 'inactive')),
    source_state text,
    role text,
    custom_attributes jsonb NOT NULL,
    raw_attributes jsonb NOT NULL,
    provenance text NOT NULL CHECK (provenance IN ('directory', 'local')),
    verified_at timestamptz,
    deactivated_at timestamptz,
    deleted_at timestamptz,
    deletion_reason text,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX users_by_directory ON users (directory_id);

CREATE TABLE groups (
    id uuid PRIMARY KEY,
    directory_group_id text UNIQUE,
    directory_id text REFERENCES directories (directory_id),
    organization_id text,
    idp_id text,
    name text NOT NULL,
    raw_attributes jsonb NOT NULL,
    provenance text NOT NULL CHECK (provenance IN ('directory', 'local')),
    verified_at timestamptz,
    deleted_at timestamptz,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX groups_by_directory ON groups (directory_id);

CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provenance text NOT NULL CHECK (provenance IN ('directory', 'local')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id);

CREATE VIEW active_group_members AS
SELECT m.group_id, m.user_id, m.provenance, m.created_at
FROM group_members m
JOIN users u ON u.id = m.user_id
JOIN groups g ON g.id = m.group_id
WHERE u.state = 'active' AND u.deleted_at IS NULL AND g.deleted_at IS NULL;

CREATE TABLE inbox_events (
    event_id text PRIMARY KEY,
    event_type text NOT NULL,
    directory_id text,
    organization_id text,
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('webhook', 'events_api')),
    body bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'applied', 'skipped', 'ignored', 'dead')),
    reason text,
    attempts integer NOT NULL,
    next_attempt_at timestamptz,
    processed_at timestamptz
);
CREATE INDEX inbox_events_pending ON inbox_events (received_at) WHERE status = 'pending';
CREATE INDEX inbox_events_dead ON inbox_events (received_at) WHERE status = 'dead';

-- Private: what the engine needs, without promise to anyone else.
CREATE TABLE directory_work (
    directory_id text PRIMARY KEY,
    sequence bigint NOT NULL,
    lease_token bigint NOT NULL,
    scan_phase text,
    scan_cursor text,
    scan_group text,
    scan_number bigint,
    last_error text
);

CREATE TABLE entity_memory (
    kind text NOT NULL CHECK (kind IN ('directory', 'user', 'group')),
    entity_id text NOT NULL,
    directory_id text NOT NULL,
    hint_at timestamptz,
    hint_removes boolean NOT NULL,
    hint_event_id text,
    snapshot_at timestamptz,
    snapshot_event_id text,
    truth_number bigint NOT NULL,
    truth_at timestamptz,
    PRIMARY KEY (kind, entity_id)
);
CREATE INDEX entity_memory_by_directory ON entity_memory (directory_id, kind);

CREATE TABLE edge_memory (
    directory_group_id text NOT NULL,
    directory_user_id text NOT NULL,
    directory_id text NOT NULL,
    present boolean NOT NULL,
    hint_at timestamptz,
    hint_removes boolean NOT NULL,
    hint_event_id text,
    truth_number bigint NOT NULL,
    truth_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (directory_group_id, directory_user_id)
);
CREATE INDEX edge_memory_by_user ON edge_memory (directory_user_id);
CREATE INDEX edge_memory_by_directory ON edge_memory (directory_id);

CREATE TABLE marks (
    directory_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('directory', 'user', 'group', 'edge', 'user_groups', 'group_members')),
    directory_group_id text NOT NULL,
    directory_user_id text NOT NULL,
    version bigint NOT NULL,
    due_at timestamptz NOT NULL,
    contradictions integer NOT NULL,
    failures integer NOT NULL,
    PRIMARY KEY (directory_id, kind, directory_group_id, directory_user_id)
);
CREATE INDEX marks_due ON marks (due_at);

CREATE TABLE worker_epochs (
    epoch bigint PRIMARY KEY,
    started_at timestamptz NOT NULL
);
