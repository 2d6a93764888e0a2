//! What is booted: a kernel of Debian's archive, and an initrd with the tests, the programs they call, and what those are
//! linked with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::step::{command, output, run};

/// Debian 12's kernel for clouds.
const PACKAGES: &str = "^linux-image-6\\.1\\.0-[0-9]+-cloud-amd64$";
/// The crates with tests of sensors, and which of their tests.
const CRATES: [(&str, &str); 2] = [("tally-sys", "."), ("tally-agent", "^(sensor|engine|doctor|state)::")];
/// What tests call. What this machine lacks they do without, and say so.
const TOOLS: &[&str] = &[
    "fallocate",
    "logrotate",
    "sh",
    "bash",
    "cat",
    "cp",
    "mv",
    "ln",
    "rm",
    "dd",
    "tee",
    "sed",
    "env",
    "sleep",
    "true",
    "false",
    "touch",
    "mkdir",
    "mkfifo",
    "mount",
    "umount",
    "unshare",
    "nsenter",
    "setsid",
    "losetup",
    "chattr",
    "lsattr",
    "setfattr",
    "setfacl",
    "mkfs.ext4",
    "mkfs.xfs",
    "btrfs",
    "mkfs.btrfs",
    "auditd",
    "auditctl",
    "debugfs",
    "gzip",
    "xz",
    "zstd",
    "bzip2",
    "stat",
];
/// In the place of a compiler: gives the program that was compiled here.
const COMPILER: &str = "\
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -o) to=$2; shift ;;
    *.c) from=$1 ;;
    esac
    shift
done
exec cp /tests/c/$(basename \"$from\" .c) \"$to\"
";
/// Modules that filesystems of tests need.
const MODULES: &[&str] =
    &["kernel/fs", "kernel/lib", "kernel/crypto", "kernel/drivers/block", "kernel/arch/x86/crypto"];

#[derive(Debug)]
pub struct Kernel {
    pub release: String,
    pub image: PathBuf,
    /// The package, unpacked.
    tree: PathBuf,
}

/// A program of tests, under the name by which the report calls it.
#[derive(Debug)]
pub struct Program {
    name: String,
    file: PathBuf,
    /// Which of its tests; `None` of a program that is none of tests.
    pattern: Option<&'static str>,
}

/// Builds the tests, and the agent.
pub fn programs(root: &Path) -> anyhow::Result<Vec<Program>> {
    let mut programs = Vec::new();
    for (package, pattern) in CRATES {
        let words = ["test", "--no-run", "--locked", "-p", package, "--message-format", "json"];
        for (name, kind, file) in built(&output(&mut command(root, "cargo", &words))?) {
            if kind == "lib" || kind == "test" {
                programs.push(Program { name: format!("{package}-{name}"), file, pattern: Some(pattern) });
            }
        }
    }
    let words = ["build", "--locked", "-p", "tally-agent", "--bin", "tally-agent", "--message-format", "json"];
    let agent = built(&output(&mut command(root, "cargo", &words))?).pop().context("cargo built no tally-agent")?;
    programs.push(Program { name: "tally-agent".to_owned(), file: agent.2, pattern: None });
    ensure!(programs.len() > 2, "cargo built no tests");
    Ok(programs)
}

/// Name, kind and place of each program in cargo's messages.
fn built(messages: &str) -> Vec<(String, String, PathBuf)> {
    let of_line = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let file = PathBuf::from(message["executable"].as_str()?);
        let target = &message["target"];
        Some((target["name"].as_str()?.to_owned(), target["kind"][0].as_str()?.to_owned(), file))
    };
    messages.lines().filter_map(of_line).collect()
}

/// Downloads the newest kernel that the archive has, unless it is here.
pub fn kernel(dir: &Path) -> anyhow::Result<Kernel> {
    let found = output(&mut command(dir, "apt-cache", &["search", "--names-only", PACKAGES]))?;
    let number = |package: &str| package.split('-').nth(3).and_then(|n| n.parse::<u32>().ok());
    let package = found
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|package| number(package))
        .context("the archive has no kernel 6.1 for clouds: try apt-get update")?;
    let release = package.strip_prefix("linux-image-").unwrap_or(package).to_owned();
    let tree = dir.join(&release);
    if !tree.exists() {
        run(&mut command(dir, "apt-get", &["download", "-q", package]))?;
        let archive = files(dir)?.into_iter().find(|f| name_of(f).starts_with(&format!("{package}_")));
        let archive = archive.context("apt-get downloaded nothing")?;
        let unpacked = dir.join("unpacked");
        run(&mut command(dir, "dpkg-deb", &["-x", &archive.display().to_string(), &unpacked.display().to_string()]))?;
        fs::remove_file(archive)?;
        fs::rename(unpacked, &tree)?;
    }
    Ok(Kernel { image: tree.join(format!("boot/vmlinuz-{release}")), release, tree })
}

