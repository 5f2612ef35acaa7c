//! A position in untrusted bytes that never runs past their end.

use super::error::Fault;

/// What is wrong, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) offset: u64,
    pub(crate) fault: Fault,
}

/// Reads forward through bytes; every length is checked against what is left before anything is allocated.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn fail<T>(&self, fault: Fault) -> Result<T, Located> {
        fail_at(self.position, fault)
    }

    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8], Located> {
        let left = self.left() as u64;
        if count > left {
            return self.fail(Fault::Truncated { needed: count, left });
        }
        let end = self.position + count as usize;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Located> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Located> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count that stays at or below `limit`.
    pub(crate) fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, Located> {
        let at = self.position;
        let value = self.u64()?;
        if value > limit {
            return fail_at(at, Fault::AboveLimit { what, value, limit });
        }
        Ok(value)
    }

    /// A string of at most `limit` bytes.
    pub(crate) fn string(&mut self, what: &'static str, limit: u64) -> Result<&'a str, Located> {
        let length = self.count(what, limit)?;
        let at = self.position;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).or_else(|error| fail_at(at + error.valid_up_to(), Fault::Utf8(what)))
    }

    /// A string that names something, so it cannot be empty.
    pub(crate) fn name(&mut self, what: &'static str, limit: u64) -> Result<&'a str, Located> {
        let at = self.position;
        let name = self.string(what, limit)?;
        if name.is_empty() { fail_at(at, Fault::EmptyName(what)) } else { Ok(name) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Located> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }
}

pub(crate) fn fail_at<T>(offset: usize, fault: Fault) -> Result<T, Located> {
    Err(Located { offset: offset as u64, fault })
}
