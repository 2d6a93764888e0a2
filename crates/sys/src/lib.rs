//! The kernel, one facility a file, with safe and typed signatures outward.
//!
//! This is the only crate of Tallystick that may say `unsafe`, so that one reading of it settles what the rest can
//! rely on. It holds no policy: it does not know which paths are watched, what an event means, or when to try again.
//! A call answers with `std::io::Error` as the kernel gave it; the caller, who knows the path, adds it. What parses
//! bytes of the kernel or of a file is pure and checks every bound.

#[cfg(not(target_os = "linux"))]
compile_error!("tally-sys speaks to Linux; another system needs its own files beside these");

pub mod audit;
pub mod bpf;
pub mod caps;
pub mod clock;
pub mod dirent;
pub mod disk;
pub mod errno;
pub mod fanotify;
pub mod fs_kind;
pub mod handle;
pub mod inotify;
pub mod limit;
pub mod logins;
pub mod mount;
pub mod open;
pub mod poll;
pub mod pressure;
pub mod process;
pub mod spawn;
pub mod stat;
mod syscall;
pub mod tcp;
pub mod usage;
pub mod users;
pub mod xattr;
