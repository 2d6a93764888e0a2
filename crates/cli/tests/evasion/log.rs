//! Logs: what was written must stay.

use super::technique::Technique;

const OWN: &str = "own";
const CLEAR: &str = "MITRE ATT&CK T1070.002, Clear Linux or Mac System Logs";
const TEXT: &str = "seq 30000 > $D/app.log";

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
];
