//! A control group for each guest: accounting, a bound on processes, and a generous bound on
//! memory against leaks. Best effort on both hierarchies of the kernel: a machine without, or an
//! agent that may not write there, runs guests in the agent's own group, and says so once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// QEMU's own threads besides virtual processors: the main loop, its storage pool, RCU, monitors.
const QEMU_THREADS: u32 = 200;
/// QEMU's own memory besides the guest's: a floor, and a share for page tables and devices.
const QEMU_MEMORY_MIB: u64 = 1024;

/// The control groups of one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// Where a guest's groups are. `owner` keeps two hosts on one machine apart.
    pub fn of(owner: &str, server_id: &str) -> Cgroup {
        Cgroup::below(Path::new(ROOT), owner, server_id)
    }

    fn below(root: &Path, owner: &str, server_id: &str) -> Cgroup {
        let name = Path::new(owner).join(server_id);
        let directories = if root.join("cgroup.controllers").exists() {
            vec![root.join(name)]
        } else {
            ["memory", "pids", "cpu"]
                .iter()
                .map(|controller| root.join(controller))
                .filter(|directory| directory.join("cgroup.procs").exists())
                .map(|directory| directory.join(&name))
                .collect()
        };
        Cgroup { directories }
    }

    /// Makes the groups with their limits and opens the files that a process enters them by.
    pub fn prepare(&self, vcpus: u32, memory_mib: u64) -> io::Result<Vec<File>> {
        let threads = (QEMU_THREADS + vcpus).to_string();
        let memory =
            (memory_mib + memory_mib / 4 + QEMU_MEMORY_MIB).saturating_mul(1 << 20).to_string();
        let mut entrances = Vec::new();
        for directory in &self.directories {
            if let (Some(owner), Some(root)) =
                (directory.parent(), directory.parent().and_then(Path::parent))
            {
                std::fs::create_dir_all(owner)?;
                // Version 2 hands controllers down one level at a time. On version 1 there is no
                // such file, and nothing to do.
                for level in [root, owner] {
                    let control = level.join("cgroup.subtree_control");
                    if control.exists() {
                        let _ = std::fs::write(control, "+memory +pids +cpu");
                    }
                }
            }
            match std::fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            for (file, value) in [
                ("pids.max", &threads),
                ("memory.max", &memory),
                ("memory.limit_in_bytes", &memory),
            ] {
                let path = directory.join(file);
                if path.exists() {
                    std::fs::write(path, value)?;
                }
            }
            entrances.push(File::options().write(true).open(directory.join("cgroup.procs"))?);
        }
        Ok(entrances)
    }

    /// Removes the groups of a guest that has ended. A group that still holds a process stays.
    pub fn remove(&self) {
        for directory in &self.directories {
            match std::fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(path = %directory.display(), %error, "a control group stays");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("pids")).unwrap();
        std::fs::write(root.join("pids/cgroup.procs"), "").unwrap();
        assert_eq!(Cgroup::below(root, "m", "a").directories, vec![root.join("pids/m/a")]);
        std::fs::write(root.join("cgroup.controllers"), "memory pids").unwrap();
        assert_eq!(Cgroup::below(root, "m", "a").directories, vec![root.join("m/a")]);
    }

    #[test]
    fn limits_are_written_where_they_exist() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("cgroup.controllers"), "memory pids").unwrap();
        let group = Cgroup::below(root, "m", "a");
        std::fs::create_dir_all(root.join("m/a")).unwrap();
        for file in ["pids.max", "memory.max", "cgroup.procs"] {
            std::fs::write(root.join("m/a").join(file), "").unwrap();
        }
        assert_eq!(group.prepare(2, 256).unwrap().len(), 1);
        let read = |file: &str| std::fs::read_to_string(root.join("m/a").join(file)).unwrap();
        assert_eq!(read("pids.max"), "202");
        assert_eq!(read("memory.max"), (1344u64 << 20).to_string());
    }
}
