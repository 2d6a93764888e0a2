//! The hashes of fields in journal files: SipHash-2-4 with the file's id as its key, or Jenkins' lookup3 in files of before
//! systemd 246. They find fields; against whoever can write the file they prove nothing.
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF"; Jenkins, lookup3.c (public domain), `hashlittle2`.

/// Of `bytes`, as a file with or without keyed hashes has it.
pub(super) fn of(bytes: &[u8], key: Option<&[u8; 16]>) -> u64 {
    key.map_or_else(|| jenkins(bytes), |key| siphash(bytes, key))
}

fn siphash(bytes: &[u8], key: &[u8; 16]) -> u64 {
    let word = |bytes: &[u8]| {
        let mut eight = [0; 8];
        eight[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
        u64::from_le_bytes(eight)
    };
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let last = word(rest) | (bytes.len() as u64) << 56;
    for m in words.iter().map(|eight| u64::from_le_bytes(*eight)).chain([last]) {
        v[3] ^= m;
        sip_round(&mut v);
        sip_round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

fn jenkins(bytes: &[u8]) -> u64 {
    let start = 0xdead_beef_u32.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let mut v = [start; 3];
    let mut rest = bytes;
    while rest.len() > 12 {
        add(&mut v, &rest[..12]);
        mix(&mut v);
        rest = &rest[12..];
    }
    if !rest.is_empty() {
        add(&mut v, rest);
        finish(&mut v);
    }
    u64::from(v[2]) << 32 | u64::from(v[1])
}

/// Up to twelve bytes, zeros behind them.
fn add(v: &mut [u32; 3], bytes: &[u8]) {
    let mut twelve = [0; 12];
    twelve[..bytes.len()].copy_from_slice(bytes);
    let (words, _) = twelve.as_chunks::<4>();
    v.iter_mut().zip(words).for_each(|(v, word)| *v = v.wrapping_add(u32::from_le_bytes(*word)));
}

fn mix(v: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *v;
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    *v = [a, b, c];
}

fn finish(v: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *v;
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    *v = [a, b, c];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the paper's appendix, and those that lookup3.c prints for its driver5.
    #[test]
    fn hashes_are_those_of_the_published_vectors() {
        let key = std::array::from_fn(|i| i as u8);
        let text: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(&text, &key), 0xa129_ca61_49be_45e5);
        assert_eq!(jenkins(b""), 0xdead_beef_dead_beef);
        assert_eq!(jenkins(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
    }
}
