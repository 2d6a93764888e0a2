//! Every bound of the wire and of the ledger, each with its reason.
//!
//! The ledger prefixes a record with 16 bits of length, so the bounds of a change's parts are chosen to add up to less
//! than `RECORD_BYTES_MAX` in the worst case; `record.rs` tests the sum. A writer cuts what is longer (the type's own
//! limits make that the exception), a reader refuses it.

use tally_types::{Actor, Change, Diff, PATH_BYTES_MAX, Xattr};

/// The most bytes of one message, as the framing of `net` carries it.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most bytes of a ledger leaf: its length prefix has 16 bits.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// The most bytes of one encoded event: a record without the manager's part, which needs under 64 bytes.
pub const EVENT_BYTES_MAX: usize = RECORD_BYTES_MAX - 64;
/// The most bytes of one encoded entry: a long link target, 32 extended attributes of full size, all digests.
pub const ENTRY_BYTES_MAX: usize = 21_504;

/// A user's or group's name, with room for `DOMAIN\name` forms (LOGIN_NAME_MAX of Linux is 256).
pub const NAME_BYTES_MAX: usize = 256;
/// A symbolic link's target (PATH_MAX of Linux).
pub const TARGET_BYTES_MAX: usize = PATH_BYTES_MAX;
/// XATTR_NAME_MAX of Linux.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
pub const XATTR_VALUE_BYTES_MAX: usize = Xattr::VALUE_BYTES_MAX;
pub const XATTRS_MAX: usize = Xattr::COUNT_MAX;

/// The path of an executable.
pub const EXE_BYTES_MAX: usize = PATH_BYTES_MAX;
pub const CMDLINE_BYTES_MAX: usize = Actor::CMDLINE_BYTES_MAX;
pub const ACTORS_MAX: usize = Change::ACTORS_MAX;
/// All actors of one change together; the first always fits, a later one that does not is left out with those after it.
pub const ACTORS_BYTES_MAX: usize = 13_824;
pub const ANCESTORS_MAX: usize = Actor::ANCESTORS_MAX;
/// All ancestors of one actor together; those further away that do not fit are left out, and all where the actor alone
/// would not fit with them.
pub const ANCESTORS_BYTES_MAX: usize = 4 * 1024;
pub const UNKNOWN_PARTS_MAX: usize = 12;
pub const UNKNOWN_PART_BYTES_MAX: usize = 32;
pub const UNKNOWN_WHY_BYTES_MAX: usize = 128;

/// `pts/0`, `tty1`.
pub const TTY_BYTES_MAX: usize = 32;
pub const CGROUP_BYTES_MAX: usize = 256;
/// Those of the runtimes have 64 digits.
pub const CONTAINER_ID_BYTES_MAX: usize = 72;
pub const CONTAINER_NAME_BYTES_MAX: usize = 128;
pub const IMAGE_BYTES_MAX: usize = 256;
/// A host's name or an address.
pub const REMOTE_BYTES_MAX: usize = 128;

/// One encoded change: an event without version, position, time and tag.
pub const CHANGE_BYTES_MAX: usize = EVENT_BYTES_MAX - 40;
/// A sentence of a change's summary or notes.
pub const SENTENCE_BYTES_MAX: usize = 512;
pub const SENTENCES_MAX: usize = Change::SENTENCES_MAX;
pub const TAG_BYTES_MAX: usize = 64;
pub const TAGS_MAX: usize = Change::TAGS_MAX;
/// A diff has what room is left in a change, and no more than this.
pub const DIFF_BYTES_MAX: usize = Diff::BYTES_MAX;
/// Why a diff is not there or not whole.
pub const DIFF_NOTE_BYTES_MAX: usize = 128;

/// A version, a queue's name, a short word.
pub const WORD_BYTES_MAX: usize = 256;
/// A sentence or a detail.
pub const TEXT_BYTES_MAX: usize = 1024;
/// What a host tells of its own addresses.
pub const HOST_ADDRESSES_MAX: usize = 16;
/// The list of what an agent can, or cannot, see.
pub const LINES_MAX: usize = 32;
pub const LINE_BYTES_MAX: usize = 512;
/// What an operator selected for promotion, in words.
pub const SELECTION_BYTES_MAX: usize = 8 * 1024;

pub const RULE_GROUPS_MAX: usize = 64;
pub const RULE_GROUP_BYTES_MAX: usize = 128;

/// The largest number of an epoch, an event, a size or a count: what a signed 64-bit database column holds.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Bytes of events in one batch before compression. With the largest event on top a batch stays far below
/// `MESSAGE_BYTES_MAX` even where nothing compresses.
pub const BATCH_BYTES_TARGET: usize = 512 * 1024;
/// The most bytes a batch may unpack to.
pub const BATCH_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;
/// The smallest encoded event is longer than 8 bytes, so that this many cannot be claimed of a smaller body.
pub const BATCH_EVENTS_MAX: usize = 32 * 1024;

/// Earlier epochs that a hello names.
pub const EPOCHS_MAX: usize = 256;
/// Hashes in one request for nodes: as many nodes of 4 KiB fill about one message.
pub const WANT_NODES_MAX: usize = 256;
/// The most bytes of one snapshot node on the wire.
pub const NODE_BYTES_MAX: usize = 256 * 1024;
/// Hashes of a consistency proof: two for each level of a tree of 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 128;
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// The text of a policy, in one message with room for what goes with it.
pub const POLICY_BYTES_MAX: usize = 960 * 1024;

/// Logs of one agent whose seals the manager holds, and the most that one message names.
pub const LOGS_MAX: usize = 4096;
/// Leaves of one log: at so many, chunks are paired.
pub const LEAVES_MAX: usize = 16_384;
/// How often chunks can be paired: 64 KiB shifted so far is larger than any file.
pub const FOLD_MAX: u8 = 47;
/// Leaves in the manager's fold within one chunk of the agent's: enough for a log of more than 1 GiB that has grown by a
/// factor of a thousand while the manager was told nothing of it.
pub const PROOF_LEAVES_MAX: usize = 1024;
/// What one message of leaves, and one of what the manager holds, is filled to.
pub const LEAVES_BYTES_TARGET: usize = 256 * 1024;

/// A certificate, a signing request, a key.
pub const PEM_BYTES_MAX: usize = 16 * 1024;
