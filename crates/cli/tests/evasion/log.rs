//! Logs: what was written must stay.

use super::technique::Technique;

const OWN: &str = "own";
const CLEAR: &str = "MITRE ATT&CK T1070.002, Clear Linux or Mac System Logs";
const TEXT: &str = "seq 30000 > $D/app.log";

const ROTATED: &str = "seq 30000 > $D/app.log; seq 40000 49000 > $D/app.log.1; seq 50000 58000 > $D/app.log.2; seq 60000 67000 > $D/app.log.3";
/// A journal of 400 entries, and another one.
const JOURNAL: &str = "R=/lib/systemd/systemd-journal-remote; test -x $R || exit 77; mkdir $D/journal; \
    entries() { for n in $(seq 400); do printf '__REALTIME_TIMESTAMP=%s\\n_BOOT_ID=0123456789abcdef0123456789abcdef\\nMESSAGE=%s\\n\\n' \
    $((1700000000000000 + n)) $((n + $1)); done > $O/in; $R -o $2 $O/in > /dev/null 2>&1; }; \
    entries 0 $D/journal/system.journal; entries 1000 $O/other.journal; test -s $D/journal/system.journal";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act).prepared(TEXT).at(b"app.log")
}

pub const TECHNIQUES: &[Technique] = &[
    t("L01", "a line altered in place, same size and time", CLEAR, "touch -r $D/app.log $O/t; $T pwrite $D/app.log; touch -r $O/t $D/app.log").actor(""),
    t("L02", "a line taken out (sed -i)", CLEAR, "sed -i 5d $D/app.log").actor("sed"),
    t("L03", "a hole punched over its beginning", CLEAR, "$T fallocate $D/app.log 3"),
    t("L04", "emptied", CLEAR, ": > $D/app.log").actor("dash"),
    t("L05", "emptied and grown again beyond its size", CLEAR, "seq 5000 45000 > $D/app.log").actor(""),
    t("L06", "removed", CLEAR, "rm $D/app.log").actor("rm"),
    t("L07", "a fake rotation: the old one renamed and altered, a new one begun", OWN, "mv $D/app.log $D/app.log.1; $T pwrite $D/app.log.1; echo new > $D/app.log").actor(""),
    t("L08", "copytruncate, the copy altered", OWN, "sed 5d $D/app.log > $D/app.log.1; : > $D/app.log").actor(""),
    t("L09", "the last lines cut off", CLEAR, "truncate -s -100 $D/app.log").actor("truncate"),
    t("L10", "the last line altered, the tail not yet sealed", OWN, "S=$(stat -c %s $D/app.log); printf X | dd of=$D/app.log bs=1 seek=$((S-3)) conv=notrunc status=none").actor("dd"),
    t("L11", "altered by a shared mapping", OWN, "$T mmap $D/app.log"),
    t("L12", "forged lines appended", "MITRE ATT&CK T1565.001", "echo 'Jan 1 sshd: Accepted for nobody' >> $D/app.log")
        .actor("")
        .note("recorded as an append, which is no alert: a log may grow, and who writes a lie to its end writes as the daemon does"),
    t("L13", "its time alone", "MITRE ATT&CK T1070.006", "touch -d 2001-01-01 $D/app.log").actor("touch"),
    t("L14", "a block taken out of its middle (fallocate: collapse a range)", OWN, "$T fallocate $D/app.log 8"),
    t("L15", "zeros in the place of its beginning, no block given back (fallocate: zero a range)", OWN, "$T fallocate $D/app.log 16"),
    t("L16", "zeros put before its beginning (fallocate: insert a range)", OWN, "$T fallocate $D/app.log 32"),
    t("L17", "a sealed chunk altered by a shared mapping that is never released", "fanotify(7), section \"Limitations and caveats\"", "$T mmap-hold $D/app.log & sleep 600")
        .by_scan()
        .note("no event until the mapping goes; the times change, so the next scan reads the log"),
    t("L18", "renamed as a rotation does, and the old lines altered by the daemon's own descriptor", OWN,
      "mv $D/app.log $D/app.log.1; : > $D/app.log; $T pwrite /proc/$(cat $O/pid)/fd/7")
        .prepared("seq 30000 > $D/app.log; sh -c 'exec 7>> $0; exec sleep 3600' $D/app.log > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)")
        .actor(""),
    t("L19", "a compressed rotated log put together anew without a line", CLEAR, "cat $O/x > $D/app.log.1.gz")
        .prepared("seq 30000 > $D/app.log; seq 9000 > $D/app.log.1; sed 5d $D/app.log.1 | gzip > $O/x; gzip $D/app.log.1")
        .at(b"app.log.1.gz")
        .actor(""),
    t("L20", "another file of the same size and time in the place of a compressed rotated log", CLEAR,
      "touch -r $D/app.log.1.gz $O/x; mv $O/x $D/app.log.1.gz")
        .prepared("seq 30000 > $D/app.log; seq 40000 49000 > $D/app.log.1; seq 50000 58000 > $D/app.log.2; gzip $D/app.log.1 $D/app.log.2; tr '1' '2' < $D/app.log.1.gz > $O/x")
        .at(b"app.log.1.gz")
        .actor(""),
    t("L21", "a rotated log removed out of its turn", CLEAR, "rm $D/app.log.1").prepared(ROTATED).at(b"app.log.1").actor("rm"),
    t("L22", "pushed out where `keep` says for how long logs are kept: rotated with an empty log until the line is gone", OWN,
      "for n in 1 2; do mv $D/kept.log.1 $D/kept.log.2; mv $D/kept.log $D/kept.log.1; : > $D/kept.log; done")
        .prepared("seq 30000 > $D/kept.log; seq 40000 49000 > $D/kept.log.1; seq 50000 58000 > $D/kept.log.2")
        .at(b"kept.log.2")
        .actor(""),
    t("L23", "a young rotated log removed as if by its age: its time set back before", OWN,
      "touch -d '1 year ago' $D/kept.log.1; rm $D/kept.log.1")
        .prepared("seq 30000 > $D/kept.log; seq 40000 49000 > $D/kept.log.1")
        .at(b"kept.log.1")
        .actor(""),
    t("L24", "a young rotated log compressed, with a time by which it may be removed", OWN,
      "gzip $D/kept.log.1; touch -d '1 year ago' $D/kept.log.1.gz")
        .prepared("seq 30000 > $D/kept.log; seq 40000 49000 > $D/kept.log.1")
        .at(b"kept.log.1.gz")
        .actor(""),
    t("L25", "pushed out: rotated with an empty log again and again until the line is gone", OWN,
      "for n in 1 2 3; do mv $D/app.log.2 $D/app.log.3; mv $D/app.log.1 $D/app.log.2; mv $D/app.log $D/app.log.1; : > $D/app.log; done")
        .prepared(ROTATED)
        .at(b"app.log.3")
        .actor("")
        .note("recorded as rotations, which are no alert; more files gone than one for each would be. With `keep` it is one (L22)"),
    t("L26", "logins taken out of wtmp, which is written anew (utmpdump -r)", CLEAR,
      "utmpdump $D/wtmp 2> /dev/null | grep -v mallory | utmpdump -r > $O/w 2> /dev/null; cat $O/w > $D/wtmp")
        .prepared("command -v utmpdump > /dev/null || exit 77; for n in 1 2 3 4 5 6 7 8 9; do \
            echo \"[7] [0100$n] [ts/$n] [$([ $n = 5 ] && echo mallory || echo alice)   ] [pts/$n       ] [192.0.2.$n          ] [192.0.2.$n      ] [2026-11-24T10:0$n:00,000000+00:00]\"; \
            done | utmpdump -r > $D/wtmp 2> /dev/null; test -s $D/wtmp")
        .at(b"wtmp")
        .actor(""),
    t("L27", "a journal cut off", CLEAR, "truncate -s 20000 $D/journal/system.journal")
        .prepared(JOURNAL)
        .at(b"journal/system.journal")
        .actor("truncate"),
    t("L28", "a journal replaced by a whole and valid one of other entries", CLEAR, "mv $O/other.journal $D/journal/system.journal")
        .prepared(JOURNAL)
        .at(b"journal/system.journal")
        .actor("mv"),
    t("L29", "a field of a journal's entry written over, its time set back", CLEAR,
      "J=$D/journal/system.journal; touch -r $J $O/t; AT=$(grep -abo MESSAGE=133 $J | head -1 | cut -d: -f1); \
       printf 999 | dd of=$J bs=1 seek=$((AT + 8)) conv=notrunc status=none; touch -r $O/t $J")
        .prepared(JOURNAL)
        .at(b"journal/system.journal")
        .actor(""),
];
