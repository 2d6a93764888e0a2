//! The tree that is measured: files of 4 KiB, a hundred in a directory, fifty directories in one above, each with content
//! of its own. It is made once and kept; a stamp tells whether it is whole.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Bench;

pub const FILE_BYTES: usize = 4096;

const FILES_PER_DIRECTORY: u64 = 100;
const DIRECTORIES_PER_PARENT: u64 = 50;

impl Bench {
    /// The directory with the tree; it is made on first use.
    pub fn tree(&self) -> anyhow::Result<PathBuf> {
        let tree = self.dir.join(format!("tree-{}", self.files));
        let stamp = self.dir.join(format!("tree-{}.whole", self.files));
        if !stamp.exists() {
            if tree.exists() {
                std::fs::remove_dir_all(&tree)?;
            }
            println!("making {} files of 4 KiB in {}", self.files, tree.display());
            write(&tree, self.files)?;
            std::fs::write(&stamp, "")?;
            // Scans distrust what changed in the last two seconds; a tree that a user watches is older.
            std::thread::sleep(std::time::Duration::from_secs(3));
        }
        Ok(tree)
    }
}

/// Files in `tree` as above; the content of file `n` is a function of `n` alone.
pub fn write(tree: &Path, files: u64) -> anyhow::Result<()> {
    write_sized(tree, files, FILE_BYTES)
}

/// The same with files of a few bytes, where only their number counts.
pub fn write_small(tree: &Path, files: u64) -> anyhow::Result<()> {
    write_sized(tree, files, 16)
}

fn write_sized(tree: &Path, files: u64, bytes: usize) -> anyhow::Result<()> {
    let mut content = vec![0; bytes];
    for number in 0..files {
        let directory = number / FILES_PER_DIRECTORY;
        let path =
            tree.join(format!("{:03}/{:03}", directory / DIRECTORIES_PER_PARENT, directory % DIRECTORIES_PER_PARENT));
        if number % FILES_PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        fill(&mut content, number);
        std::fs::write(path.join(format!("file-{number:06}")), &content)?;
    }
    Ok(())
}

/// Bytes that no two files share and that do not compress (splitmix64, Steele et al., 2014).
fn fill(content: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    for chunk in content.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (word ^ (word >> 31)).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_differ_and_are_the_same_each_time() {
        let content = |seed| {
            let mut bytes = vec![0; 100];
            fill(&mut bytes, seed);
            bytes
        };
        assert_eq!(content(7), content(7));
        assert_ne!(content(7), content(8));
    }
}
