//! The tables as Diesel sees them, the same for both engines. `migrations/` creates them; a test compares the two.
#![allow(missing_docs, reason = "generated columns; docs/DATA-MODEL.md explains each")]

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Instant, Json};
    directories (directory_id) {
        directory_id -> Text,
        organization_id -> Nullable<Text>,
        name -> Nullable<Text>,
        #[sql_name = "type"]
        kind -> Nullable<Text>,
        state -> Text,
        domains -> Json,
        external_key -> Nullable<Text>,
        enabled -> Bool,
        sync_status -> Text,
        last_event_at -> Nullable<Instant>,
        last_synced_at -> Nullable<Instant>,
        deleted_at -> Nullable<Instant>,
        source_created_at -> Nullable<Instant>,
        source_updated_at -> Nullable<Instant>,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Instant, Json, LocalId};
    users (id) {
        id -> LocalId,
        directory_user_id -> Nullable<Text>,
        directory_id -> Nullable<Text>,
        organization_id -> Nullable<Text>,
        idp_id -> Nullable<Text>,
        email -> Nullable<Text>,
        first_name -> Nullable<Text>,
        last_name -> Nullable<Text>,
        display_name -> Nullable<Text>,
        username -> Nullable<Text>,
        job_title -> Nullable<Text>,
        state -> Text,
        source_state -> Nullable<Text>,
        role -> Nullable<Text>,
        custom_attributes -> Json,
        raw_attributes -> Json,
        provenance -> Text,
        verified_at -> Nullable<Instant>,
        deactivated_at -> Nullable<Instant>,
        deleted_at -> Nullable<Instant>,
        deletion_reason -> Nullable<Text>,
        source_created_at -> Nullable<Instant>,
        source_updated_at -> Nullable<Instant>,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Instant, Json, LocalId};
    groups (id) {
        id -> LocalId,
        directory_group_id -> Nullable<Text>,
        directory_id -> Nullable<Text>,
        organization_id -> Nullable<Text>,
        idp_id -> Nullable<Text>,
        name -> Text,
        raw_attributes -> Json,
        provenance -> Text,
        verified_at -> Nullable<Instant>,
        deleted_at -> Nullable<Instant>,
        source_created_at -> Nullable<Instant>,
        source_updated_at -> Nullable<Instant>,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::{Instant, LocalId};
    group_members (group_id, user_id) {
        group_id -> LocalId,
        user_id -> LocalId,
        provenance -> Text,
        created_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    inbox_events (event_id) {
        event_id -> Text,
        event_type -> Text,
        directory_id -> Nullable<Text>,
        organization_id -> Nullable<Text>,
        occurred_at -> Nullable<Instant>,
        received_at -> Instant,
        source -> Text,
        body -> Binary,
        status -> Text,
        reason -> Nullable<Text>,
        attempts -> Integer,
        next_attempt_at -> Nullable<Instant>,
        processed_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    directory_work (directory_id) {
        directory_id -> Text,
        sequence -> BigInt,
        lease_token -> BigInt,
        lease_until -> Instant,
        shard -> Integer,
        scan_phase -> Nullable<Text>,
        scan_cursor -> Nullable<Text>,
        scan_group -> Nullable<Text>,
        scan_number -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
        scan_first -> Nullable<Text>,
        scan_pages -> BigInt,
        scan_requested_at -> Nullable<Instant>,
        removals -> BigInt,
        removals_since -> Nullable<Instant>,
        braked_at -> Nullable<Instant>,
        removals_confirmed_until -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    entity_memory (kind, entity_id) {
        kind -> Text,
        entity_id -> Text,
        directory_id -> Text,
        hint_at -> Nullable<Instant>,
        hint_removes -> Bool,
        hint_event_id -> Nullable<Text>,
        snapshot_at -> Nullable<Instant>,
        snapshot_event_id -> Nullable<Text>,
        truth_number -> BigInt,
        truth_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    edge_memory (directory_group_id, directory_user_id) {
        directory_group_id -> Text,
        directory_user_id -> Text,
        directory_id -> Text,
        present -> Bool,
        hint_at -> Nullable<Instant>,
        hint_removes -> Bool,
        hint_event_id -> Nullable<Text>,
        truth_number -> BigInt,
        truth_at -> Nullable<Instant>,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    marks (directory_id, kind, directory_group_id, directory_user_id) {
        directory_id -> Text,
        kind -> Text,
        directory_group_id -> Text,
        directory_user_id -> Text,
        version -> BigInt,
        due_at -> Instant,
        contradictions -> Integer,
        failures -> Integer,
        urgent -> Bool,
        set_at -> Instant,
        hinted_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    worker_epochs (epoch) {
        epoch -> BigInt,
        started_at -> Instant,
        alive_until -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::db::types::Instant;
    events_poller (id) {
        id -> Integer,
        started_at -> Instant,
        read_to -> Nullable<Instant>,
        round_at -> Nullable<Instant>,
        cursor -> Nullable<Text>,
        cursor_at -> Nullable<Instant>,
        newest_at -> Nullable<Instant>,
        polled_at -> Nullable<Instant>,
        last_error -> Nullable<Text>,
    }
}

diesel::joinable!(group_members -> users (user_id));
diesel::joinable!(group_members -> groups (group_id));
diesel::allow_tables_to_appear_in_same_query!(
    directories,
    directory_work,
    edge_memory,
    entity_memory,
    group_members,
    groups,
    marks,
    users
);
