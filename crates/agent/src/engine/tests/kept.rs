//! Rotated logs that are put into another directory, and how long they are kept: by the real logrotate, and by an intruder.

use super::rotations::{Scene, is_missing};
use super::*;

const DAY_S: u64 = 86_400;

/// The log with five rotated files of 2, 4, 6, 8 and 10 days ago; files that are older than five days may go.
fn five_days_kept(names: [&str; 5]) -> Host {
    let mut host = Scene::host();
    for (n, name) in (1..).zip(names) {
        let plain = name.strip_suffix(".gz").unwrap_or(name);
        host.write(plain, &format!("what was said {} days ago\n", 2 * n).repeat(3000));
        if plain != name {
            assert!(Program::new("gzip").arg(host.at(plain)).status().unwrap().success());
        }
        let touched = Program::new("touch").arg("-d").arg(format!("{} days ago", 2 * n)).arg(host.at(name)).status();
        assert!(touched.unwrap().success());
    }
    host.keep_s = Some(5 * DAY_S);
    host
}

const NUMBERED: [&str; 5] = ["app.log.1", "app.log.2", "app.log.3", "app.log.4", "app.log.5"];

const PACKED: [&str; 5] = ["app.log.1.gz", "app.log.2.gz", "app.log.3.gz", "app.log.4.gz", "app.log.5.gz"];

#[test]
fn removal_of_several_by_their_age_is_silent() {
    if is_missing() {
        return;
    }
    let dated = ["app.log-20261104", "app.log-20261103", "app.log-20261102", "app.log-20261101", "app.log-20261031"];
    for (names, directives, left) in [
        (NUMBERED, "rotate 100\nmaxage 5\ncreate", 3),
        (NUMBERED, "rotate 100\nmaxage 5\ncopytruncate", 3),
        (PACKED, "rotate 100\nmaxage 5\ncreate\ncompress", 3),
        (dated, "rotate 100\nmaxage 5\ncreate\ndateext", 3),
    ] {
        for is_stopped in [false, true] {
            let mut scene = Scene::of(five_days_kept(names));
            if is_stopped {
                scene = scene.while_stopped(|scene| scene.rotate(directives));
            } else {
                scene.rotate(directives);
            }
            scene.settle();
            assert_eq!(scene.told(), Vec::<String>::new(), "{directives}");
            assert_eq!(scene.names().len(), 1 + left, "{directives}: {:?}", scene.names());
            scene.agent.stop();
        }
    }
}

#[test]
fn removal_of_what_is_not_old_enough_is_told_though_it_looks_old() {
    if is_missing() {
        return;
    }
    for (line, name) in [
        // One by one is too early as well: nothing younger goes, with a rotation or without.
        ("mv app.log.1 app.log.2; mv app.log app.log.1; : > app.log", "app.log.2"),
        ("rm app.log.1", "app.log.1"),
        ("touch -d '1 year ago' app.log.1; rm app.log.1", "app.log.1"),
        // Its name does not make it older.
        ("mv app.log.1 app.log.9; rm app.log.9", "app.log.1"),
        // Not in order: older ones are still there.
        ("rm app.log.3", "app.log.3"),
    ] {
        let mut scene = Scene::of(five_days_kept(NUMBERED));
        scene.run(line);
        let change = scene.alert_at(name);
        let lost = matches!(change.kind, ChangeKind::Removed | ChangeKind::Rewritten);
        assert!(lost || change.notes[0].contains("was set back by"), "{line}: {change:?}");
        scene.agent.stop();
    }
}

#[test]
fn a_compressed_file_that_is_made_older_than_its_log_is_told() {
    if is_missing() {
        return;
    }
    for line in [
        "mv app.log app.log.1; : > app.log; gzip app.log.1; touch -d '9 days ago' app.log.1.gz",
        "gzip -k app.log; mv app.log.gz app.log.1.gz; touch -d '9 days ago' app.log.1.gz; : > app.log",
    ] {
        let mut scene = Scene::of(Scene::host());
        scene.run(line);
        let change = scene.alert();
        assert_eq!((change.path, change.kind), (path(&scene.host.at("app.log.1.gz")), ChangeKind::Modified), "{line}");
        assert!(change.notes.iter().any(|note| note.contains("was set back by")), "{:?}", change.notes);
        scene.agent.stop();
    }
}

