//! The operating system's randomness and time, as this process sees them: real until a run begins
//! on a thread, and the seed's from then on.
//!
//! The dynamic linker resolves these names in the program first, so that every library in the
//! process gets these instead of the C library's.

use std::cell::Cell;

thread_local! {
    /// The state of the generator; 0 while no run is under way on this thread.
    static STATE: Cell<u64> = const { Cell::new(0) };
    /// The real monotonic clock at the beginning of the run, in nanoseconds.
    static BASE: Cell<i64> = const { Cell::new(0) };
}

/// From now on this thread's randomness and time are the run's.
pub fn begin(seed: u64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) };
    BASE.set(now.tv_sec * 1_000_000_000 + now.tv_nsec);
    STATE.set(seed.wrapping_mul(2).wrapping_add(1));
}

fn next(state: &Cell<u64>) -> u64 {
    // SplitMix64: small, and good enough for keys of hash maps and identifiers.
    let advanced = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(if advanced == 0 { 1 } else { advanced });
    let mixed = (advanced ^ (advanced >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Replaces the C library's `getrandom`.
///
/// # Safety
/// As for the C library's: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    STATE.with(|state| {
        if state.get() == 0 {
            // SAFETY: the caller's own arguments, handed on.
            return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
        }
        // SAFETY: the caller says that there is room.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        for chunk in bytes.chunks_mut(8) {
            let random = next(state).to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        length.cast_signed()
    })
}

/// Replaces the C library's `clock_gettime`.
///
/// # Safety
/// As for the C library's: `time` is a timespec.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let simulated = STATE.with(Cell::get) != 0;
    let nanos = match clock {
        libc::CLOCK_REALTIME if simulated => {
            simulation::clock::BEGIN.0 * 1000 + simulation::clock::passed_nanos()
        }
        libc::CLOCK_MONOTONIC if simulated => {
            BASE.with(Cell::get) + simulation::clock::passed_nanos()
        }
        // SAFETY: the caller's own arguments, handed on.
        _ => return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int },
    };
    // SAFETY: the caller says that it is a timespec.
    unsafe {
        (*time).tv_sec = nanos.div_euclid(1_000_000_000);
        (*time).tv_nsec = nanos.rem_euclid(1_000_000_000);
    }
    0
}
