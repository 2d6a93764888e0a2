//! Everything about a file but its content.

use super::technique::Technique;

const OWN: &str = "own";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act)
}

pub const TECHNIQUES: &[Technique] = &[
    t("A01", "made immutable (chattr +i)", "MITRE ATT&CK T1222.002; FS_IOC_SETFLAGS makes no event", "chattr +i $F")
        .undone("chattr -i $F")
        .by_scan(),
    t("A02", "made append-only (chattr +a)", "MITRE ATT&CK T1222.002", "chattr +a $F").undone("chattr -a $F").by_scan(),
    t(
        "A03",
        "protection taken away (chattr -i), written, put back",
        "MITRE ATT&CK T1222.002",
        "chattr -i $F; $T pwrite $F; chattr +i $F",
    )
    .prepared("chattr +i $F")
    .undone("chattr -i $F"),
    t("A04", "setuid", "MITRE ATT&CK T1548.001", "chmod 4755 $F").actor("chmod"),
    t("A05", "capabilities of the file", "MITRE ATT&CK T1548", "setcap cap_setuid+ep $F").actor("setcap"),
    t("A06", "an access control list", OWN, "setfacl -m u:nobody:rwx $F").actor("setfacl"),
    t("A07", "a default access control list of the directory", OWN, "setfacl -d -m u:nobody:rwx $D")
        .at(b"")
        .actor("setfacl"),
    t("A08", "data in an extended attribute (user.*)", "MITRE ATT&CK T1564", "setfattr -n user.x -v evil $F")
        .actor("setfattr"),
    t(
        "A09",
        "data in an extended attribute that only root sees (trusted.*)",
        "MITRE ATT&CK T1564",
        "setfattr -n trusted.x -v evil $F",
    )
    .actor("setfattr"),
    t("A10", "owner", OWN, "chown nobody $F").actor("chown"),
    t("A11", "group", OWN, "chgrp nogroup $F").actor("chgrp"),
    t("A12", "mode changed and changed back between two looks", OWN, "chmod 777 $F; chmod 666 $F")
        .chance("both looks find the same; what was possible in between is not known"),
    t("A13", "owner changed and changed back between two looks", OWN, "chown nobody $F; chown root $F")
        .chance("as A12"),
    t("A14", "its time alone", "MITRE ATT&CK T1070.006", "touch -d 2001-01-01 $F").actor("touch"),
    t("A15", "the directory opened to everybody", OWN, "chmod 1777 $D/d")
        .prepared("mkdir -m 755 $D/d")
        .at(b"d")
        .actor("chmod"),
];
