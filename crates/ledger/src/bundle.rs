//! Entry bundles: up to 256 entries one after the other, each after its length in 16 bits, big-endian (C2SP tlog-tiles).

/// The most bytes of an entry: its length has 16 bits.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    #[error("an entry has {0} bytes, the limit is {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    #[error("the bundle ends inside of entry {0}")]
    Torn(usize),
}

/// Adds `entry` to the end of `bundle`.
pub fn append_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let len = u16::try_from(entry.len()).map_err(|_| BundleError::TooLong(entry.len()))?;
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of `bundle`, in order. After an error nothing follows.
pub const fn entries(bundle: &[u8]) -> Entries<'_> {
    Entries { rest: bundle, read: 0 }
}

#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    read: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = self.rest.split_first_chunk::<2>();
        let Some((entry, rest)) = split.and_then(|(len, rest)| rest.split_at_checked(u16::from_be_bytes(*len).into()))
        else {
            self.rest = &[];
            return Some(Err(BundleError::Torn(self.read)));
        };
        self.rest = rest;
        self.read += 1;
        Some(Ok(entry))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_big_endian() {
        let mut bundle = Vec::new();
        append_entry(&mut bundle, b"ab").unwrap();
        append_entry(&mut bundle, b"").unwrap();
        append_entry(&mut bundle, &[7; 0x0102]).unwrap();
        assert_eq!(bundle[..8], [0, 2, b'a', b'b', 0, 0, 1, 2]);
        assert_eq!(append_entry(&mut bundle, &[0; 65_536]), Err(BundleError::TooLong(65_536)));
    }

    #[test]
    fn a_torn_end_is_told_once() {
        for torn in [&[0, 1, 9, 0][..], &[0, 1, 9, 0, 2, 1]] {
            assert_eq!(entries(torn).collect::<Vec<_>>(), [Ok(&[9][..]), Err(BundleError::Torn(1))]);
        }
    }

    proptest! {
        #[test]
        fn reads_back(given in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..30)) {
            let mut bundle = Vec::new();
            given.iter().for_each(|e| append_entry(&mut bundle, e).unwrap());
            let read: Result<Vec<_>, _> = entries(&bundle).map(|e| e.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(read, Ok(given));
        }

        #[test]
        fn whatever_is_read_whole_is_written_the_same(bytes in proptest::collection::vec(0u8..3, 0..64)) {
            let read: Result<Vec<_>, _> = entries(&bytes).collect();
            if let Ok(read) = read {
                let mut bundle = Vec::new();
                read.iter().for_each(|e| append_entry(&mut bundle, e).unwrap());
                prop_assert_eq!(bundle, bytes);
            }
        }
    }
}
