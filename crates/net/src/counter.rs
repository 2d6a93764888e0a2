//! What the server has refused or cut off, counted by its reason: nothing is dropped silently.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }

        /// How often each thing has happened since the server began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(crate) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.value()),* }
            }
        }

        impl Counts {
            /// Every count with its name, for status and logs.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Agents that were admitted.
    sessions,
    /// Enrolments that began.
    enrolments,
    /// Peers that had to prove their address first.
    retries,
    /// Peers turned away because too many strangers were there, in all or from one address, or too many connections.
    busy,
    /// Handshakes that failed: another authority, an expired certificate, no common protocol, garbage.
    handshakes_failed,
    /// Peers that took too long until it was known who they are.
    handshakes_slow,
    /// Sessions without a certificate.
    no_certificate,
    /// Certificates of our authority that name no agent.
    no_agent,
    /// Connections of an agent that newer ones replaced.
    superseded,
    /// Peers cut off because they sent a frame too slowly.
    slow_senders,
    /// Peers cut off because they took a frame too slowly.
    slow_receivers,
    /// Peers cut off because a frame was larger than allowed.
    frames_too_large,
    /// Peers cut off because what they sent has no meaning.
    frames_senseless,
    /// Enrolments cut off after their time.
    enrolments_slow,
    /// Datagrams that are neither QUIC nor OSSEC's, or OSSEC's where its agents are not served.
    foreign_datagrams,
    /// Datagrams of OSSEC's agents for which there was no room.
    foreign_overflow,
    /// Connections to the port for OSSEC's enrolment that were turned away: too many, or too many faulty ones from there.
    authd_busy,
    /// Those that broke off, were too slow, or asked for nothing that is answered.
    authd_failed,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn one_more(&self) {
        self.add(1);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