/// Rotations into another directory, in each of them with the agent running and stopped.
fn is_followed_into(olddir: &Path, named: &str, directives: &str, names: &[&str]) {
    for is_stopped in [false, true] {
        let mut host = Scene::host();
        host.olddir = Some(named.to_owned());
        let mut scene = Scene::of(host);
        let directives = format!("{directives}\nolddir {}", olddir.display());
        for _ in 0..4 {
            scene.log_lines();
            scene.settle();
            if is_stopped {
                scene = scene.while_stopped(|scene| scene.rotate(&directives));
            } else {
                scene.rotate(&directives);
            }
            scene.settle();
        }
        assert_eq!(scene.told(), Vec::<String>::new(), "{directives}");
        let mut there: Vec<_> =
            fs::read_dir(olddir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        assert_eq!(there, names, "{directives}");
        // What lies there is watched as the log is.
        let rotated = olddir.join(names[0]);
        fs::write(&rotated, "nothing happened here\n").unwrap();
        assert_eq!(scene.alert().path, path(&rotated));
        scene.agent.stop();
        fs::read_dir(olddir).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn rotation_into_another_directory_is_followed_in_every_mode() {
    if is_missing() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let named = place.path().display().to_string();
    for (directives, names) in [
        ("rotate 2\ncreate", ["app.log.1", "app.log.2"]),
        ("rotate 2\ncopytruncate", ["app.log.1", "app.log.2"]),
        ("rotate 2\ncreate\ncompress", ["app.log.1.gz", "app.log.2.gz"]),
        ("rotate 2\ncreate\ncompress\ndelaycompress", ["app.log.1", "app.log.2.gz"]),
    ] {
        is_followed_into(place.path(), &named, directives, &names);
    }
}

#[test]
fn rotation_onto_another_filesystem_is_followed() {
    if is_missing() {
        return;
    }
    // Of memory, wherever the temporary directory is.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let named = place.path().display().to_string();
    is_followed_into(place.path(), &named, "rotate 2\nrenamecopy", &["app.log.1", "app.log.2"]);
    is_followed_into(place.path(), &named, "rotate 2\ncopytruncate\ncompress", &["app.log.1.gz", "app.log.2.gz"]);
}

#[test]
fn a_directory_below_that_of_the_log_is_followed_and_what_was_altered_on_the_way_told() {
    if is_missing() {
        return;
    }
    let mut host = Scene::host();
    host.olddir = Some("old".to_owned());
    let mut scene = Scene::of(host);
    scene.rotate("rotate 2\ncreate\nolddir old\ncreateolddir 755 root root");
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());
    scene.log_lines();
    scene.settle();
    scene.run("sed '3s/line/lIne/' app.log > old/app.log.0; rm app.log");
    let change = scene.alert_at("app.log");
    assert_eq!(change.kind, ChangeKind::Rewritten);
    assert!(change.notes[0].contains("old/app.log.0"), "{:?}", change.notes);
    scene.agent.stop();
}

/// The log with four rotated files, last written so many days ago, and logrotate's own configuration, which is watched. The
/// policy says nothing of how long they are kept.
fn ruled(directives: &str, days: [u64; 4]) -> Scene {
    Scene::of(ruled_host(directives, days))
}

fn ruled_host(directives: &str, days: [u64; 4]) -> Host {
    let mut host = Scene::host();
    for (n, days) in (1..).zip(days) {
        let date = Program::new("date").args(["-d", &format!("{days} days ago"), "+-%Y%m%d"]).output().unwrap().stdout;
        let date = String::from_utf8(date).unwrap();
        let tag = if directives.contains("dateext") { date.trim().to_owned() } else { format!(".{n}") };
        let name = format!("app.log{tag}");
        host.write(&name, &format!("what was said {days} days ago\n").repeat(3000));
        let touched = Program::new("touch").arg("-d").arg(format!("{days} days ago")).arg(host.at(&name)).status();
        assert!(touched.unwrap().success());
    }
    let (conf, dir) = (host.dir.path().join("logrotate.conf"), host.dir.path().join("logrotate.d"));
    fs::create_dir(&dir).unwrap();
    fs::write(&conf, format!("include {}\n", dir.display())).unwrap();
    fs::write(dir.join("app"), format!("{} {{\n{directives}\n}}\n", host.at("app.log").display())).unwrap();
    for file in [&conf, &dir.join("app")] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    host.watches.extend([(path(&conf), None), (path(&dir), None)]);
    host.logrotate = Some(conf);
    host
}

/// As `ruled`, with an agent that does not wait for the rotation to which a removal could belong.
fn ruled_at_once(directives: &str, days: [u64; 4]) -> Scene {
    let mut host = ruled_host(directives, days);
    host.rotation_wait = Duration::ZERO;
    Scene::of(host)
}

/// By the configuration that is watched, and not by one of the test's own.
fn run_logrotate(scene: &Scene) {
    let state = scene.host.dir.path().join("logrotate.state");
    let conf = scene.host.logrotate.as_ref().unwrap();
    let run = Program::new("logrotate").args(["--force", "--state"]).args([&state, conf]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn what_logrotates_own_configuration_lets_go_is_silent() {
    if is_missing() {
        return;
    }
    for (directives, left) in [
        ("weekly\nrotate 4\ncreate", 5),
        // The number was lowered since: logrotate does not come to the fourth any more.
        ("weekly\nrotate 2\ncreate", 4),
        ("weekly\nrotate 2\ncreate\ndateext", 3),
        ("weekly\nrotate 9\nmaxage 20\ncreate", 4),
    ] {
        let mut scene = ruled(directives, [7, 14, 21, 28]);
        run_logrotate(&scene);
        scene.settle();
        assert_eq!(scene.told(), Vec::<String>::new(), "{directives}");
        assert_eq!(scene.names().len(), left, "{directives}: {:?}", scene.names());
        scene.agent.stop();
    }
}

#[test]
fn what_goes_before_its_time_by_logrotates_configuration_is_told() {
    if is_missing() {
        return;
    }
    // Pushed out: rotated more often than each week.
    let mut scene = ruled("weekly\nrotate 4\ncreate", [1, 2, 3, 4]);
    run_logrotate(&scene);
    let change = scene.alert();
    assert_eq!((change.path.clone(), change.kind), (path(&scene.host.at("app.log.4")), ChangeKind::Rewritten));
    let told = scene.told();
    assert_eq!(told.len(), 1, "{told:?}");
    scene.agent.stop();
    // By hand, though it is old enough: fewer are left than are kept.
    let mut scene = ruled_at_once("daily\nrotate 4\ncreate", [7, 14, 21, 28]);
    scene.run("rm app.log.3 app.log.4");
    let change = scene.alert();
    assert_eq!(change.kind, ChangeKind::Removed);
    assert!(change.notes.iter().any(|note| note.contains("(daily, rotate 4)")), "{change:?}");
    scene.agent.stop();
}

#[test]
fn a_configuration_of_logrotate_is_believed_as_it_is_recorded_and_its_change_is_told_first() {
    if is_missing() {
        return;
    }
    let altered = |act: &str, is_told: bool| {
        let days = [70, 77, 84, 91];
        let mut scene = match act.contains("666") {
            true => ruled_at_once("weekly\nrotate 9\ncreate", days),
            false => ruled("weekly\nrotate 9\ncreate", days),
        };
        let conf = scene.host.dir.path().join("logrotate.d/app");
        let scene_path = path(&conf);
        scene.run(&act.replace("CONF", &conf.display().to_string()));
        if is_told {
            let told = scene.agent.one_change(&conf);
            assert_eq!((told.path, told.kind), (scene_path, ChangeKind::Modified));
        }
        scene
    };
    // Whoever lowers the number is told for that, and then it is what holds.
    let mut scene = altered("sed -i 's/rotate 9/rotate 1/' CONF", true);
    run_logrotate(&scene);
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());
    scene.agent.stop();
    // What others may write is not believed.
    let mut scene = altered("chmod 666 CONF; sed -i 's/rotate 9/rotate 1/' CONF", true);
    scene.run("rm app.log.3 app.log.4");
    assert_eq!(scene.alert_at("app.log.3").kind, ChangeKind::Removed);
    scene.agent.stop();
}
