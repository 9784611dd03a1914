//! A value that a request may carry in one place or in several.

/// What a request says in some place: a parameter, a cookie, a part of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<T> {
    /// Nothing.
    Absent,
    /// One value.
    One(T),
    /// Something that different readers understand differently: the value twice, or in a form that only some of them decode. What
    /// is decided by it must not be left to the next place, or a client could choose that place by spoiling this one.
    Ambiguous,
}

impl<T> Given<T> {
    /// Another value, if there is one.
    #[must_use]
    pub fn and(self, value: T) -> Self {
        match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Ambiguous => Self::Ambiguous,
        }
    }

    /// The same of what this value stands for.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Given<U> {
        match self {
            Self::Absent => Given::Absent,
            Self::One(value) => Given::One(map(value)),
            Self::Ambiguous => Given::Ambiguous,
        }
    }
}
