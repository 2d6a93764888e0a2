//! Why a path is watched, or why it is not: the same answer as `judge`, with its reasons.

use tally_types::PathBytes;

use super::{Policy, Watch, Watched};
use crate::glob::{Glob, Globs, canonical};

/// What a policy says of one path, and by which of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'p> {
    pub finding: Finding<'p>,
    /// Other watches that cover the path and give way to the one that decides, the most specific first.
    pub others: Vec<&'p Watch>,
    /// Whether something below the path can be watched.
    pub below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding<'p> {
    Watched {
        watch: &'p Watch,
        watched: Watched,
    },
    /// This watch covers it, and this glob takes it out: one of the watch's own, or one of the whole policy.
    Excluded {
        watch: &'p Watch,
        by: &'p Glob,
        is_own: bool,
    },
    /// This watch begins above it and does not reach so deep.
    TooDeep {
        watch: &'p Watch,
    },
    /// It belongs to the agent itself and changes with each event.
    LeftOut,
    /// No watch covers it.
    Outside,
}

impl Policy {
    /// What the policy says of `path`, and why. For people: it costs more than `judge`.
    pub fn explain(&self, path: &PathBytes) -> Explanation<'_> {
        let bytes = canonical(path);
        let mut covering: Vec<_> = self.covering(bytes).collect();
        covering.sort_by_key(|(place, _)| std::cmp::Reverse((self.at(*place).path.literal_bytes(), *place)));
        let (reaching, short): (Vec<_>, Vec<_>) =
            covering.into_iter().partition(|(_, depth_left)| depth_left.is_none_or(|levels| levels >= 0));
        let watches = |places: &[(usize, Option<i64>)]| places.iter().map(|(place, _)| self.at(*place)).collect();
        let (finding, others): (_, Vec<_>) = match (self.is_left_out(path), reaching.first(), short.first()) {
            (true, ..) => (Finding::LeftOut, Vec::new()),
            (_, Some((place, _)), _) => (self.decided(*place, path), watches(&reaching[1..])),
            (_, None, Some((place, _))) => (Finding::TooDeep { watch: self.at(*place) }, watches(&short[1..])),
            (_, None, None) => (Finding::Outside, Vec::new()),
        };
        Explanation { finding, others, below: self.descend(path) }
    }

    /// What the watch at `place` says of a path that it covers.
    fn decided(&self, place: usize, path: &PathBytes) -> Finding<'_> {
        let watch = self.at(place);
        match self.judge(path) {
            Some(watched) => Finding::Watched { watch, watched },
            None => {
                let (bytes, plain) = (canonical(path), watch.path.literal());
                let takes_out =
                    |glob: &&Glob| Globs::new(std::iter::once(*glob), plain).covers_beyond(bytes, plain.len());
                let own = watch.exclude.iter().find(takes_out).map(|by| (by, true));
                let found = own.or_else(|| self.exclude.iter().find(takes_out).map(|by| (by, false)));
                found.map_or(Finding::Outside, |(by, is_own)| Finding::Excluded { watch, by, is_own })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"
exclude = ["*.swp"]

[[watch]]
path = ["/srv", "/etc"]
exclude = ["cache"]
why = "the shop"

[[watch]]
path = "/etc/ssh/*.conf"
mode = "directory"

[[watch]]
path = "/one"
recursion = 1
"#;

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    fn told(policy: &Policy, text: &str) -> String {
        let explanation = policy.explain(&path(text));
        let line = |watch: &Watch| watch.place.as_ref().map_or_else(String::new, ToString::to_string);
        let mut told = match explanation.finding {
            Finding::Watched { watch, watched } => format!("watched by {} as {}", line(watch), watched.mode.name()),
            Finding::Excluded { watch, by, is_own } => format!("{} excludes by {by} {is_own}", line(watch)),
            Finding::TooDeep { watch } => format!("below {}", line(watch)),
            Finding::LeftOut => "left out".to_owned(),
            Finding::Outside => "outside".to_owned(),
        };
        for other in explanation.others {
            told.push_str(&format!(", over {}", line(other)));
        }
        if explanation.below { told + ", and below" } else { told }
    }

    #[test]
    fn each_answer_names_the_line_that_it_comes_from() {
        let (mut policy, faults) = Policy::parse(TEXT, "p.toml");
        assert_eq!(faults, []);
        policy.leave_out(path("/srv/db"));
        for (asked, expected) in [
            ("/srv/a", "watched by p.toml:5 as static, and below"),
            ("/etc/ssh/a.conf", "watched by p.toml:10 as directory, over p.toml:5, and below"),
            ("/srv/cache/x", "p.toml:5 excludes by cache true"),
            ("/srv/a.swp", "p.toml:5 excludes by *.swp false"),
            ("/one/a", "watched by p.toml:14 as static"),
            ("/one/a/b", "below p.toml:14"),
            ("/srv/db/x", "left out"),
            ("/home", "outside"),
            ("/", "outside, and below"),
        ] {
            assert_eq!(told(&policy, asked), expected, "{asked}");
        }
    }

    #[test]
    fn a_watch_of_a_profile_names_the_profile() {
        let (policy, _) = Policy::parse("profiles = [\"linux-base\"]", "p.toml");
        let explanation = policy.explain(&path("/etc/shadow"));
        let Finding::Watched { watch, .. } = explanation.finding else { panic!("{explanation:?}") };
        assert_eq!(watch.place.as_ref().unwrap().file.as_ref(), "linux-base");
    }

    #[test]
    fn places_and_reasons_are_no_part_of_the_meaning() {
        let parse = |text: &str| Policy::parse(text, "p").0.meaning();
        let spaced = TEXT.replace("\n\n", "\n\n# a comment\n").replace("the shop", "another reason");
        assert_eq!(parse(TEXT), parse(&spaced));
        assert_ne!(parse(TEXT), parse(&TEXT.replace("cache", "tmp")));
    }

    proptest! {
        #[test]
        fn it_says_the_same_as_the_judgement(parts in proptest::collection::vec("[a-c]|srv|etc|ssh|one|cache|x[.]swp|y[.]conf", 0..5)) {
            let (policy, _) = Policy::parse(TEXT, "p");
            let path = path(&format!("/{}", parts.join("/")));
            let explained = match policy.explain(&path).finding {
                Finding::Watched { watched, .. } => Some(watched),
                _ => None,
            };
            prop_assert_eq!(explained, policy.judge(&path));
        }
    }
}
