//! The three languages by examples, and properties over random patterns and texts.

use super::*;

fn hits(pattern: &Result<Pattern, PatternError>, text: &str) -> bool {
    pattern.as_ref().is_ok_and(|pattern| pattern.matches(text.as_bytes()))
}

/// What the regular expression and the plain language say of each, as OSSEC 4.3.0 was seen to do.
#[test]
fn matches_as_ossec_does() {
    for (pattern, both, regex_only, match_only, neither) in [
        ("abc", &["xABCx"][..], &[][..], &[][..], &["ab"][..]),
        ("^abc$", &["ABC"], &[], &[], &["abcd", "xabc"]),
        ("abc$", &["xxABC"], &[], &[], &["abcx"]),
        ("a+", &["a+"], &[], &[], &["aaa"]),
        ("a.c", &["a.c"], &[], &[], &["abc"]),
        (r"a\.c", &[], &["abc", "a.c", "a\nc"], &[], &["ac"]),
        ("[abc]", &["[abc]"], &[], &[], &["a"]),
        (r"\d+.\d+", &[], &["1.2"], &[], &["1x2"]),
        (r"^z\.$", &[], &["za", "zé"], &[], &["z", "zab"]),
        (r"z\W", &[], &["z$", "z\t"], &[], &["z-", "z_", "z@"]),
        (r"\s", &[], &["a b"], &[r"a\s"], &["\t"]),
        ("^a|b$", &["ax", "xb"], &[], &[], &["xa"]),
        ("x|^ab", &["abz", "zx"], &[], &[], &["zab"]),
        ("a$b", &[], &[], &[], &["a$b", "ab"]),
        ("ab^c", &[], &[], &[], &["ab^c"]),
        ("!abc", &["!abc"], &[], &[], &["xyz"]),
        ("a||b", &["zzz"], &[], &[], &[]),
        ("(a|b)c", &[], &["bc"], &[], &["ab"]),
        ("(a)+", &[], &["xa+"], &["(a)+"], &["aa"]),
        (r"\$5", &[], &["$5"], &[], &["5"]),
        (r"\|", &["a|b"], &[], &["ab"], &[]),
        (r"\w++", &[], &["a+"], &[], &["aa"]),
        ("(?:a)", &["(?:a)"], &["?:a"], &[], &["a"]),
        ("É", &["éa", "É"], &[], &[], &["e"]),
        ("^É", &["É"], &["éa"], &[], &["e"]),
        ("k", &["\u{212A}"], &[], &[], &["x"]),
        ("^", &["a", ""], &[], &[], &[]),
        ("^$", &[""], &[], &[], &["a"]),
        ("", &[], &[], &["", "a"], &[]),
    ] {
        let (regex, plain) = (Pattern::os_regex(pattern), Pattern::os_match(pattern));
        for (texts, is_regex, is_match) in
            [(both, true, true), (regex_only, true, false), (match_only, false, true), (neither, false, false)]
        {
            for text in texts {
                assert_eq!((hits(&regex, text), hits(&plain, text)), (is_regex, is_match), "{pattern} on {text:?}");
            }
        }
    }
}

fn groups(pattern: &Pattern, text: &str) -> Option<(usize, Vec<String>)> {
    let mut groups = Vec::new();
    let end = pattern.find_groups(text.as_bytes(), &mut Scratch::default(), &mut groups).expect("few steps")?;
    Some((end, groups.into_iter().map(|group| text[group].to_owned()).collect()))
}

#[test]
fn quantifiers_are_lazy_but_at_the_ends() {
    for (pattern, text, end, found) in [
        (r"(\S+) (\S+)$", "a b c", 5, &["b", "c"][..]),
        (r"(\S+) (\S+)", "ab cd ef", 5, &["ab", "cd"]),
        (r"(\w+)(\w+)", "abab", 4, &["a", "bab"]),
        (r"a=(\w*)|b=(\w+) c=(\w+)", "b=2 c=3", 7, &["2", "3"]),
        (r"((\w)+ (\d+))", "a+ 12", 5, &["a+ 12", "a", "12"]),
    ] {
        let pattern = Pattern::os_regex(pattern).expect("a pattern");
        let expected = found.iter().map(|group| (*group).to_owned()).collect();
        assert_eq!(groups(&pattern, text), Some((end, expected)), "{}", pattern.source());
    }
}

