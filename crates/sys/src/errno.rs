//! The error numbers that callers tell apart, for `std::io::Error::raw_os_error`.
//!
//! Source: errno(3).

pub use libc::{
    EACCES, EAFNOSUPPORT, EBUSY, EINVAL, EIO, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV, ENOENT, ENOMEM,
    ENOSPC, ENOSYS, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESRCH, ESTALE, EXDEV,
};
