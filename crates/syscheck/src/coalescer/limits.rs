//! The coalescer's numbers.

/// The numbers behind the coalescer's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all that waits, actors included.
    pub bytes_max: usize,
    /// From a signal that ends an act to the look: what else belongs to the act still joins it.
    pub settle_us: u64,
    /// The same for a creation after which nothing came, most of which are followed by a write, and for a removal, after
    /// which many programs make the file anew.
    pub create_settle_us: u64,
    /// The same for a known file that was renamed: an editor does so before it writes the new one, which it first brings to
    /// the disk.
    pub rename_settle_us: u64,
    /// A file that is written and not closed is looked at after so long without a write.
    pub quiet_us: u64,
    /// And after so long at most.
    pub quiet_max_us: u64,
    /// More looks than this at one path in `storm_window_us` make it one look in that time.
    pub storm_looks: u32,
    pub storm_window_us: u64,
}

impl Limits {
    /// More waiting rescans than this are merged into rescans of their parents.
    pub const RESCANS_MAX: usize = 1024;
    /// Below this a few long paths would already be a rescan.
    pub const BYTES_MIN: usize = 64 * 1024;
}

impl Default for Limits {
    /// 8 MiB hold about 25,000 waiting paths, a fifth of the agent's memory; the times keep a single act's way to an event
    /// under 10 ms and a busy log at one look in five seconds.
    fn default() -> Self {
        Self {
            bytes_max: 8 << 20,
            settle_us: 2_000,
            create_settle_us: 50_000,
            rename_settle_us: 500_000,
            quiet_us: 1_000_000,
            quiet_max_us: 5_000_000,
            storm_looks: 128,
            storm_window_us: 1_000_000,
        }
    }
}
