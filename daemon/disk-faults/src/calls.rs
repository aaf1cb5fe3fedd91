//! The functions of libc that this library takes the place of: those by which SQLite, Rust's standard library and the
//! programs under test change files.
//!
//! Their names and arguments are libc's. `open` is variadic there; here it always takes a mode, which every
//! calling convention of 64-bit Linux passes in a register like any third argument, and the kernel looks at only where
//! a file is made.

use std::path::Path;

use libc::{c_char, c_int, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};

use crate::faults::{Kind, Verdict, verdict};
use crate::place;
use crate::raw::{self, Answer};
use crate::trace::{Change, Recorder, recorder};

/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: size_t = 512;

/// Makes a call that writes nothing: judged first, then made, and recorded if it went well.
fn make<'a>(
    kind: Kind,
    name: &Path,
    call: impl FnOnce() -> Answer,
    change: impl FnOnce() -> Option<Change<'a>>,
) -> Answer {
    let verdict = verdict(kind, name);
    let recorder = recorder();
    let answer = match verdict {
        Verdict::Fail(errno) => raw::fail(errno),
        _ => call(),
    };
    if answer >= 0 {
        record(recorder.as_ref(), change());
    }
    answer
}

fn record(recorder: Option<&Recorder>, change: Option<Change<'_>>) {
    if let Some((recorder, change)) = recorder.zip(change) {
        recorder.record(change);
    }
}

/// Makes a call that writes `count` bytes: `call` is told how many of them. Where they came to lie, and what they
/// are, is asked afterwards.
fn make_write(
    file: c_int,
    count: size_t,
    call: impl FnOnce(size_t) -> Answer,
    written: impl FnOnce(usize) -> (u64, Vec<u8>),
) -> Answer {
    let Some(name) = place::of_file(file) else { return call(count) };
    let verdict = verdict(Kind::Write, &name);
    let recorder = recorder();
    let answer = match verdict {
        Verdict::Fail(errno) => return raw::fail(errno),
        Verdict::Pass => call(count),
        Verdict::Short => call(count.div_ceil(2)),
        Verdict::Torn => call(count / 2 / SECTOR_BYTES * SECTOR_BYTES),
    };
    if let Some(length) = usize::try_from(answer).ok().filter(|length| *length > 0)
        && recorder.is_some()
    {
        let (offset, bytes) = written(length);
        record(recorder.as_ref(), Some(Change::Written(&name, offset, bytes)));
    }
    if verdict == Verdict::Torn { raw::fail(libc::EIO) } else { answer }
}

/// What a file system call answers, in libc's type for it.
fn int(answer: Answer) -> c_int {
    c_int::try_from(answer).unwrap_or(-1)
}

unsafe fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the arguments are our caller's, as it would give them to libc.
    let call = || unsafe { raw::openat(directory, path, flags, mode) };
    // SAFETY: as above.
    let Some(name) = (unsafe { place::of_path(directory, path) }) else { return int(call()) };
    // SAFETY: as above.
    let was_there =
        flags & libc::O_CREAT == 0 || unsafe { libc::faccessat(directory, path, libc::F_OK, 0) } == 0;
    let emptied = flags & libc::O_TRUNC != 0 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    let change = || match (was_there, emptied) {
        (false, _) => Some(Change::Created(&name)),
        (true, true) => Some(Change::Resized(&name, 0)),
        (true, false) => None,
    };
    int(make(Kind::Open, &name, call, change))
}

/// libc's `open`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

/// libc's `open64`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

/// libc's `openat`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { open_at(directory, path, flags, mode) }
}

/// libc's `openat64`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { open_at(directory, path, flags, mode) }
}

/// Makes a call that reads.
fn make_read(file: c_int, call: impl FnOnce() -> Answer) -> Answer {
    let failed = place::of_file(file).map(|name| verdict(Kind::Read, &name));
    match failed {
        Some(Verdict::Fail(errno)) => raw::fail(errno),
        _ => call(),
    }
}

/// libc's `read`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(file: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: our caller's promise.
    make_read(file, || unsafe { raw::read(file, bytes, count) })
}

/// libc's `pread`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(file: c_int, bytes: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: our caller's promise.
    make_read(file, || unsafe { raw::pread(file, bytes, count, offset) })
}

/// libc's `pread64`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(file: c_int, bytes: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: our caller's promise.
    unsafe { pread(file, bytes, count, offset) }
}

/// libc's `write`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: our caller's promise, for fewer bytes at most.
    let call = |count| unsafe { raw::write(file, bytes, count) };
    // SAFETY: the kernel has taken so many bytes from there.
    make_write(file, count, call, |length| (offset_before(file, length), unsafe { copy(bytes, length) }))
}

/// libc's `pwrite`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(file: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: our caller's promise, for fewer bytes at most.
    let call = |count| unsafe { raw::pwrite(file, bytes, count, offset) };
    // SAFETY: the kernel has taken so many bytes from there.
    make_write(file, count, call, |length| (offset.cast_unsigned(), unsafe { copy(bytes, length) }))
}

