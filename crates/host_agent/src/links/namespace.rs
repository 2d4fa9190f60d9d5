//! Named network namespaces, as `ip netns` keeps them: a file in /run/netns with the namespace
//! mounted on it.
//!
//! A thread that enters a namespace never comes back: each entry has a thread of its own, so that
//! no other work of the process can find itself on the wrong network.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` looks.
const DIRECTORY: &str = "/run/netns";

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// Opens a namespace by name; `None` when there is none.
    pub fn open(name: &str) -> io::Result<Option<Self>> {
        let path = path(name)?;
        match File::open(&path) {
            Ok(file) if is_namespace(&path)? => Ok(Some(Namespace { file })),
            // A file without a mount: left by a machine that went down half-way.
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a namespace of this name with its loopback up.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = path(name)?;
        fs::create_dir_all(DIRECTORY)?;
        share_directory()?;
        File::create(&path)?;
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            let mut netlink = super::netlink::Netlink::open()?;
            let change = super::netlink::LinkChange { up: true, ..Default::default() };
            netlink.set_link(1, change)
        });
        if let Err(e) = made {
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        Ok(Namespace { file: File::open(&path)? })
    }

    /// Removes the name. The namespace itself ends when nothing is in it or holds it open.
    pub fn remove(name: &str) -> io::Result<()> {
        let path = path(name)?;
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Runs `work` inside, on a thread that ends with it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn path(name: &str) -> io::Result<PathBuf> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !name.starts_with('.');
    if fits {
        Ok(Path::new(DIRECTORY).join(name))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a namespace name (letters, digits, dash, dot, underscore)"),
        ))
    }
}

/// Mounts in the directory must be seen in every mount namespace, or a process that lives in
/// another one keeps a removed namespace alive.
fn share_directory() -> io::Result<()> {
    let shared = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, DIRECTORY, None::<&str>, flags, None::<&str>)
    };
    match shared() {
        Ok(()) => Ok(()),
        Err(nix::Error::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>)?;
            Ok(shared()?)
        }
        Err(e) => Err(e.into()),
    }
}

/// Namespace files live on their own kind of file system.
fn is_namespace(path: &Path) -> io::Result<bool> {
    let kind = nix::sys::statfs::statfs(path)?.filesystem_type();
    Ok(kind == nix::sys::statfs::NSFS_MAGIC)
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}
