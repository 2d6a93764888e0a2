//! The tables of the house: which crate stands in which layer, what it may use beside that, and who owns which heavy
//! dependency. docs/ARCHITECTURE.md says why; this file is what is enforced.

/// One crate of the workspace, by its directory under `crates/`.
#[derive(Debug)]
pub struct Room {
    pub name: &'static str,
    pub layer: u8,
    /// Takes time and randomness as arguments; opens no file, socket or thread; uses no crate that does.
    pub is_pure: bool,
    /// Crates of its own layer that it may use all the same.
    pub beside: &'static [&'static str],
}

/// Tools are above every layer and in no program that is shipped.
pub const LAYER_TOOL: u8 = 4;

const fn room(name: &'static str, layer: u8, is_pure: bool, beside: &'static [&'static str]) -> Room {
    Room { name, layer, is_pure, beside }
}

pub const ROOMS: &[Room] = &[
    room("types", 0, true, &[]),
    room("sys", 0, false, &["types"]),
    room("xml", 0, true, &["types"]),
    room("snapshot", 1, true, &[]),
    room("syscheck", 1, true, &[]),
    room("rules", 1, true, &[]),
    room("ledger", 1, true, &[]),
    room("proto", 1, true, &[]),
    room("ossec", 1, true, &[]),
    room("net", 2, false, &[]),
    room("store", 2, false, &[]),
    room("delivery", 2, false, &[]),
    room("response", 2, false, &[]),
    // The pages read what the store has.
    room("web", 2, false, &["store"]),
    room("agent", 3, false, &[]),
    room("manager", 3, false, &[]),
    // `tally up` is a manager and an agent in one process tree.
    room("cli", 3, false, &["agent", "manager"]),
    room("xtask", LAYER_TOOL, false, &[]),
];

/// The only crate that may say `unsafe`.
pub const UNSAFE_CRATE: &str = "sys";

/// A dependency that costs much (time to build, code to trust, a word in our interfaces), and who may name it.
#[derive(Debug)]
pub struct Owned {
    pub dependency: &'static str,
    pub owners: &'static [&'static str],
}

const fn owned(dependency: &'static str, owners: &'static [&'static str]) -> Owned {
    Owned { dependency, owners }
}

pub const OWNED: &[Owned] = &[
    owned("quinn", &["net"]),
    owned("rustls", &["net", "delivery"]),
    // The deliveries' tests make certificates.
    owned("rcgen", &["net", "delivery"]),
    owned("tokio-rustls", &["delivery"]),
    owned("axum", &["web"]),
    owned("askama", &["web"]),
    owned("lettre", &["delivery"]),
    owned("hyper", &["web", "delivery"]),
    owned("hyper-util", &["web", "delivery"]),
    owned("http-body-util", &["delivery"]),
    owned("tokio-stream", &["web"]),
    owned("rusqlite", &["store", "agent"]),
    // C, for patterns that only it knows.
    owned("pcre2", &["rules"]),
    owned("libc", &["sys"]),
    owned("aya", &["sys"]),
    owned("zstd", &["proto", "agent"]),
    owned("flate2", &["agent", "ossec", "delivery", "cli", "manager"]),
    // What AWS's older services answer with.
    owned("quick-xml", &["delivery"]),
    owned("aes", &["ossec"]),
    owned("blowfish", &["ossec"]),
    owned("cbc", &["ossec"]),
    // Archives of an OSSEC installation.
    owned("tar", &["cli"]),
    owned("lzma-rust2", &["agent"]),
    owned("bzip2", &["agent"]),
    owned("indicatif", &["cli"]),
    owned("clap_complete", &["agent", "cli"]),
    owned("clap_mangen", &["cli"]),
    owned("clap", &["agent", "cli", "xtask"]),
    owned("tracing-subscriber", &["agent", "cli"]),
    owned("signal-hook", &["agent", "cli"]),
    owned("crossbeam-channel", &["agent"]),
    owned("md-5", &["agent", "ossec", "manager"]),
    owned("tokio", &["net", "web", "delivery", "agent", "manager"]),
    owned("anyhow", &["agent", "manager", "cli", "xtask"]),
    owned("rustix", &["xtask"]),
];

/// What a pure crate must not name, each with what to do instead.
pub const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "take a reader or bytes"),
    ("std::net", "take bytes; addresses are `core::net`"),
    ("std::thread", "be a state machine that its owner drives"),
    ("std::process", "leave processes to the agent"),
    ("std::env", "take an argument"),
    ("std::os", "leave the operating system to sys"),
    ("std::time::Instant", "take `now`"),
    ("std::time::SystemTime", "take `now`"),
    ("std::time::UNIX_EPOCH", "take `now`"),
    ("std::time::*", "name what is used, so that a clock stands out"),
    ("tokio", "be a state machine that its owner drives"),
    ("time::OffsetDateTime::now_utc", "take `now`"),
    ("OffsetDateTime::now_utc", "take `now`"),
];

/// Names that say nothing of what is inside.
pub const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];

/// Lines of one file, its tests not counted.
pub const FILE_LINES_MAX: usize = 800;

/// Lines of one function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
