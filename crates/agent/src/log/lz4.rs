//! LZ4 blocks as journal files of systemd 219 to 245 have them: eight bytes that say how long the content is, then one block.
//!
//! Source: lz4_Block_format.md of the LZ4 project. Every length is bounded before anything is allocated for it.

/// Appends what `packed` decompresses to; false if it is no such block, or more than `bytes_max`.
pub fn unpack(packed: &[u8], bytes_max: u64, plain: &mut Vec<u8>) -> bool {
    let Some((size, block)) = packed.split_first_chunk::<8>() else { return false };
    let size = u64::from_le_bytes(*size);
    // A block cannot grow by more than 255 bytes for each of its own.
    if size > bytes_max || size / 255 > block.len() as u64 {
        return false;
    }
    let Ok(size) = usize::try_from(size) else { return false };
    let start = plain.len();
    decode(block, size, plain).is_some() && plain.len() - start == size
}

fn decode(mut block: &[u8], size: usize, plain: &mut Vec<u8>) -> Option<()> {
    let start = plain.len();
    loop {
        let (token, rest) = block.split_first()?;
        block = rest;
        let literals = length(usize::from(token >> 4), &mut block)?;
        if plain.len() - start + literals > size {
            return None;
        }
        let (bytes, rest) = block.split_at_checked(literals)?;
        plain.extend_from_slice(bytes);
        block = rest;
        if block.is_empty() {
            return Some(());
        }
        let (distance, rest) = block.split_first_chunk::<2>()?;
        block = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let matched = length(usize::from(token & 15), &mut block)? + 4;
        if distance == 0 || distance > plain.len() - start || plain.len() - start + matched > size {
            return None;
        }
        for _ in 0..matched {
            plain.push(plain[plain.len() - distance]);
        }
    }
}

/// A length of four bits, and the bytes that follow where those do not do.
fn length(bits: usize, block: &mut &[u8]) -> Option<usize> {
    if bits < 15 {
        return Some(bits);
    }
    let mut length = bits;
    loop {
        let (byte, rest) = block.split_first()?;
        *block = rest;
        length += usize::from(*byte);
        if *byte != 255 {
            return Some(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpacked(size: u64, block: &[u8]) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        let packed = [&size.to_le_bytes()[..], block].concat();
        unpack(&packed, 1 << 20, &mut plain).then_some(plain)
    }

    #[test]
    fn literals_and_matches_are_read_and_nothing_beyond_what_is_said() {
        assert_eq!(unpacked(3, b"\x30abc").unwrap(), b"abc");
        // Three literals, then eight more from a distance of three, then one literal.
        assert_eq!(unpacked(12, b"\x34abc\x03\x00\x10d").unwrap(), b"abcabcabcabd");
        // Lengths that need more bytes: 15 + 255 + 6 and four from a distance of one.
        let long = unpacked(282, b"\x1fa\x01\x00\xff\x06\x10b").unwrap();
        assert_eq!(long, [vec![b'a'; 281], vec![b'b']].concat());
        for (size, block) in
            [(4, &b"\x30abc"[..]), (2, b"\x30abc"), (12, b"\x34abc\x04\x00\x10d"), (3, b""), (9, b"\x1fa\x01")]
        {
            assert_eq!(unpacked(size, block), None);
        }
        assert_eq!(unpacked(2 << 20, &[0; 20_000]), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_nor_grow_beyond_the_bound(block in prop::collection::vec(any::<u8>(), 0..300), size in 0u64..5000) {
            let mut plain = Vec::new();
            unpack(&[&size.to_le_bytes()[..], &block].concat(), 4000, &mut plain);
            prop_assert!(plain.len() <= 4000);
        }
    }
}
