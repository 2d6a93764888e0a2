//! Reading what a compressed log holds, piece by piece, to compare it with what was sealed.
//!
//! The file may be anybody's work. Its name says how it is to be read, never its content; nothing is written; memory is
//! bounded by the formats' windows, and what a reader demands beyond `WINDOW_BYTES_MAX` is refused. How much is read out of
//! it is the caller's bound: a comparison stops where the sealed log ended, however much more a bomb would give.

use std::io::{self, BufReader, Read};

use tally_syscheck::rotation::Packing;

/// The largest window of a format that is accepted: that of `zstd --long`, twice that of `xz -9`.
const WINDOW_BYTES_MAX: u32 = 128 << 20;

/// What `packed` decompresses to. A file that was made of several joined ones is read through.
pub fn unpack<'p>(packing: Packing, packed: impl Read + 'p) -> io::Result<Box<dyn Read + 'p>> {
    Ok(match packing {
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Packing::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(packed)),
        Packing::Xz => {
            let packed = BufReader::new(packed);
            Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, WINDOW_BYTES_MAX / 1024))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(packed)?;
            decoder.window_log_max(WINDOW_BYTES_MAX.ilog2())?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use tally_syscheck::append_log::{Seal, Verdict, check_stream};

    use super::*;

    const PROGRAMS: [(Packing, &str); 4] =
        [(Packing::Gzip, "gzip"), (Packing::Xz, "xz"), (Packing::Zstd, "zstd"), (Packing::Bzip2, "bzip2")];

    /// What the program makes of `content`; `None` where it is not installed.
    fn packed(program: &str, args: &[&str], content: &[u8]) -> Option<Vec<u8>> {
        let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
        let child = Command::new(program).args(args).arg("-c").stdin(stdin).stdout(stdout).spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: {program} is not installed");
            return None;
        };
        let mut input = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(content).unwrap());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success());
        Some(output.stdout)
    }

    fn text() -> Vec<u8> {
        (0..40_000).flat_map(|n| format!("Nov 24 host sshd[{n}]: session {} opened\n", n * 7919).into_bytes()).collect()
    }

    #[test]
    fn what_the_programs_pack_is_what_was_sealed() {
        let content = text();
        let seal = Seal::of_stream(&mut &content[..], content.len() as u64).unwrap();
        for (packing, program) in PROGRAMS {
            for args in [&["-1"][..], &["-9"]] {
                let Some(bytes) = packed(program, args, &content) else { continue };
                assert_eq!(check_stream(&mut unpack(packing, &bytes[..]).unwrap(), &seal).unwrap(), Verdict::Unchanged);
                // Two joined files are one longer log.
                let joined = [&bytes[..], &bytes[..]].concat();
                let mut all = Vec::new();
                unpack(packing, &joined[..]).unwrap().read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), 2 * content.len(), "{program}");
                let cut = &bytes[..bytes.len() / 2];
                let verdict = check_stream(&mut unpack(packing, cut).unwrap(), &seal);
                assert!(!verdict.is_ok_and(|verdict| verdict.is_intact()), "{program}");
            }
        }
    }

    #[test]
    fn a_bomb_is_read_no_further_than_what_was_sealed() {
        struct Counted<R>(R, u64);
        impl<R: Read> Read for Counted<R> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let got = self.0.read(buffer)?;
                self.1 += got as u64;
                Ok(got)
            }
        }
        let seal = Seal::of_stream(&mut io::repeat(0), 100_000).unwrap();
        for (packing, program) in PROGRAMS {
            let Some(bomb) = packed(program, &["-9"], &vec![0; 64 << 20]) else { continue };
            let mut stream = Counted(unpack(packing, &bomb[..]).unwrap(), 0);
            assert_eq!(check_stream(&mut stream, &seal).unwrap(), Verdict::Unchanged);
            assert_eq!(stream.1, 100_000, "{program}");
        }
    }

    #[test]
    fn a_window_larger_than_the_bound_is_refused() {
        // A frame of zstd whose header asks for a window of 2 GiB, and one block of a byte.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0x00, 0x00, b'x'];
        assert!(unpack(Packing::Zstd, &zstd[..]).unwrap().read(&mut [0; 9]).is_err());
        if let Some(mut xz) = packed("xz", &["-0"], b"content") {
            // The property of the filter LZMA2 says how large the dictionary is; the header's checksum follows.
            let header = 12..12 + (usize::from(xz[12]) + 1) * 4;
            let property =
                header.start + 2 + xz[header.start + 2..header.end].iter().position(|b| *b == 0x21).unwrap() + 2;
            xz[property] = 40;
            let sum = crc32(&xz[header.start..header.end - 4]);
            xz[header.end - 4..header.end].copy_from_slice(&sum.to_le_bytes());
            assert!(unpack(Packing::Xz, &xz[..]).unwrap().read(&mut [0; 9]).is_err());
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_and_mutated_bytes_never_panic(
            junk in prop::collection::vec(any::<u8>(), 0..300), place in any::<prop::sample::Index>(), to in any::<u8>(),
            which in 0..4usize,
        ) {
            let (packing, program) = PROGRAMS[which];
            let seal = Seal::of_stream(&mut io::repeat(b'x'), 70_000).unwrap();
            let mut mutated = packed(program, &["-1"], &vec![b'x'; 70_000]).unwrap_or(junk.clone());
            if !mutated.is_empty() {
                let place = place.index(mutated.len());
                mutated[place] = to;
            }
            for bytes in [junk, mutated] {
                let verdict = unpack(packing, &bytes[..]).and_then(|mut stream| check_stream(&mut stream, &seal));
                drop(verdict);
            }
        }
    }
}
