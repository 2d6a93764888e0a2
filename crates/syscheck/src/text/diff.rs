//! A unified diff of two texts, in bounded time and memory whatever they hold.
//!
//! Myers' greedy algorithm (An O(ND) Difference Algorithm and Its Variations, 1986, section 4), given up beyond
//! `EDITS_MAX` lines: then all between the first and the last line that differ is shown as replaced, which is true if not
//! short. It is written here because what the agent reads is written by whom it watches: the libraries of this kind either
//! look at a clock to end, or recurse as deep as the text wants, or use raw pointers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::head;

/// Lines removed and added beyond which no shortest diff is looked for. The memory for it is 4 bytes times its square.
const EDITS_MAX: usize = 1024;
/// Equal lines around what differs.
const CONTEXT: usize = 3;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 2048;

/// The hunks, as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Unified {
    pub text: String,
    /// Hunks that the limit left no room for, in part or in full.
    pub hunks_cut: usize,
}

/// Lines of both texts that are not alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    before: Range<usize>,
    after: Range<usize>,
}

/// The diff in at most `bytes_max` bytes: whole hunks, and of one that does not fit by itself its first lines.
pub fn unified(before: &str, after: &str, bytes_max: usize) -> Unified {
    let before: Vec<&str> = before.split_inclusive('\n').collect();
    let after: Vec<&str> = after.split_inclusive('\n').collect();
    let hunks = hunks(&edits(&before, &after), before.len());
    let mut text = String::new();
    for (at, hunk) in hunks.iter().enumerate() {
        let shown = show(hunk, &before, &after);
        if text.len() + shown.len() > bytes_max {
            if text.is_empty() {
                text.push_str(&shown[..last_line_within(&shown, bytes_max)]);
            }
            return Unified { text, hunks_cut: hunks.len() - at };
        }
        text.push_str(&shown);
    }
    Unified { text, hunks_cut: 0 }
}

/// The end of the last line of `text` that lies within its first `bytes_max` bytes.
fn last_line_within(text: &str, bytes_max: usize) -> usize {
    text.as_bytes()[..bytes_max.min(text.len())].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1)
}

/// What differs, in order.
fn edits(before: &[&str], after: &[&str]) -> Vec<Edit> {
    let mut numbers = HashMap::new();
    let mut number = |line| {
        let next = numbers.len();
        *numbers.entry(line).or_insert(next)
    };
    let a: Vec<usize> = before.iter().map(|line| number(*line)).collect();
    let b: Vec<usize> = after.iter().map(|line| number(*line)).collect();
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    if a.is_empty() && b.is_empty() {
        return Vec::new();
    }
    let mut edits = myers(a, b).unwrap_or_else(|| vec![Edit { before: 0..a.len(), after: 0..b.len() }]);
    for edit in &mut edits {
        edit.before = edit.before.start + head..edit.before.end + head;
        edit.after = edit.after.start + head..edit.after.end + head;
    }
    edits
}

/// The shortest edit from `a` to `b`; `None` if it has more than `EDITS_MAX` lines.
fn myers(a: &[usize], b: &[usize]) -> Option<Vec<Edit>> {
    let most = (a.len() + b.len()).min(EDITS_MAX);
    // How far into `a` the furthest path with d edits on diagonal k (x - y) comes, at k + most + 1; a copy for each d.
    let mut reach = vec![0_usize; 2 * most + 3];
    let mut trace: Vec<Vec<u32>> = Vec::new();
    for d in 0..=most {
        for k in (0..=d).map(|step| most + 1 + 2 * step - d) {
            let down = k == most + 1 - d || (k != most + 1 + d && reach[k - 1] < reach[k + 1]);
            let mut x = if down { reach[k + 1] } else { reach[k - 1] + 1 };
            // What lies outside both texts is as good as nowhere; it is never on the way back.
            let Some(mut y) = (x + most + 1).checked_sub(k) else { continue };
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            reach[k] = x;
            if x >= a.len() && y >= b.len() {
                return Some(walk_back(a.len(), b.len(), &trace));
            }
        }
        trace.push(reach[most + 1 - d..=most + 1 + d].iter().map(|x| u32::try_from(*x).unwrap_or(u32::MAX)).collect());
    }
    None
}

