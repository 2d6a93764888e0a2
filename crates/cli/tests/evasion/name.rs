//! Other names, other places in the tree, and names that nobody expects.

use super::technique::Technique;

const OWN: &str = "own";
const INOTIFY: &str = "inotify(7), section \"Limitations and caveats\"";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act)
}

pub const TECHNIQUES: &[Technique] = &[
    t("N01", "written by a hard link that lies where nobody watches", INOTIFY, "$T write $O/link").prepared("ln $F $O/link"),
    t("N02", "removed and made again with the same content and time", OWN, "cp -p $F $O/c; rm $F; cp -p $O/c $F")
        .chance("another inode with the same content, owner, mode and time: nothing that is recorded differs, and the removal was over before the look"),
    t("N03", "removed and made again with other content, the same size and time", "MITRE ATT&CK T1070.006",
      "touch -r $F $O/t; rm $F; head -c 8192 $E > $F; chmod 666 $F; touch -r $O/t $F").actor(""),
    t("N04", "replaced by rename, as editors do", OWN, "cp $E $D/.new; mv $D/.new $F").actor("mv"),
    t("N05", "exchanged with a prepared file in one call (RENAME_EXCHANGE)", OWN, "$T rename2 $E $F 2"),
    t("N06", "moved away leaving a whiteout (RENAME_WHITEOUT)", OWN, "$T rename2 $F $D/gone 4"),
    t("N07", "a nameless file (O_TMPFILE), linked in when complete", OWN, "$T tmpfile $D/appears $D").at(b"appears"),
    t("N08", "the directory exchanged with a prepared one", OWN, "$T rename2 $O/d $D/d 2")
        .prepared("mkdir $D/d $O/d; cp $F $D/d/file; cp $E $O/d/file")
        .at(b"d/file"),
    t("N09", "the directory moved away, a link to a prepared one in its place", OWN, "mv $D/d $O/was; ln -s $O/d $D/d")
        .prepared("mkdir $D/d $O/d; cp $F $D/d/file; cp $E $O/d/file")
        .at(b"d/file")
        .actor(""),
    t("N10", "a symbolic link pointed elsewhere", OWN, "ln -sfn $E $D/link").prepared("ln -s $F $D/link").at(b"link").actor("ln"),
    t("N11", "a name that is not UTF-8", OWN, "cp $E \"$D/$(printf 'a\\377\\376z')\"").at(b"a\xff\xfez").actor("cp"),
    t("N12", "a name with a line break and a terminal code", OWN, "cp $E \"$D/$(printf 'a\\n\\033[2Jz')\"").at(b"a\n\x1b[2Jz").actor("cp"),
    t("N13", "a name that reads backwards (U+202E)", "MITRE ATT&CK T1036.002", "cp $E \"$D/$(printf 'cod\\342\\200\\256txt.exe')\"")
        .at("cod\u{202e}txt.exe".as_bytes())
        .actor("cp"),
    t("N14", "a name that ends in spaces, beside the true one", "MITRE ATT&CK T1036.006", "cp $E \"$F  \"").at(b"file  ").actor("cp"),
    t("N15", "the same name in other letters", OWN, "cp $E $D/FILE").at(b"FILE").actor("cp"),
    t("N16", "a directory named ... and a file in it at once", "MITRE ATT&CK T1564.001", "mkdir $D/...; cp $E $D/.../x").at(b".../x").actor(""),
    t("N17", "a name of 255 bytes", OWN, "cp $E $D/$(printf '%0255d' 7)").at(&LONG).actor("cp"),
    t("N18", "below a path longer than PATH_MAX, reached by mkdirat", OWN, "$T deep $D")
        .at(&[b'd'; 200])
        .note("its first directory is reported; what has a path of more than 4,096 bytes is not recorded itself"),
    t("N19", "a name that the policy leaves out (*.swp)", "wazuh issue 22186 on what is ignored", "cp $E $D/tool.swp")
        .at(b"tool.swp")
        .undetected("the policy says so: `tally explain` names the line; leave out nothing by name alone where programs may lie"),
    t("N20", "many directories at once, a file in the last before anyone can watch it", INOTIFY, "mkdir -p $D/a/b/c/d/e/f; cp $E $D/a/b/c/d/e/f/x")
        .at(b"a/b/c/d/e/f/x")
        .actor(""),
    t("N21", "a file moved in from where nobody watches", OWN, "mv $E $D/in").at(b"in").actor("mv"),
    t("N22", "a file moved out", OWN, "mv $F $O/out").actor("mv"),
    t("N23", "a file that is gone again at once", OWN, "cp $E $D/flash; rm $D/flash").at(b"flash").actor(""),
    t("N24", "a device node of the disk in the tree", OWN, "mknod $D/disk b 7 99").at(b"disk").actor("mknod"),
    t("N25", "the file becomes a directory of that name", OWN, "rm $F; mkdir $F").actor(""),
    t("N26", "exchanged to and fro two thousand times, the prepared one last", OWN, "$T flipflop $E $F"),
    t("N27", "a FIFO in its place, at which a reader waits for ever", OWN, "rm $F; mkfifo $F").actor(""),
    t("N28", "a socket in its place", OWN, "rm $F; python3 -c 'import os, socket; socket.socket(socket.AF_UNIX).bind(os.environ[\"F\"])'").actor(""),
];

/// What printf makes of `%0255d`.
const LONG: [u8; 255] = {
    let mut name = [b'0'; 255];
    name[254] = b'7';
    name
};
