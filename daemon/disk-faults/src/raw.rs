//! The system calls themselves, past libc: its functions of these names are ours here.

use std::ffi::CStr;

use libc::{c_char, c_int, c_void, mode_t, off_t, size_t};

/// As libc's functions: what the call gives, or -1 and `errno`.
pub(crate) type Answer = isize;

/// Each of these passes its arguments on unchanged.
macro_rules! system_calls {
    ($($name:ident($($argument:ident: $type:ty),*) = $number:ident;)*) => {
        $(
            /// # Safety
            /// As the system call: pointers must be good for what it does with them.
            pub(crate) unsafe fn $name($($argument: $type),*) -> Answer {
                // SAFETY: the caller's promise; a system call itself does not follow bad pointers, it answers EFAULT.
                unsafe { libc::syscall(libc::$number $(, $argument)*) as Answer }
            }
        )*
    };
}

system_calls! {
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) = SYS_openat;
    read(file: c_int, bytes: *mut c_void, count: size_t) = SYS_read;
    pread(file: c_int, bytes: *mut c_void, count: size_t, offset: off_t) = SYS_pread64;
    write(file: c_int, bytes: *const c_void, count: size_t) = SYS_write;
    pwrite(file: c_int, bytes: *const c_void, count: size_t, offset: off_t) = SYS_pwrite64;
    writev(file: c_int, pieces: *const libc::iovec, count: c_int) = SYS_writev;
    ftruncate(file: c_int, length: off_t) = SYS_ftruncate;
    fallocate(file: c_int, mode: c_int, offset: off_t, length: off_t) = SYS_fallocate;
    fsync(file: c_int) = SYS_fsync;
    fdatasync(file: c_int) = SYS_fdatasync;
    unlinkat(directory: c_int, path: *const c_char, flags: c_int) = SYS_unlinkat;
    mkdirat(directory: c_int, path: *const c_char, mode: mode_t) = SYS_mkdirat;
    renameat2(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: libc::c_uint) = SYS_renameat2;
    close(file: c_int) = SYS_close;
}

/// The whole of a small file; none if it cannot be read.
pub(crate) fn read_file(path: &CStr) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 256];
    // SAFETY: the path ends in a zero, the buffer is ours and as long as said, the file is closed once.
    let count = unsafe {
        let file =
            c_int::try_from(openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0))
                .ok()?;
        if file < 0 {
            return None;
        }
        let count = read(file, bytes.as_mut_ptr().cast(), bytes.len());
        close(file);
        count
    };
    bytes.truncate(usize::try_from(count).ok()?);
    Some(bytes)
}

/// Opens a file to append to; none if that fails.
pub(crate) fn open_to_append(path: &CStr) -> Option<c_int> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    // SAFETY: the path ends in a zero.
    let file = unsafe { openat(libc::AT_FDCWD, path.as_ptr(), flags, 0o600) };
    c_int::try_from(file).ok().filter(|file| *file >= 0)
}

/// Appends all of `bytes`.
pub(crate) fn append(file: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is as long as said.
        let count = unsafe { write(file, bytes.as_ptr().cast(), bytes.len()) };
        let Some(rest) = usize::try_from(count).ok().and_then(|count| bytes.get(count..)) else { return };
        bytes = rest;
    }
}

/// Has this called when the process exits, before the system ends its other threads.
pub(crate) fn at_exit(call: extern "C" fn()) {
    // SAFETY: the function is there as long as the library, which is never unloaded.
    let _not_zero_without_memory = unsafe { libc::atexit(call) };
}

/// Sets `errno`, and is what a failed call answers.
pub(crate) fn fail(errno: c_int) -> Answer {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = errno };
    -1
}