#[test]
fn reads_the_language_of_pcre2() {
    for (pattern, text, answer) in [
        (r"^(?:(alpha)|(beta)|gamma) (\S+)(?: by (\S+))?", "BETA x by y", Some((11, &["BETA", "x", "y"][..]))),
        (r"(a+)(a+)", "aaa", Some((3, &["aa", "a"]))),
        (r"(a+?)(a+)", "aaa", Some((3, &["a", "aa"]))),
        (r"(a++)(a)", "aaa", None),
        (r"(?>a+b?)b", "aab", None),
        (r"(?=.*z)(\w)", "a z", Some((1, &["a"]))),
        (r"(?<!x)(y)", "xy y", Some((4, &["y"]))),
        (r"(?<=ab)(y)", "xy aby", Some((6, &["y"]))),
        (r"(\w)\1", "abCcd", Some((4, &["C"]))),
        (r"(?<n>a|b)-\k<n>", "a-b b-b", Some((7, &["b"]))),
        (r"\bfoo\b", "a foo b", Some((5, &[]))),
        (r"x{2,3}", "xxxx", Some((3, &[]))),
        (r"x{,3}", "x{,3}", Some((5, &[]))),
        (r"(a|b)*c", "abac", Some((4, &["a"]))),
        (r"(a*)*b", "aab", Some((3, &[""]))),
        (r"(?-i)A", "aA", Some((2, &[]))),
        (r"(?i:A)(?-i:B)", "aB", Some((2, &[]))),
        (r"(?s)a.b", "a\nb", Some((3, &[]))),
        (r"a.b", "a\nb", None),
        (r"^b$", "a\nb", None),
        (r"(?m)^b$", "a\nb", Some((3, &[]))),
        (r"a\Z", "a\n", Some((1, &[]))),
        (r"a\z", "a\n", None),
        (r"[[:digit:]x-]+", "a1-x", Some((4, &[]))),
        (r"[()*+,.:;\<=>?\[\]]+", "a<>]", Some((4, &[]))),
        (r"\Qa.b\E+", "a.bb", Some((4, &[]))),
        (r"\x41\x{42}\103", "abc", Some((3, &[]))),
        (r"(?#note)a", "a", Some((1, &[]))),
        (r"(?x) a b # c", "ab", Some((2, &[]))),
        (r"(?:ab){2}", "xabab", Some((5, &[]))),
        (r"(?:a|ab)(?:c|bcd)(d*)", "abcd", Some((4, &[""]))),
    ] {
        let pattern = match Pattern::pcre2(pattern) {
            Ok(pattern) => pattern,
            Err(error) => {
                assert!(matches!(error, PatternError::Unsupported { .. }), "{pattern}: {error}");
                continue;
            }
        };
        let answer = answer.map(|(end, found)| (end, found.iter().map(|group| (*group).to_owned()).collect()));
        assert_eq!(groups(&pattern, text), answer, "{}", pattern.source());
    }
}

