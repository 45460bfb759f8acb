//! The values that labels may have. Each is an enum, so that no id, name or free text becomes a label.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use crate::model::{EventStatus, MarkTarget};

/// Declares the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident as $key:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelSet for $name {
            fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
                [($key, self.as_str())].encode(encoder)
            }
        }
    };
}

label! {
    /// Why a webhook was not accepted.
    Refusal as "cause" {
        /// There is no signature header.
        SignatureMissing = "signature_missing",
        /// The signature header cannot be read.
        SignatureMalformed = "signature_malformed",
        /// No configured secret gives the signature.
        SignatureMismatch = "signature_mismatch",
        /// Signed too long ago, or too far in the future.
        SignatureStale = "signature_stale",
        /// The body is over the limit.
        BodyTooLarge = "body_too_large",
        /// The body did not arrive whole.
        BodyUnreadable = "body_unreadable",
        /// The body did not arrive in time.
        BodyTooSlow = "body_too_slow",
        /// Other large bodies held all the memory that they may.
        BodyMemory = "body_memory",
        /// Too many events wait for their commit.
        InboxFull = "inbox_full",
        /// The inbox could not commit.
        InboxCommit = "inbox_commit",
    }
}

label! {
    /// How an event came.
    Source as "source" {
        /// By a webhook.
        Webhook = "webhook",
        /// By the poller: no webhook had brought it.
        EventsApi = "events_api",
    }
}

label! {
    /// How folding an event ended.
    EventEnd as "status" {
        /// See [`EventStatus::Applied`].
        Applied = "applied",
        /// See [`EventStatus::Skipped`].
        Skipped = "skipped",
        /// See [`EventStatus::Ignored`].
        Ignored = "ignored",
        /// See [`EventStatus::Dead`].
        Dead = "dead",
    }
}

impl EventEnd {
    /// The end that a status is; `None` while the event is pending.
    #[must_use]
    pub fn of(status: EventStatus) -> Option<Self> {
        match status {
            EventStatus::Pending => None,
            EventStatus::Applied => Some(Self::Applied),
            EventStatus::Skipped => Some(Self::Skipped),
            EventStatus::Ignored => Some(Self::Ignored),
            EventStatus::Dead => Some(Self::Dead),
        }
    }
}

label! {
    /// A piece of refresh work.
    RefreshStep as "step" {
        /// A directory's own record.
        Directory = "directory",
        /// A wave of marks.
        Wave = "wave",
        /// A page of a scan.
        ScanPage = "scan_page",
    }
}

label! {
    /// What a mark names: the words of the table `marks`.
    MarkKind as "kind" {
        /// See [`MarkTarget::Directory`].
        Directory = "directory",
        /// See [`MarkTarget::User`].
        User = "user",
        /// See [`MarkTarget::Group`].
        Group = "group",
        /// See [`MarkTarget::Edge`].
        Edge = "edge",
        /// See [`MarkTarget::UserGroups`].
        UserGroups = "user_groups",
        /// See [`MarkTarget::GroupMembers`].
        GroupMembers = "group_members",
    }
}

impl MarkKind {
    /// The kind of a mark.
    #[must_use]
    pub fn of(target: &MarkTarget) -> Self {
        match target {
            MarkTarget::Directory => Self::Directory,
            MarkTarget::User(_) => Self::User,
            MarkTarget::Group(_) => Self::Group,
            MarkTarget::Edge(..) => Self::Edge,
            MarkTarget::UserGroups(_) => Self::UserGroups,
            MarkTarget::GroupMembers(_) => Self::GroupMembers,
        }
    }
}

label! {
    /// The pattern of an API request's path.
    ApiPath as "path" {
        /// The list of all directories.
        Directories = "/directories",
        /// One directory.
        Directory = "/directories/{id}",
        /// A list of users: a directory's or a group's.
        Users = "/directory_users",
        /// One user.
        User = "/directory_users/{id}",
        /// A list of groups: a directory's or a user's.
        Groups = "/directory_groups",
        /// One group.
        Group = "/directory_groups/{id}",
        /// A page of events.
        Events = "/events",
        /// Any other.
        Other = "other",
    }
}

