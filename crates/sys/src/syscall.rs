//! What every system call shares: turning its return value into a `Result`, and trying again after a signal.
//!
//! Source: intro(2), errno(3).

use std::ffi::{CStr, CString};
use std::io;

/// The value a system call returned, or the error it left in `errno`.
pub(crate) fn check(returned: impl Into<i64>) -> io::Result<i64> {
    let value = returned.into();
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// `check`, again for as long as a signal interrupts the call.
pub(crate) fn retry<R: Into<i64>>(mut call: impl FnMut() -> R) -> io::Result<i64> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The descriptor that a system call returned.
pub(crate) fn descriptor(returned: i64) -> i32 {
    i32::try_from(returned).expect("the kernel's descriptors fit in an int")
}

/// `bytes` with a NUL, for a call that takes a path; a NUL inside is the caller's error, told as EINVAL.
pub(crate) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Runs a getter that fails with ERANGE while its buffer is too small; the buffer grows up to `max` bytes.
pub(crate) fn grow(
    buffer: &mut Vec<u8>,
    max: usize,
    mut call: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<&[u8]> {
    loop {
        match call(buffer) {
            Ok(used) => return Ok(&buffer[..used.min(buffer.len())]),
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && buffer.len() < max => {
                let larger = (buffer.len() * 4).clamp(256, max);
                buffer.resize(larger, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The path under /proc that names an open descriptor, and with `name` an entry of the directory it is.
pub(crate) fn proc_fd(fd: i32, name: Option<&CStr>) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{fd}").into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
    }
    c_string(&path)
}