/// The edits on the way that `trace` remembers, from its end to its start.
fn walk_back(mut x: usize, mut y: usize, trace: &[Vec<u32>]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for d in (1..=trace.len()).rev() {
        let earlier = &trace[d - 1];
        // Diagonal k (x - y) lies at k + (d - 1) in the copy of d - 1.
        let at = |k: isize| {
            let index = k + isize::try_from(d).unwrap_or(isize::MAX) - 1;
            usize::try_from(index).ok().and_then(|index| earlier.get(index)).map(|x| *x as usize)
        };
        let k = x.cast_signed() - y.cast_signed();
        let (left, above) = (at(k - 1), at(k + 1));
        let down = left.is_none() || above.is_some_and(|above| left.is_some_and(|left| left < above));
        let from = if down { above } else { left }.unwrap_or(0);
        let (before, after) = if down {
            let y = (from.cast_signed() - (k + 1)).max(0).unsigned_abs();
            (from..from, y..y + 1)
        } else {
            let y = (from.cast_signed() - (k - 1)).max(0).unsigned_abs();
            (from..from + 1, y..y)
        };
        match edits.last_mut() {
            Some(next) if next.before.start == before.end && next.after.start == after.end => {
                (next.before.start, next.after.start) = (before.start, after.start);
            }
            _ => edits.push(Edit { before: before.clone(), after: after.clone() }),
        }
        (x, y) = (before.start, after.start);
    }
    edits.reverse();
    edits
}

/// Edits that stand so close that their context would meet, together.
fn hunks(edits: &[Edit], before_len: usize) -> Vec<Vec<Edit>> {
    let mut hunks: Vec<Vec<Edit>> = Vec::new();
    for edit in edits {
        match hunks.last_mut() {
            Some(hunk) if hunk.last().is_some_and(|e| edit.before.start - e.before.end <= 2 * CONTEXT) => {
                hunk.push(edit.clone());
            }
            _ => hunks.push(vec![edit.clone()]),
        }
    }
    debug_assert!(edits.iter().all(|edit| edit.before.end <= before_len), "edits lie within the text");
    hunks
}

fn show(hunk: &[Edit], before: &[&str], after: &[&str]) -> String {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return String::new() };
    let lead = first.before.start.min(CONTEXT);
    let trail = (before.len() - last.before.end).min(CONTEXT);
    let (old, new) =
        (first.before.start - lead..last.before.end + trail, first.after.start - lead..last.after.end + trail);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "@@ -{} +{} @@", place(&old), place(&new));
    let mut at = old.start;
    for edit in hunk {
        before[at..edit.before.start].iter().for_each(|line| put(&mut text, ' ', line));
        before[edit.before.clone()].iter().for_each(|line| put(&mut text, '-', line));
        after[edit.after.clone()].iter().for_each(|line| put(&mut text, '+', line));
        at = edit.before.end;
    }
    before[at..old.end].iter().for_each(|line| put(&mut text, ' ', line));
    text
}

