//! WorkOS's ids. They are opaque strings: nothing here looks inside one.

use std::fmt;

use super::record::without_nul;

/// The longest id that is accepted, in bytes. PostgreSQL refuses index entries of about 2.7 kB, and an id that
/// one engine stores and the other refuses would let the two mirrors differ.
pub const MAX_ID_BYTES: usize = 512;

/// Why a string cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The string is empty.
    #[error("an id is empty")]
    Empty,
    /// The string is longer than [`MAX_ID_BYTES`].
    #[error("an id is {0} bytes long, more than the {MAX_ID_BYTES} that are stored")]
    TooLong(usize),
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes a string as an id; U+0000 becomes U+FFFD, since PostgreSQL stores no U+0000.
            ///
            /// # Errors
            /// [`IdError`] if it is empty or longer than [`MAX_ID_BYTES`].
            pub fn new(id: impl Into<String>) -> Result<Self, IdError> {
                let id = without_nul(id.into());
                match id.len() {
                    0 => Err(IdError::Empty),
                    length if length > MAX_ID_BYTES => Err(IdError::TooLong(length)),
                    _ => Ok(Self(id)),
                }
            }

            /// Takes an id that was checked when it was stored.
            #[must_use]
            pub fn from_stored(id: String) -> Self {
                Self(id)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A directory's id, `directory_…`.
    DirectoryId
}
id! {
    /// A directory user's id, `directory_user_…`. One person can have several in the course of time.
    DirectoryUserId
}
id! {
    /// A directory group's id, `directory_group_…`.
    DirectoryGroupId
}
id! {
    /// An event's id, `event_…`; the same through webhooks and through the Events API.
    EventId
}