/// libc's `pwrite64`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: our caller's promise.
    unsafe { pwrite(file, bytes, count, offset) }
}

/// libc's `writev`. It is cut short between pieces.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(file: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: our caller's promise, for fewer pieces at most.
    let call =
        |count: size_t| unsafe { raw::writev(file, pieces, c_int::try_from(count).unwrap_or(c_int::MAX)) };
    let written = |length: usize| {
        let mut bytes = Vec::with_capacity(length);
        let mut piece = pieces;
        while bytes.len() < length {
            // SAFETY: the kernel has taken `length` bytes from these pieces, so this one is there, with its bytes.
            unsafe {
                bytes.extend(copy((*piece).iov_base, (*piece).iov_len.min(length - bytes.len())));
                piece = piece.add(1);
            }
        }
        (offset_before(file, length), bytes)
    };
    make_write(file, usize::try_from(count).unwrap_or(0), call, written)
}

/// Where a write began that has just ended.
fn offset_before(file: c_int, length: usize) -> u64 {
    // SAFETY: it moves nothing and takes no pointer.
    let after = unsafe { libc::lseek(file, 0, libc::SEEK_CUR) };
    u64::try_from(after).unwrap_or(0).saturating_sub(length as u64)
}

/// # Safety
/// There must be so many bytes.
unsafe fn copy(bytes: *const c_void, length: usize) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec()
}

/// libc's `ftruncate`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(file: c_int, length: off_t) -> c_int {
    // SAFETY: no pointers.
    let call = || unsafe { raw::ftruncate(file, length) };
    let Some(name) = place::of_file(file) else { return int(call()) };
    int(make(Kind::Truncate, &name, call, || Some(Change::Resized(&name, length.cast_unsigned()))))
}

/// libc's `ftruncate64`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, length: off_t) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { ftruncate(file, length) }
}

/// libc's `fallocate`, which lengthens a file at most: what is reserved shows in no image.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(file: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: no pointers.
    let call = || unsafe { raw::fallocate(file, mode, offset, length) };
    let Some(name) = place::of_file(file) else { return int(call()) };
    int(make(Kind::Truncate, &name, call, || Some(Change::Resized(&name, length_of(file)?))))
}

fn length_of(file: c_int) -> Option<u64> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place is large enough, and read only if the call filled it.
    let status = unsafe {
        if libc::fstat(file, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    u64::try_from(status.st_size).ok()
}

fn make_sync(file: c_int, call: impl FnOnce() -> Answer) -> c_int {
    let Some(name) = place::of_file(file) else { return int(call()) };
    let verdict = verdict(Kind::Sync, &name);
    let recorder = recorder();
    let answer = match verdict {
        Verdict::Fail(errno) => raw::fail(errno),
        _ => call(),
    };
    let change = if answer >= 0 { Change::Synced(&name) } else { Change::SyncFailed(&name) };
    record(recorder.as_ref(), Some(change));
    if let Verdict::Fail(errno) = verdict {
        raw::fail(errno);
    }
    int(answer)
}

/// libc's `fsync`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    // SAFETY: no pointers.
    make_sync(file, || unsafe { raw::fsync(file) })
}

/// libc's `fdatasync`. It leaves out times alone, which are no part of an image.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    // SAFETY: no pointers.
    make_sync(file, || unsafe { raw::fdatasync(file) })
}

unsafe fn remove(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: our caller's promise.
    let call = || unsafe { raw::unlinkat(directory, path, flags) };
    // SAFETY: as above.
    let Some(name) = (unsafe { place::of_path(directory, path) }) else { return int(call()) };
    int(make(Kind::Name, &name, call, || Some(Change::Removed(&name))))
}

/// libc's `unlink`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { remove(libc::AT_FDCWD, path, 0) }
}

/// libc's `unlinkat`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { remove(directory, path, flags) }
}

/// libc's `rmdir`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: our caller's promise.
    unsafe { remove(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

/// libc's `mkdir`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: our caller's promise.
    let call = || unsafe { raw::mkdirat(libc::AT_FDCWD, path, mode) };
    // SAFETY: as above.
    let Some(name) = (unsafe { place::of_path(libc::AT_FDCWD, path) }) else { return int(call()) };
    int(make(Kind::Name, &name, call, || Some(Change::DirectoryMade(&name))))
}

/// libc's `rename`. A change that leaves or enters the root is not recorded.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(old: *const c_char, new: *const c_char) -> c_int {
    const NO_FLAGS: c_uint = 0;
    // SAFETY: our caller's promise.
    let call = || unsafe { raw::renameat2(libc::AT_FDCWD, old, libc::AT_FDCWD, new, NO_FLAGS) };
    // SAFETY: as above.
    let names = unsafe { place::of_path(libc::AT_FDCWD, old).zip(place::of_path(libc::AT_FDCWD, new)) };
    let Some((from, to)) = names else { return int(call()) };
    int(make(Kind::Name, &to, call, || Some(Change::Renamed(&from, &to))))
}