/// Writes the initrd.
pub fn initrd(root: &Path, dir: &Path, kernel: &Kernel, programs: &[Program], filter: &str) -> anyhow::Result<PathBuf> {
    let tree = tempfile::tempdir_in(dir)?;
    let image = Image { root: tree.path() };
    image.directories()?;
    image.copy(Path::new("/usr/bin/busybox"), Path::new("usr/bin/busybox"))?;
    let mut plan = String::new();
    for Program { name, file, pattern } in programs {
        let to = Path::new("tests").join(name);
        image.program(file, &to)?;
        // What a debugger needs is most of it, and it all lies in memory.
        run(&mut command(root, "strip", &["--strip-debug", &image.root.join(to).display().to_string()]))?;
        if let Some(pattern) = pattern {
            plan.push_str(&format!("{name} {pattern}\n"));
        }
    }
    for tool in TOOLS {
        if let Some(file) = find(tool) {
            image.program(&file, &Path::new("usr/bin").join(tool))?;
        }
    }
    image.acting_programs(root)?;
    image.modules(kernel)?;
    fs::write(image.root.join("tests/plan"), plan)?;
    fs::write(image.root.join("filter"), filter)?;
    let init = image.root.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let file = dir.join("initrd");
    let pack = format!("busybox find . | busybox cpio -o -H newc > '{}' 2>/dev/null", file.display());
    run(&mut command(image.root, "busybox", &["sh", "-c", &pack]))?;
    Ok(file)
}

/// The tree that becomes the initrd.
struct Image<'t> {
    root: &'t Path,
}

impl Image<'_> {
    fn directories(&self) -> anyhow::Result<()> {
        for dir in ["usr/bin", "usr/lib", "usr/lib64", "tests", "etc/audit"] {
            fs::create_dir_all(self.root.join(dir))?;
        }
        for (link, to) in
            [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("usr/sbin", "bin")]
        {
            symlink(to, self.root.join(link))?;
        }
        for (file, text) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ] {
            fs::write(self.root.join(file), text)?;
        }
        Ok(())
    }

    /// A program with all that it is linked with, at the places where its loader looks.
    fn program(&self, file: &Path, to: &Path) -> anyhow::Result<()> {
        self.copy(file, to)?;
        // A static program, or a script, has none; what ldd says of it is no list.
        let linked = command(self.root, "ldd", &[&file.display().to_string()]).output().context("run ldd")?;
        for library in String::from_utf8_lossy(&linked.stdout).lines().filter_map(library) {
            self.copy(&library, library.strip_prefix("/").unwrap_or(&library))?;
        }
        Ok(())
    }

    fn copy(&self, file: &Path, to: &Path) -> anyhow::Result<()> {
        let to = self.root.join(to);
        if to.exists() {
            return Ok(());
        }
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
        Ok(())
    }

    /// What tests have compiled when they run.
    fn acting_programs(&self, root: &Path) -> anyhow::Result<()> {
        let programs = self.root.join("tests/c");
        fs::create_dir_all(&programs)?;
        for source in all_files(&root.join("crates/agent/src"))?.iter().filter(|f| name_of(f).ends_with(".c")) {
            let to = programs.join(name_of(source).trim_end_matches(".c"));
            let words = ["-O1", "-static", "-o", &to.display().to_string(), &source.display().to_string()];
            run(&mut command(root, "cc", &words))?;
        }
        let compiler = self.root.join("usr/bin/cc");
        fs::write(&compiler, COMPILER)?;
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn modules(&self, kernel: &Kernel) -> anyhow::Result<()> {
        let from = kernel.tree.join("lib/modules").join(&kernel.release);
        let below = Path::new("lib/modules").join(&kernel.release);
        for part in MODULES {
            for file in all_files(&from.join(part))? {
                self.copy(&file, &below.join(file.strip_prefix(&from)?))?;
            }
        }
        for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            self.copy(&from.join(list), &below.join(list))?;
        }
        run(&mut command(self.root, "busybox", &["depmod", "-b", &self.root.display().to_string(), &kernel.release]))
    }
}

/// The path in a line `libc.so.6 => /lib/x/libc.so.6 (0x7f…)` or `/lib64/ld-linux.so.2 (0x7f…)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
    line.contains("(0x").then(|| PathBuf::from(path))
}

/// Where this machine has the program.
fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().map(|dir| Path::new(dir).join(program)).find(|f| f.exists())
}

fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        files.push(entry?.path());
    }
    Ok(files)
}

fn all_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut open, mut all) = (vec![dir.to_owned()], Vec::new());
    while let Some(dir) = open.pop().filter(|dir| dir.exists()) {
        let (dirs, files): (Vec<_>, Vec<_>) = files(&dir)?.into_iter().partition(|path| path.is_dir());
        open.extend(dirs);
        all.extend(files);
    }
    Ok(all)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_is_linked_with_is_found() {
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6".into())
        );
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2".into()));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(library("\tnot a dynamic executable"), None);
    }

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tally_sys"},"executable":"/t/a-1"}
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"libc"},"executable":null}
{"reason":"build-finished","success":true}"#;
        assert_eq!(built(messages), [("tally_sys".into(), "lib".into(), PathBuf::from("/t/a-1"))]);
    }
}
