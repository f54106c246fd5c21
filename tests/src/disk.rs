//! A small file system for a server whose disk must fill up. It lies in memory, and needs root, since nobody else may
//! mount one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Large enough for a cluster and all that a short test writes.
const MEGABYTES: u32 = 256;

pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts a disk over an empty folder.
    pub fn mount(at: &Path) -> Disk {
        let options = format!("size={MEGABYTES}m,mode=0755");
        let mounted =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "optimist-tests"]).arg(at));
        assert!(mounted, "cannot mount a file system at {}", at.display());
        Disk { at: at.to_owned() }
    }

    /// Whether this process may mount a disk.
    pub fn is_possible() -> bool {
        let folder = crate::stores::folder();
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "optimist-tests"]).arg(folder.path()));
        mounted && run(Command::new("umount").arg(folder.path()))
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.ballast()).expect("a file");
        for length in [1 << 20, 4 << 10, 1] {
            let bytes = vec![0; length];
            while ballast.write_all(&bytes).is_ok() {}
        }
    }

    /// Frees the space that [`Disk::fill`] took.
    pub fn relieve(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, since killed processes may still exist.
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