impl ApiPath {
    /// The pattern of a path that is given by its segments.
    #[must_use]
    pub fn of(segments: &[&str]) -> Self {
        match segments {
            ["directories"] => Self::Directories,
            ["directories", _] => Self::Directory,
            ["directory_users"] => Self::Users,
            ["directory_users", _] => Self::User,
            ["directory_groups"] => Self::Groups,
            ["directory_groups", _] => Self::Group,
            ["events"] => Self::Events,
            _ => Self::Other,
        }
    }
}

label! {
    /// What came of an API request.
    ApiStatus as "status" {
        /// 200.
        Ok = "200",
        /// 404, and the API itself says so.
        NotFound = "404",
        /// 401: the key is not known.
        Unauthorized = "401",
        /// 403: the key may not.
        Forbidden = "403",
        /// 429: too many requests.
        RateLimited = "429",
        /// Any other status from 400 to 499, and a 404 that does not come from the API.
        ClientError = "4xx",
        /// A status from 500 to 599.
        ServerError = "5xx",
        /// Any other status.
        Other = "other",
        /// No connection, no answer in time, or a broken one.
        Unreachable = "unreachable",
    }
}

impl ApiStatus {
    /// The value for a status that is neither an answer nor a refusal of the key.
    #[must_use]
    pub fn of_failure(status: u16) -> Self {
        match status {
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

label! {
    /// What a 429 paused.
    PauseScope as "scope" {
        /// One directory's requests for users.
        Directory = "directory",
        /// All requests of the key.
        Key = "key",
    }
}

label! {
    /// How a reconcile found the mirror to differ.
    DriftKind as "kind" {
        /// WorkOS lists it, and the mirror did not show it.
        Missing = "missing",
        /// The mirror shows it, and WorkOS did not list it.
        Extra = "extra",
        /// Both have it, with different content.
        Different = "different",
    }
}

label! {
    /// How a scan went.
    ScanEnd as "outcome" {
        /// Every page was read.
        Finished = "finished",
        /// A page could not be read: it is tried again.
        Failed = "failed",
    }
}

label! {
    /// What has to hold for the process to be ready.
    Check as "check" {
        /// The database answers.
        Database = "database",
        /// All migrations of this version have run.
        Migrations = "migrations",
        /// The writer of the inbox runs.
        Inbox = "inbox",
        /// All loops run, and no other process has taken over.
        Workers = "workers",
    }
}

label! {
    /// Where a directory stands.
    DirectoryStatus as "status" {
        /// Followed, and has to be scanned.
        Never = "never",
        /// Followed, and is being scanned.
        Running = "running",
        /// Followed, and every page of the last scan was read.
        Synced = "synced",
        /// Followed, and the last scan could not go on.
        Failed = "failed",
        /// Not followed, since somebody disabled it.
        Disabled = "disabled",
        /// Gone.
        Deleted = "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_known_by_its_segments() {
        for (segments, path) in [
            (&["directories"][..], "/directories"),
            (&["directories", "directory_1"], "/directories/{id}"),
            (&["directory_users"], "/directory_users"),
            (&["directory_users", "directory_user_1"], "/directory_users/{id}"),
            (&["directory_groups"], "/directory_groups"),
            (&["directory_groups", "directory_group_1"], "/directory_groups/{id}"),
            (&["events"], "/events"),
            (&["directory_users", "directory_user_1", "more"], "other"),
            (&[], "other"),
        ] {
            assert_eq!(ApiPath::of(segments).as_str(), path);
        }
    }

    #[test]
    fn a_failure_is_known_by_its_class() {
        for (status, class) in [(404, "4xx"), (422, "4xx"), (500, "5xx"), (503, "5xx"), (302, "other"), (204, "other")]
        {
            assert_eq!(ApiStatus::of_failure(status).as_str(), class, "{status}");
        }
    }
}
