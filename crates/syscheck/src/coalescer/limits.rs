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
    /// After more looks than this at one path in `storm_window_us` it is left alone for `gap_us` after each, for twice as
    /// long each time, and for `gap_max_us` at most, until it has been quiet for a window.
    pub storm_looks: u32,
    pub storm_window_us: u64,
    pub gap_us: u64,
    pub gap_max_us: u64,
    /// More looks than this in one directory in the window are told of with a count, and so is a path that is left alone,
    /// where it is about so many records of the kernel.
    pub storm_directory_looks: u64,
    pub storm_records: u64,
}

impl Limits {
    /// More waiting rescans than this are merged into rescans of their parents.
    pub const RESCANS_MAX: usize = 1024;
    /// Below this a few long paths would already be a rescan.
    pub const BYTES_MIN: usize = 64 * 1024;
}

impl Default for Limits {
    /// 8 MiB hold about 25,000 waiting paths, a fifth of the agent's memory; the times keep a single act's way to an event
    /// under 10 ms and a busy log at one look in five seconds. A file that changes all the time makes some twenty changes in
    /// the first minute and four in each further one.
    fn default() -> Self {
        Self {
            bytes_max: 8 << 20,
            settle_us: 2_000,
            create_settle_us: 50_000,
            rename_settle_us: 500_000,
            quiet_us: 1_000_000,
            quiet_max_us: 5_000_000,
            storm_looks: 16,
            storm_window_us: 60_000_000,
            gap_us: 1_000_000,
            gap_max_us: 15_000_000,
            storm_directory_looks: 5_000,
            storm_records: 1_000,
        }
    }
}
