//! Stands between SQLite and the operating system: passes everything on, and writes down what would
//! change a disk. And a disk, as a power cut may leave it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;
use rusqlite::ffi;

/// A disk writes so much at once or not at all.
const SECTOR: usize = 512;

/// Something that happened, in order. Files by their name without directory.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes were written.
    Written { file: String, at: usize, bytes: Vec<u8> },
    /// The file was cut or made longer.
    Sized { file: String, size: usize },
    /// Everything written to the file before is on the disk.
    Synced { file: String },
    /// The file was removed; durably or not.
    Removed { file: String, durable: bool },
    /// What was removed before is removed on the disk: SQLite syncs the directory with the first
    /// sync of a log that it has made.
    DirectorySynced,
    /// A caller was told that its transaction is stored.
    Acknowledged(String),
}

static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());
static RECORDING: AtomicBool = AtomicBool::new(false);
/// The operating system's own.
static REAL: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());

/// Writes an event down.
pub fn note(event: Event) {
    if RECORDING.load(Ordering::SeqCst) {
        EVENTS.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Ends the recording.
pub fn take() -> Vec<Event> {
    RECORDING.store(false, Ordering::SeqCst);
    std::mem::take(&mut EVENTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// An open file: ours, with SQLite's own right behind it.
#[repr(C)]
struct Recorded {
    base: ffi::sqlite3_file,
    /// A boxed name, or null for a file without one.
    name: *mut String,
    /// Not 0 for a log that was made and not synced yet.
    fresh: usize,
}

fn real_vfs() -> *mut ffi::sqlite3_vfs {
    REAL.load(Ordering::SeqCst)
}

/// SQLite's own part of an open file.
fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite allocates szOsFile bytes for a file, which is our size and the real one's;
    // ours is a multiple of the alignment of pointers, which is all that the real one needs.
    unsafe { file.cast::<u8>().add(size_of::<Recorded>()).cast() }
}

fn name_of(file: *mut ffi::sqlite3_file) -> Option<String> {
    // SAFETY: `open` has filled in `name` before SQLite calls any method of the file.
    unsafe { (*file.cast::<Recorded>()).name.as_ref().cloned() }
}

fn methods(file: *mut ffi::sqlite3_file) -> &'static ffi::sqlite3_io_methods {
    // SAFETY: a file that was opened has methods, which are static in SQLite.
    unsafe { &*(*real(file)).pMethods }
}

/// Records in place of the operating system from now on.
pub fn install() {
    // SAFETY: the default VFS exists once SQLite is initialised, is never freed, and its fields may
    // be copied; the copy is leaked, as SQLite keeps a pointer to it for ever.
    unsafe {
        assert_eq!(ffi::sqlite3_initialize(), ffi::SQLITE_OK);
        let system = ffi::sqlite3_vfs_find(ptr::null());
        assert!(!system.is_null());
        REAL.store(system, Ordering::SeqCst);
        let mut own = *system;
        own.zName = c"recorder".as_ptr();
        own.pNext = ptr::null_mut();
        own.szOsFile += c_int::try_from(size_of::<Recorded>()).unwrap();
        own.xOpen = Some(open);
        own.xDelete = Some(delete);
        let own = Box::leak(Box::new(own));
        assert_eq!(ffi::sqlite3_vfs_register(own, 1), ffi::SQLITE_OK);
    }
    RECORDING.store(true, Ordering::SeqCst);
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a file of our size and a path that is null or a C string; the real VFS is
    // given its own part of the file.
    unsafe {
        let Some(real_open) = (*real_vfs()).xOpen else { return ffi::SQLITE_ERROR };
        let log = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        let made =
            log && !path.is_null() && !Path::new(&*CStr::from_ptr(path).to_string_lossy()).exists();
        let answer = real_open(real_vfs(), path, real(file), flags, out);
        let recorded = file.cast::<Recorded>();
        (*recorded).name = ptr::null_mut();
        (*recorded).base.pMethods = ptr::null();
        (*recorded).fresh = usize::from(made);
        if answer == ffi::SQLITE_OK {
            (*recorded).base.pMethods = &raw const METHODS;
            if !path.is_null() {
                (*recorded).name = Box::into_raw(Box::new(short(path)));
            }
        }
        answer
    }
}

/// The name without its directory.
fn short(path: *const c_char) -> String {
    // SAFETY: the caller has a C string.
    let text = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    // SAFETY: the arguments are SQLite's own, passed on.
    unsafe {
        let Some(real_delete) = (*real_vfs()).xDelete else { return ffi::SQLITE_ERROR };
        let answer = real_delete(real_vfs(), path, sync);
        if answer == ffi::SQLITE_OK {
            note(Event::Removed { file: short(path), durable: sync != 0 });
        }
        answer
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once; the name was boxed by `open`.
    unsafe {
        let recorded = file.cast::<Recorded>();
        if !(*recorded).name.is_null() {
            drop(Box::from_raw((*recorded).name));
            (*recorded).name = ptr::null_mut();
        }
        methods(file).xClose.map_or(ffi::SQLITE_ERROR, |call| call(real(file)))
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `count` readable bytes.
    unsafe {
        let answer = methods(file)
            .xWrite
            .map_or(ffi::SQLITE_ERROR, |call| call(real(file), from, count, at));
        if answer == ffi::SQLITE_OK
            && let Some(name) = name_of(file)
        {
            let count = usize::try_from(count).unwrap_or_default();
            let bytes = std::slice::from_raw_parts(from.cast::<u8>(), count).to_vec();
            note(Event::Written { file: name, at: usize::try_from(at).unwrap_or_default(), bytes });
        }
        answer
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the arguments are SQLite's own, passed on.
    unsafe {
        let answer =
            methods(file).xTruncate.map_or(ffi::SQLITE_ERROR, |call| call(real(file), size));
        if answer == ffi::SQLITE_OK
            && let Some(name) = name_of(file)
        {
            note(Event::Sized { file: name, size: usize::try_from(size).unwrap_or_default() });
        }
        answer
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // Not passed on: what is synced is what this disk says, and the test is faster for it.
    let _ = flags;
    if let Some(name) = name_of(file) {
        note(Event::Synced { file: name });
        // SAFETY: `open` has filled the field in, and SQLite uses a file from one thread at a time.
        let fresh = unsafe { std::mem::take(&mut (*file.cast::<Recorded>()).fresh) };
        if fresh != 0 {
            note(Event::DirectorySynced);
        }
    }
    ffi::SQLITE_OK
}

/// Methods that only pass their arguments on.
macro_rules! pass_on {
    ($($name:ident = $method:ident($($argument:ident: $kind:ty),*) -> $result:ty, $otherwise:expr;)*) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($argument: $kind),*) -> $result {
            // SAFETY: the arguments are SQLite's own, passed on to the real part of the file.
            unsafe { methods(file).$method.map_or($otherwise, |call| call(real(file), $($argument),*)) }
        })*
    };
}

pass_on! {
    read = xRead(to: *mut c_void, count: c_int, at: ffi::sqlite3_int64) -> c_int, ffi::SQLITE_ERROR;
    file_size = xFileSize(size: *mut ffi::sqlite3_int64) -> c_int, ffi::SQLITE_ERROR;
    lock = xLock(level: c_int) -> c_int, ffi::SQLITE_ERROR;
    unlock = xUnlock(level: c_int) -> c_int, ffi::SQLITE_ERROR;
    reserved = xCheckReservedLock(out: *mut c_int) -> c_int, ffi::SQLITE_ERROR;
    control = xFileControl(what: c_int, with: *mut c_void) -> c_int, ffi::SQLITE_NOTFOUND;
    sector = xSectorSize() -> c_int, 4096;
    characteristics = xDeviceCharacteristics() -> c_int, 0;
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int, ffi::SQLITE_ERROR;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int, ffi::SQLITE_ERROR;
    shm_barrier = xShmBarrier() -> (), ();
    shm_unmap = xShmUnmap(remove: c_int) -> c_int, ffi::SQLITE_ERROR;
    fetch = xFetch(at: ffi::sqlite3_int64, count: c_int, out: *mut *mut c_void) -> c_int, ffi::SQLITE_ERROR;
    unfetch = xUnfetch(at: ffi::sqlite3_int64, what: *mut c_void) -> c_int, ffi::SQLITE_ERROR;
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

/// Whether a disk keeps what it says it has synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    Hold,
    Lie,
}

/// What files hold after a cut.
pub struct Disk(BTreeMap<String, Vec<u8>>);

impl Disk {
    /// The disk after these events and a cut: of what was not synced, each change is there or not,
    /// and a write perhaps in part.
    pub fn at(events: &[Event], syncs: Syncs, random: &mut StdRng) -> Disk {
        let mut disk = Disk(BTreeMap::new());
        let mut pending: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in events {
            match event {
                Event::Written { file, .. } | Event::Sized { file, .. } => {
                    pending.entry(file).or_default().push(event);
                }
                Event::Removed { file, durable } => {
                    if *durable {
                        pending.remove(file.as_str());
                        disk.0.remove(file);
                    } else {
                        pending.entry(file).or_default().push(event);
                    }
                }
                Event::Synced { file } if syncs == Syncs::Hold => {
                    for change in pending.remove(file.as_str()).into_iter().flatten() {
                        disk.apply(change, None);
                    }
                }
                Event::DirectorySynced if syncs == Syncs::Hold => {
                    for (file, changes) in &mut pending {
                        let last = changes
                            .iter()
                            .rposition(|change| matches!(change, Event::Removed { .. }));
                        if let Some(last) = last {
                            changes.drain(..=last);
                            disk.0.remove(*file);
                        }
                    }
                }
                Event::Synced { .. } | Event::DirectorySynced | Event::Acknowledged(_) => {}
            }
        }
        // A disk may have written all of it, none, or any part.
        let share = [0.0, 0.2, 0.5, 0.9, 1.0][random.random_range(0..5)];
        let mut files: Vec<_> = pending.into_iter().collect();
        files.sort_by_key(|(file, _)| (*file).to_owned());
        for change in files.into_iter().flat_map(|(_, changes)| changes) {
            if random.random_bool(share) {
                disk.apply(change, Some(random));
            }
        }
        disk
    }

    fn apply(&mut self, change: &Event, mut torn: Option<&mut StdRng>) {
        match change {
            Event::Written { file, at, bytes } => {
                let content = self.0.entry(file.clone()).or_default();
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                let tears = torn.as_mut().is_some_and(|random| random.random_bool(0.3));
                let Some(random) = torn.filter(|_| tears) else {
                    content[*at..end].copy_from_slice(bytes);
                    return;
                };
                let mut from = *at;
                while from < end {
                    let to = ((from / SECTOR + 1) * SECTOR).min(end);
                    if random.random_bool(0.5) {
                        content[from..to].copy_from_slice(&bytes[from - at..to - at]);
                    }
                    from = to;
                }
            }
            Event::Sized { file, size } => {
                self.0.entry(file.clone()).or_default().resize(*size, 0);
            }
            Event::Removed { file, .. } => {
                self.0.remove(file);
            }
            Event::Synced { .. } | Event::DirectorySynced | Event::Acknowledged(_) => {}
        }
    }

    /// Writes the files into a directory.
    pub fn put_together(&self, directory: &Path) {
        for (file, content) in &self.0 {
            std::fs::write(directory.join(file), content).unwrap();
        }
    }
}
