//! Identifiers and indexes. Newtypes, so that a position is never taken for a token.

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index!(
    /// A token of the vocabulary.
    TokenId(u32)
);
index!(
    /// Index of an input token in its session, from 0.
    Position(u32)
);
index!(
    /// Key-value memory of one session in an engine.
    SlotId(u32)
);
index!(
    /// Counter that rises with every rollback, so that stale frames are recognised.
    Epoch(u32)
);

impl Position {
    /// As an index into per-position storage.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Random name of a session, the same on edge and cloud. Unguessable: whoever knows it can resume the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
