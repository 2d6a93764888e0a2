//! Writing past a filesystem: what is told when somebody opens the device below it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use tally_types::{EventBody, Life};

use super::disk::{Disk, text};
use super::{Host, Running, fanotify_is_missing};

fn opened(agent: &mut Running) -> (String, Vec<String>, u32) {
    agent.wait("it is told", |agent| {
        agent.new_events().into_iter().find_map(|body| match body {
            EventBody::Life(Life::DeviceOpened { device, mounts, actor }) => {
                Some((device.to_string(), mounts.iter().map(ToString::to_string).collect(), actor.unwrap().pid))
            }
            _ => None,
        })
    })
}

#[test]
fn whoever_writes_to_the_device_of_a_watched_filesystem_is_told_of() {
    if fanotify_is_missing() {
        return;
    }
    let Some(disk) = Disk::new("ext4") else { return };
    let host = Host::on(&disk.point());
    host.write("f", "x");
    let mut agent = host.start();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(text(&disk.point()))).unwrap();
    let node = PathBuf::from(line.split(' ').next().unwrap());
    // Reading is not told; a writable descriptor is, by its close at the latest.
    fs::File::open(&node).unwrap();
    drop(OpenOptions::new().write(true).open(&node).unwrap());
    let point = disk.point().display().to_string();
    assert_eq!(opened(&mut agent), (node.display().to_string(), vec![point.clone()], std::process::id()));
    // So is the file that the device is made of.
    OpenOptions::new().append(true).open(disk.image()).unwrap().write_all(b"").unwrap();
    assert_eq!(opened(&mut agent), (disk.image().display().to_string(), vec![point], std::process::id()));
    agent.stop();
}
