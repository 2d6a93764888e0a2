//! Ways not to be named.

use super::technique::Technique;

const OWN: &str = "own";
const INJECT: &str = "MITRE ATT&CK T1055.008, Ptrace System Calls";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act)
}

pub const TECHNIQUES: &[Technique] = &[
    t("P01", "a static program that writes and is gone", "measured: /proc is too late for up to 100 % of them", "exec $T write $F"),
    t("P02", "a shell that writes and is gone", "measured: /proc is too late for up to 23 % of them", "exec sh -c 'echo AFTER > $F'").actor("dash"),
    t("P03", "fork without exec", OWN, "$T fork $F"),
    t("P04", "vfork without exec", OWN, "$T vfork $F"),
    t("P05", "double fork in a session of its own, the parents gone", OWN, "$T orphan $F"),
    t("P06", "a chain of exec: env, nice, setsid, timeout", OWN, "exec env nice -n 1 setsid timeout 9 $T write $F"),
    t("P07", "a thread that is not the leader", OWN, "$T thread $F"),
    t("P08", "a thread whose leader has ended (a zombie with threads)", OWN, "$T leaderless $F"),
    t("P09", "name and arguments overwritten to look like sshd", "MITRE ATT&CK T1036.011, Overwrite Process Arguments", "$T rename-self $F"),
    t("P10", "started under another argv[0]", "MITRE ATT&CK T1036.003", "exec bash -c 'exec -a [kworker/0:1] $T write $F'"),
    t("P11", "the executable removed while it runs", "MITRE ATT&CK T1070.004", "cp $T $O/x; $O/x serve $F & sleep 0.2; rm $O/x; $T inject $!; kill $!").actor("x"),
    t("P12", "no file at all: executed from memory (memfd_create)", "MITRE ATT&CK T1620, Reflective Code Loading", "$T memfd $F").actor("memfd:x"),
    t("P13", "the program given to the loader: ld.so names itself", "GTFOBins, ld.so", "$(echo /lib64/ld-linux-x86-64.so.2) $(readlink -f /bin/cp) $E $F")
        .actor("ld-linux-x86-64.so.2")
        .note("the executable is the loader; the command line names the program"),
    t("P14", "a library put into an innocent program (LD_PRELOAD)", "MITRE ATT&CK T1574.006",
      "LD_PRELOAD=$O/evil.so exec cat /dev/null")
        .prepared(
            "printf '#include <fcntl.h>\\n#include <stdlib.h>\\n#include <unistd.h>\\n__attribute__((constructor)) static void f(void) \
             { int d = open(getenv(\"F\"), O_WRONLY); if (write(d, \"AFTER!\", 6) < 0) _exit(1); close(d); }\\n' > $O/evil.c && cc -shared -fPIC -o $O/evil.so $O/evil.c",
        )
        .actor("cat")
        .note("the innocent program is named: it did write. The environment is not recorded"),
    t("P15", "system calls put into an innocent process (ptrace)", INJECT, "$T inject $(cat $O/pid)")
        .prepared("cp $T $O/victim; $O/victim serve $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)")
        .actor("victim")
        .note("the victim is named: it did write. Who made it write is not known"),
    t("P16", "by an interpreter, the script on standard input", "GTFOBins, python", "echo 'import os; open(os.environ[\"F\"], \"w\").write(\"AFTER\")' | python3 -")
        .actor("python3"),
    t("P17", "by a program of the system: dd", "GTFOBins, dd", "dd if=$E of=$F conv=notrunc status=none").actor("dd"),
    t("P18", "by a program of the system: sed -i", "GTFOBins, sed", "sed -i s/b/A/ $F").actor("sed"),
    t("P19", "after giving up root for another user", OWN, "$T setuid $F"),
    t("P20", "by su as another user", OWN, "su -s /bin/sh nobody -c \"echo AFTER > $F\"").actor("dash"),
    t("P21", "by a daemon without terminal, session or parent", OWN, "setsid -f $T write $F"),
    t("P22", "by many processes at once, one of them the one", OWN, "for n in 1 2 3 4 5 6 7 8 9; do $T write $E & done; $T write $F; wait"),
    t("P23", "from a process that held the file open since before the agent began", OWN, "$T inject $(cat $O/pid)")
        .prepared("$T serve $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("P24", "under the number of an innocent process that has just ended", "measured: numbers can be chosen by /proc/sys/kernel/ns_last_pid",
      "N=$(sh -c 'echo $$; cat /dev/null'); echo $((N - 1)) > /proc/sys/kernel/ns_last_pid; $T write $F"),
    t("P25", "the memory of an innocent daemon altered (process_vm_writev), which then writes it", "MITRE ATT&CK T1055", "$T poke $(cat $O/pid)")
        .prepared("cp $T $O/scribe; $O/scribe scribe $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)")
        .actor("scribe")
        .note("the daemon is named: it did write. Who altered its memory is not known"),
    t("P26", "an innocent process becomes the writer by /proc/PID/mem, no ptrace call", "MITRE ATT&CK T1055.009, Proc Memory",
      "printf AFTER! | dd of=/proc/$(cat $O/pid)/mem bs=1 seek=$((0x$(cat $O/at))) conv=notrunc status=none; kill -USR1 $(cat $O/pid)")
        .prepared("cp $T $O/scribe; nm $T | sed -n 's/ [bBdD] scripture$//p' > $O/at; test -s $O/at; $O/scribe scribe $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)")
        .actor("scribe")
        .note("as P25"),
];