#[test]
fn refuses_what_is_no_pattern() {
    assert_eq!(Pattern::os_regex(""), Err(PatternError::Empty));
    assert_eq!(Pattern::pcre2(""), Err(PatternError::Empty));
    assert_eq!(Pattern::os_match(&"a".repeat(2049)), Err(PatternError::TooLong(2049)));
    assert_eq!(Pattern::os_regex(r"é\q"), Err(PatternError::Escape { at: 2 }));
    for pattern in [r"\>x", r"\-x", r"\n", r"a\*", r"a\", r"\d+)", "(", ")"] {
        assert!(Pattern::os_regex(pattern).is_err(), "{pattern}");
    }
    for pattern in ["(", ")", "*a", "a**", "[", "[b-a]", r"\1", r"(?<n>a)(?<n>b)", "a{3,2}", "(?", r"\"] {
        assert!(Pattern::pcre2(pattern).is_err(), "{pattern}");
    }
    let deep = format!("{}a{}", "(".repeat(300), ")".repeat(300));
    assert!(Pattern::pcre2(&deep).is_err());
    assert!(Pattern::pcre2("(?:(?:a{900}b){900}c){900}").is_err());
    // What PCRE2 refuses is told with its place, as a character of the pattern.
    let Err(PatternError::Foreign { at, what }) = Pattern::pcre2("é(?R)(?<n>a)(?(x)b)") else { panic!("it compiled") };
    assert!(at > 10 && at < 20 && what.contains("subpattern") && !what.contains("offset"), "{at} {what}");
}

#[test]
fn gives_up_on_what_runs_away() {
    let text = [b"a".repeat(5000), b"!".to_vec()].concat();
    let mut scratch = Scratch::default();
    for regular in [r"(a|aa)+$", r"^(\w+\s?)+$", r"a+a+a+b", r"(x+x+)+y"] {
        let pattern = Pattern::pcre2(regular).expect("a pattern");
        assert_eq!(pattern.find(&text, &mut scratch), Ok(None), "{regular}");
    }
    let pattern = Pattern::pcre2(r"^(a+)+\1b").expect("a pattern");
    assert_eq!(pattern.find(&text, &mut scratch), Err(Exhausted));
    assert!(!pattern.matches(&text));
}

/// What only PCRE2 itself knows: recursion, conditions, verbs, properties of signs, groups of one name, looking behind by
/// several widths.
#[test]
fn leaves_to_pcre2_what_only_it_knows() {
    for (pattern, text, answer) in [
        (r"^\((?:[^()]|(?R))*\)$", "(a(b)c)", None),
        (r"\((?:[^()]++|(?R))*\)", "x(a(b)C)", Some((8, &[][..]))),
        (r"(\w)(?:(?R)|\w?)\1", "xabcba", Some((6, &["a"]))),
        (r"^(<)?\w+(?(1)>|!)$", "<Ab>", Some((4, &["<"]))),
        (r"^(<)?\w+(?(1)>|!)$", "<ab!", None),
        (r"(?&pair);(?(DEFINE)(?<pair>\d,\d))", "7,8;", Some((4, &[]))),
        (r"\p{Lu}\P{L}", "q1", Some((2, &[]))),
        (r"foo\Kbar", "foobar", Some((6, &[]))),
        (r"(?<=a|bc)d", "bcd", Some((3, &[]))),
        (r"(?|(a)|(b))c", "bc", Some((2, &["b"]))),
        (r"a(*SKIP)b|.", "ac", Some((2, &[]))),
    ] {
        let pattern = Pattern::pcre2(pattern).expect("a pattern");
        let answer = answer.map(|(end, found)| (end, found.iter().map(|group| (*group).to_owned()).collect()));
        assert_eq!(groups(&pattern, text), answer, "{}", pattern.source());
        assert!(!pattern.is_plain() && pattern.matches(text.as_bytes()) == answer.is_some());
    }
}

#[test]
fn pcre2_gives_up_on_what_runs_away() {
    let text = [b"a".repeat(5000), b"!".to_vec()].concat();
    let (mut scratch, mut groups) = (Scratch::default(), Vec::new());
    for runs_away in [r"^(a+)+(?(1)b|c)$", "(*LIMIT_MATCH=4000000000)^(a+)+(?(1)b|c)$"] {
        let pattern = Pattern::pcre2(runs_away).expect("a pattern");
        assert_eq!(pattern.find(&text, &mut scratch), Err(Exhausted), "{runs_away}");
        assert_eq!(pattern.find_groups(&text, &mut scratch, &mut groups), Err(Exhausted), "{runs_away}");
    }
    // A text that is no UTF-8, of a pattern that asks for it.
    assert_eq!(Pattern::pcre2(r"(*UTF)\p{L}").expect("a pattern").find(b"\xFFa", &mut scratch), Ok(None));
}

