//! Mounts with watched paths from which no events come, and why: another machine serves them, a program does, or the kernel
//! refuses a mark.

use tally_proto::message::Blind;
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::mount::{Mount, Table};
use tally_syscheck::Policy;
use tally_types::PathBytes;

use super::holding_watched;

/// More are not named.
const BLIND_MAX: usize = 64;

/// The mounts from which no events come; `refused` says of one of this machine's disks why it is among them.
pub fn mounts(table: &Table, policy: &Policy, refused: impl Fn(&Mount) -> Option<String>) -> Vec<Blind> {
    let holding = holding_watched(table, policy);
    let mut blind: Vec<Blind> = Vec::new();
    for mount in &table.mounts {
        let Ok(point) = PathBytes::new(mount.point.clone()) else { continue };
        // What is mounted over it comes later, and is what a path leads to.
        blind.retain(|other| other.point != point);
        let (holds, kind) = (holding.iter().any(|held| held.id == mount.id), fs_kind::of_type_name(&mount.fs_type));
        let is_watched = holds || policy.judge(&point).is_some();
        let why = if kind == FsKind::Local { refused(mount).filter(|_| holds) } else { foreign(mount, kind) };
        if let Some(why) = why.filter(|_| is_watched && blind.len() < BLIND_MAX) {
            let fs_type = String::from_utf8_lossy(&mount.fs_type);
            blind.push(Blind { point, why: format!("{fs_type}: {why}").into(), scanned: holds });
        }
    }
    blind
}

fn foreign(mount: &Mount, kind: FsKind) -> Option<String> {
    let is_program = mount.fs_type.starts_with(b"fuse");
    Some(match kind {
        FsKind::Local => return None,
        FsKind::Pseudo => "the kernel makes it up".to_owned(),
        FsKind::Network if is_program => "a program serves it".to_owned(),
        FsKind::Network => "another machine serves it, and does not tell what others change".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_another_machine_is_named_with_its_type_and_whether_it_is_scanned() {
        let table = tally_sys::mount::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:40 / /srv rw - nfs4 h:/srv rw\n3 2 0:41 / /srv/x/f rw - fuse.sshfs h: rw\n\
              4 1 8:2 / /data rw - xfs /dev/b rw\n5 1 0:42 / /mnt rw - nfs4 h:/mnt rw\n6 1 0:43 / /hid rw - nfs4 h:/h rw\n\
              7 6 8:3 / /hid rw - ext4 /dev/c rw\n",
        );
        let path = |path: &str| PathBytes::new(path.as_bytes()).unwrap();
        let watches = ["/srv/x", "/data", "/etc", "/hid"].map(|at| (path(at), None));
        let policy = Policy::from_watch_args(&watches);
        let refused = |mount: &Mount| (&*mount.fs_type == b"xfs").then(|| "no handles".to_owned());
        let told: Vec<_> = mounts(&table, &policy, refused)
            .into_iter()
            .map(|blind| (blind.point.to_string(), blind.why.to_string(), blind.scanned))
            .collect();
        let expected = [
            ("/srv", "nfs4: another machine serves it, and does not tell what others change", true),
            ("/srv/x/f", "fuse.sshfs: a program serves it", false),
            ("/data", "xfs: no handles", true),
        ];
        assert_eq!(told, expected.map(|(point, why, scanned)| (point.to_owned(), why.to_owned(), scanned)));
    }
}
