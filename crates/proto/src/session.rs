//! The conversation of an agent and its manager, as machines without I/O: one `AgentSession` and one `ManagerSession` for
//! each connection.
//!
//! `input(now_ms, …)` takes what happened, `poll()` gives what to do until it is `None`, and `timeout()` names the moment
//! at which `input(…, Tick)` is due if nothing comes before. `now_ms` is any clock that only goes forward.
//!
//! What they keep, whatever the transport loses, repeats or reorders and whichever side crashes when:
//!
//! - Events are stored in the order of their positions (`Position`), each once. What the manager has is therefore one
//!   position, and every ack and welcome carries it.
//! - The agent forgets an event only when an ack says that it is durable; the manager acknowledges only what its caller
//!   said to have stored.
//! - Each batch names the event before it. A manager that lacks that one drops the batch and says so in an ack (`resend`),
//!   and the agent goes back to what was acknowledged. Heartbeats name the last event sent, so that a loss at the end
//!   shows too.
//! - An epoch belongs to one run of an agent, begins with its start and is durable before the first event is given a
//!   number in it. The larger of "the last one plus one" and the clock's seconds makes collisions unlikely even where an
//!   old copy of the agent's state comes back.
//! - Numbers that the agent gave, no longer has, and the manager never got (it was restored from an old copy) are
//!   reported as missing, and the session goes on after them. Numbers that the manager has and the agent does not know
//!   of (the agent was restored from an old copy, or its identity is used twice) end the session on the agent's side:
//!   it begins a new epoch above them, or they would be taken for repetitions.
//!
//! - What the manager holds of an agent's logs is asked for at the beginning; leaves then go out one message at a time,
//!   behind the events that explain them, and again until the manager has taken them in.
//!
//! Which identity is let in, what is stored how, and which nodes to ask for are their callers' affairs.

pub mod agent;
pub mod deadman;
pub mod identity;
pub mod manager;

pub use agent::{AgentClose, AgentIn, AgentOut, AgentSession, Pace};
pub use deadman::{Deadman, DeadmanNews};
pub use identity::{Holder, IdentityVerdict};
pub use manager::{Admission, ManagerClose, ManagerIn, ManagerOut, ManagerSession, Missing};

/// Bytes of encoded events that an agent sends beyond the last ack.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// What a manager takes on before its caller has stored it: the window, the batch on top of it, and the same again for
/// what was repeated. No agent of ours sends more.
pub const PENDING_BYTES_MAX: usize = 4 * WINDOW_BYTES;
/// How long the first message of each side may take.
pub const HELLO_MS: u64 = 15_000;
/// After so long without a welcome the hello is sent again.
pub const HELLO_AGAIN_MS: u64 = 4_000;
/// So many heartbeats without a word mean that the other side is gone.
pub const HEARTBEATS_MISSED_MAX: u64 = 3;
/// The usual time between two heartbeats.
pub const HEARTBEAT_MS: u32 = 10_000;
/// What a manager may ask for.
pub const HEARTBEAT_MS_MIN: u32 = 50;
pub const HEARTBEAT_MS_MAX: u32 = 600_000;
/// The same loss makes the agent go back once in this time.
pub const RESEND_MS: u64 = 1_000;
/// Leaves of logs that were not answered for so many heartbeats are sent again.
pub const LEAVES_AGAIN_BEATS: u32 = 3;