#[test]
fn finds_nothing_in_what_is_no_utf_8() {
    let text = b"a\xFFb";
    assert!(!Pattern::os_match("a").expect("a pattern").matches(text));
    assert!(Pattern::os_match("b$").expect("a pattern").matches(text));
    assert!(!Pattern::os_regex(r"\w").expect("a pattern").matches(text));
    assert!(Pattern::pcre2(r"a.b").expect("a pattern").matches(text));
    for (pattern, name, answer) in
        [("b", &text[..], true), ("a.b", text, false), ("^a", text, true), ("b", b"a", false)]
    {
        assert_eq!(Pattern::os_match(pattern).expect("a pattern").matches_name(name), answer, "{pattern}");
    }
    assert!(Pattern::os_regex(r"a\.b").expect("a pattern").matches_name(text));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const PATTERN: &str =
        r"([a-cK \\+*?(){}\[\]|^$.0-3,-]|\\[wWdDsSpt.bBZzAQE12]|\(\?:|\(\?=|\(\?!|\(\?<=|\(\?>|é|k|\[\^a){0,16}";
    const TEXT: &str = "([a-c kK03.]|é|\u{212A}|\n){0,24}";

    proptest! {
        #[test]
        fn no_pattern_panics(source in PATTERN, text in TEXT, wild in prop::collection::vec(any::<u8>(), 0..24)) {
            let (mut scratch, mut groups) = (Scratch::default(), Vec::new());
            for pattern in [Pattern::os_match(&source), Pattern::os_regex(&source), Pattern::pcre2(&source)] {
                let Ok(pattern) = pattern else { continue };
                for text in [text.as_bytes(), &wild] {
                    let end = pattern.find(text, &mut scratch);
                    prop_assert_eq!(pattern.find_groups(text, &mut scratch, &mut groups), end);
                    prop_assert!(groups.iter().all(|group| group.end <= text.len()));
                }
            }
        }

        /// What our engine finds is what PCRE2 finds.
        #[test]
        fn ours_finds_what_pcre2_finds(source in PATTERN, text in TEXT) {
            prop_assume!(!source.is_empty());
            let (Ok(ours), Ok(theirs)) = (Pattern::pcre2(&source), Pattern::foreign(&source)) else {
                // Neither takes what the other refuses.
                prop_assert_eq!(Pattern::pcre2(&source).is_ok(), Pattern::foreign(&source).is_ok());
                return Ok(());
            };
            // What OSSEC compares without PCRE2 is another matter.
            prop_assume!(!ours.is_plain());
            let (mut scratch, mut found, mut wanted) = (Scratch::default(), Vec::new(), Vec::new());
            let end = ours.find_groups(text.as_bytes(), &mut scratch, &mut found);
            let wanted_end = theirs.find_groups(text.as_bytes(), &mut scratch, &mut wanted);
            if end.is_ok() && wanted_end.is_ok() {
                prop_assert_eq!((end, found), (wanted_end, wanted));
            }
        }

        /// The index may leave a pattern to be tried, but never says what is not so.
        #[test]
        fn the_index_rules_out_no_match(source in PATTERN, text in TEXT) {
            for pattern in [Pattern::os_match(&source), Pattern::os_regex(&source), Pattern::pcre2(&source)] {
                let Ok(pattern) = pattern else { continue };
                let mut builder = IndexBuilder::default();
                let filter = builder.add(&pattern);
                let mut hits = Hits::default();
                builder.build().scan(text.as_bytes(), &mut hits);
                match hits.verdict(&filter) {
                    Verdict::No => prop_assert!(!pattern.matches(text.as_bytes())),
                    Verdict::Yes => prop_assert!(pattern.matches(text.as_bytes())),
                    Verdict::Maybe => {}
                }
            }
        }
    }
}
