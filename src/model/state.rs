//! States, and how WorkOS's open vocabularies map onto them.

/// Declares an enum that is stored as text.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word that stands in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value for a word from the database; `None` for a word that this version does not know.
            #[must_use]
            pub fn from_stored(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

text_enum! {
    /// Whether a person may be let in.
    UserState {
        /// WorkOS says `active`.
        Active = "active",
        /// Anything else: inactive, suspended, deleted, or a state that WorkOS invents one day.
        Inactive = "inactive",
    }
}

impl UserState {
    /// What WorkOS's word for a user's state means for access: only `active` is active.
    #[must_use]
    pub fn from_source(source_state: &str) -> Self {
        if source_state == "active" { Self::Active } else { Self::Inactive }
    }
}

text_enum! {
    /// Who gave a row.
    Provenance {
        /// WorkOS did; the mirror changes and removes it.
        Directory = "directory",
        /// The application did; the mirror never touches it.
        Local = "local",
    }
}

text_enum! {
    /// How far the scan of a directory has come.
    SyncStatus {
        /// It has to be scanned.
        Never = "never",
        /// It is being scanned.
        Running = "running",
        /// Every page was read.
        Synced = "synced",
        /// The last scan could not go on; it is tried again.
        Failed = "failed",
    }
}

text_enum! {
    /// Where an event of the inbox stands.
    EventStatus {
        /// Not folded yet.
        Pending = "pending",
        /// It changed the mirror or set a mark.
        Applied = "applied",
        /// It had nothing to change; the reason says why.
        Skipped = "skipped",
        /// It is not for the mirror.
        Ignored = "ignored",
        /// It cannot be decoded or stored; kept for an operator.
        Dead = "dead",
    }
}

/// One word for a directory's state out of WorkOS's two vocabularies: webhooks say `active` and `inactive` where the
/// API says `linked` and `unlinked`. Every other word, known today or not, is kept as it is.
#[must_use]
pub fn directory_state(source_state: &str) -> &str {
    match source_state {
        "active" => "linked",
        "inactive" => "unlinked",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_is_active() {
        for (word, state) in [
            ("active", UserState::Active),
            ("inactive", UserState::Inactive),
            ("suspended", UserState::Inactive),
            ("on_sabbatical", UserState::Inactive),
            ("", UserState::Inactive),
        ] {
            assert_eq!(UserState::from_source(word), state, "{word}");
        }
    }

    #[test]
    fn both_vocabularies_of_directory_states_meet() {
        for (word, state) in [
            ("active", "linked"),
            ("linked", "linked"),
            ("inactive", "unlinked"),
            ("invalid_credentials", "invalid_credentials"),
            ("new_one", "new_one"),
        ] {
            assert_eq!(directory_state(word), state);
        }
    }
}
