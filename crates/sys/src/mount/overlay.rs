//! The layers of an overlay, from the options in the mount table.
//!
//! Source: Documentation/filesystems/overlayfs.rst, `ovl_show_options`, Linux 6.18. A colon in a lower layer's path, and a
//! comma in any, has a backslash before it.

use super::{Mount, unescape};

/// Where the parts of one overlay lie, as paths at the time of its mounting, in the namespace of whoever mounted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The topmost first.
    pub lower: Vec<Box<[u8]>>,
    /// Where all changes go; `None` of one that is read only.
    pub upper: Option<Box<[u8]>>,
    /// Where the kernel prepares them.
    pub work: Option<Box<[u8]>>,
}

/// The layers of an overlay; `None` of any other mount.
pub fn layers(mount: &Mount) -> Option<Layers> {
    if &*mount.fs_type != b"overlay" {
        return None;
    }
    let mut layers = Layers::default();
    for option in split(&mount.super_options, b',') {
        let Some(at) = option.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = (&option[..at], unescape(&option[at + 1..]));
        match key {
            b"lowerdir" => layers.lower.extend(split(&value, b':').filter(|part| !part.is_empty()).map(plain)),
            b"lowerdir+" | b"datadir+" => layers.lower.push(plain(&value)),
            b"upperdir" => layers.upper = Some(plain(&value)),
            b"workdir" => layers.work = Some(plain(&value)),
            _ => {}
        }
    }
    Some(layers)
}

/// Whether writes to the file in an overlay's layer that were made by the overlay's path are told to who watches the layer.
/// Before Linux 6.5 they are not: the overlay opens its layers' files so that nobody is notified. The kernel says so nowhere but
/// in its release, and a trial would need a mount.
pub fn writes_are_told() -> bool {
    let release = std::fs::read("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).is_none_or(|version| version >= (6, 5))
}

/// The first two numbers of a release, "6.1.0-56-cloud-amd64".
fn version(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers =
        release.split(|b| !b.is_ascii_digit()).map(|number| std::str::from_utf8(number).ok()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The parts between separators that have no backslash before them.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut escaped = false;
        let end = text.iter().position(|b| {
            let ends = *b == separator && !escaped;
            escaped = *b == b'\\' && !escaped;
            ends
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// Without the backslashes.
fn plain(text: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_release_has_a_version() {
        let releases = ["6.18.44-fc", "6.1.0-56-cloud-amd64\n", "5.10", "linux", "6", "6."];
        let versions = releases.map(|release| version(release.as_bytes()));
        assert_eq!(versions, [Some((6, 18)), Some((6, 1)), Some((5, 10)), None, None, None]);
    }

    fn overlay(options: &[u8]) -> Mount {
        let line = [&b"36 35 0:50 / /merged rw - overlay overlay "[..], options, b"\n"].concat();
        crate::mount::parse(&line).mounts.remove(0)
    }

    #[test]
    fn layers_are_read_with_what_is_escaped_in_them() {
        let layers =
            layers(&overlay(br"rw,lowerdir=/l\:1:/l\0402,upperdir=/u\134,x,workdir=/w,index=off,lowerdir+=/l3"))
                .unwrap();
        assert_eq!(layers.lower, [&b"/l:1"[..], b"/l 2", b"/l3"].map(Box::from));
        assert_eq!(layers.work.as_deref(), Some(&b"/w"[..]));
        assert!(
            super::layers(&crate::mount::parse(b"1 0 8:1 / / rw - ext4 /dev/a rw,upperdir=/u\n").mounts[0]).is_none()
        );
    }

    proptest! {
        #[test]
        fn any_options_are_read_without_a_panic(options in proptest::collection::vec(any::<u8>(), 0..120)) {
            let options: Vec<u8> = options.into_iter().filter(|b| !matches!(b, b' ' | b'\n')).collect();
            let table = crate::mount::parse(&[&b"36 35 0:50 / /merged rw - overlay overlay "[..], &options].concat());
            table.mounts.iter().for_each(|mount| drop(layers(mount)));
        }
    }
}