/// Lines as `diff -u` counts them: from 1, and from the line before where there are none.
fn place(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn put(text: &mut String, sign: char, line: &str) {
    text.push(sign);
    let (line, ended) = line.strip_suffix('\n').map_or((line, false), |line| (line, true));
    if line.len() <= LINE_BYTES_MAX {
        text.push_str(line);
    } else {
        let kept = head(line, LINE_BYTES_MAX);
        let _ = write!(text, "{kept} [{} bytes more]", line.len() - kept.len());
    }
    text.push('\n');
    if !ended {
        text.push_str("\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(before: &str, after: &str) -> String {
        let unified = unified(before, after, usize::MAX);
        assert_eq!(unified.hunks_cut, 0);
        unified.text
    }

    /// What `patch` makes of a diff.
    fn apply(before: &str, diff: &str) -> String {
        let lines: Vec<&str> = before.split_inclusive('\n').collect();
        let (mut at, mut after) = (0, String::new());
        for line in diff.split_inclusive('\n') {
            if let Some(place) = line.strip_prefix("@@ -") {
                let (old, _) = place.split_once(' ').unwrap();
                let (start, count) = old.split_once(',').unwrap_or((old, "1"));
                let start = start.parse::<usize>().unwrap() - usize::from(count != "0");
                after.extend(lines[at..start].iter().copied());
                at = start;
            } else if line.starts_with('\\') {
                after.truncate(after.len() - 1);
            } else if let Some(added) = line.strip_prefix('+') {
                after.push_str(added);
            } else {
                assert_eq!(line[1..].trim_end_matches('\n'), lines[at].trim_end_matches('\n'));
                if line.starts_with(' ') {
                    after.push_str(lines[at]);
                    // The sign of a missing newline after it takes one away.
                    if !lines[at].ends_with('\n') {
                        after.push('\n');
                    }
                } else if !lines[at].ends_with('\n') {
                    after.push('\n');
                }
                at += 1;
            }
        }
        after.extend(lines[at..].iter().copied());
        after
    }

    #[test]
    fn it_reads_like_that_of_diff() {
        assert_eq!(whole("a\nb\nc\n", "a\nb\nc\n"), "");
        assert_eq!(whole("a\nb\nc\nd\ne\n", "a\nb\nC\nd\ne\n"), "@@ -1,5 +1,5 @@\n a\n b\n-c\n+C\n d\n e\n");
        assert_eq!(whole("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(whole("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(whole("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        let many = |changed: &[usize]| -> String {
            (1..=30).map(|n| if changed.contains(&n) { format!("{n}!\n") } else { format!("{n}\n") }).collect()
        };
        let diff = whole(&many(&[]), &many(&[5, 12, 25]));
        assert_eq!(diff.matches("@@ -").count(), 2);
        assert!(diff.starts_with("@@ -2,14 +2,14 @@\n 2\n"), "{diff}");
    }

    #[test]
    fn a_limit_cuts_between_hunks_and_within_the_first_only() {
        let before: String = (0..100).map(|n| format!("{n}\n")).collect();
        let after = before.replace("\n10\n", "\nten\n").replace("\n90\n", "\nninety\n");
        let full = whole(&before, &after);
        let cut = unified(&before, &after, full.len() - 1);
        assert_eq!(cut.hunks_cut, 1);
        assert!(full.starts_with(&cut.text) && cut.text.ends_with(" 13\n"), "{}", cut.text);
        let cut = unified(&before, &after, 25);
        assert_eq!((cut.text.as_str(), cut.hunks_cut), ("@@ -8,7 +8,7 @@\n 7\n 8\n 9\n", 2));
        let long = format!("{}\n", "é".repeat(4000));
        let line = whole("", &long);
        assert!(line.len() < LINE_BYTES_MAX + 100 && line.ends_with(" [5952 bytes more]\n"), "{line}");
    }

    #[test]
    fn the_worst_texts_end_soon() {
        // As many lines as 256 KiB have, of two kinds in disorder, and all different.
        let mut seed = 1_u32;
        let mut bit = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 31
        };
        let mut noise = || (0..131_072).map(|_| if bit() == 0 { "a\n" } else { "b\n" }).collect::<String>();
        let (before, after) = (noise(), noise());
        let diff = unified(&before, &after, 65_536);
        assert!(diff.text.len() <= 65_536 && diff.hunks_cut > 0);
        let numbers = |from: u32| (from..from + 30_000).map(|n| format!("{n}\n")).collect::<String>();
        assert!(unified(&numbers(100_000), &numbers(200_000), 65_536).hunks_cut > 0);
    }

    proptest! {
        #[test]
        fn it_leads_from_one_text_to_the_other(
            before in "([abc]{0,2}\n){0,40}[ab]{0,1}", after in "([abc]{0,2}\n){0,40}[ab]{0,1}"
        ) {
            prop_assert_eq!(apply(&before, &whole(&before, &after)), after);
        }
    }
}
