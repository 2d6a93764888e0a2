//! What a scan is told beforehand: the paths that are known, in order, with their hints.

use std::convert::Infallible;

use super::Hint;

/// A stream of known paths, ascending by key. It stands before its first path at the beginning.
pub trait Known {
    /// What comes back with the path: the known entry's bytes, perhaps, or nothing.
    type Tag: Send;
    type Error;

    /// Goes to the next path; false at the end. After that nothing else is called.
    fn advance(&mut self) -> Result<bool, Self::Error>;

    /// The `PathBytes::tree_key` of the path where it stands.
    fn key(&self) -> &[u8];

    /// Its hint; `None` if it must be looked at.
    fn hint(&self) -> Option<Hint>;

    /// Its tag. Called at most once for a path.
    fn take(&mut self) -> Self::Tag;
}

/// Nothing is known: every path is looked at.
pub struct Nothing;

impl Known for Nothing {
    type Tag = ();
    type Error = Infallible;

    fn advance(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        &[]
    }

    fn hint(&self) -> Option<Hint> {
        None
    }

    fn take(&mut self) {}
}

/// Known paths from an iterator of (tree key, hint, tag), ascending by key.
pub struct KnownList<I, T> {
    rest: I,
    at: Option<(Vec<u8>, Option<Hint>, Option<T>)>,
}

impl<I, T> KnownList<I, T> {
    pub fn new(rest: I) -> Self {
        Self { rest, at: None }
    }
}

impl<I, T, E> Known for KnownList<I, T>
where
    I: Iterator<Item = Result<(Vec<u8>, Option<Hint>, T), E>>,
    T: Send + Default,
{
    type Tag = T;
    type Error = E;

    fn advance(&mut self) -> Result<bool, E> {
        self.at = self.rest.next().transpose()?.map(|(key, hint, tag)| (key, hint, Some(tag)));
        Ok(self.at.is_some())
    }

    fn key(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(key, ..)| key)
    }

    fn hint(&self) -> Option<Hint> {
        self.at.as_ref().and_then(|(_, hint, _)| *hint)
    }

    fn take(&mut self) -> T {
        self.at.as_mut().and_then(|(.., tag)| tag.take()).unwrap_or_default()
    }
}
