//! Which file a call is about, and whether it is one that is looked at.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libc::{c_char, c_int};

/// The directory that is looked at.
fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| std::env::var_os("CHORUS_DISK_ROOT").map(PathBuf::from)).as_deref()
}

/// The path below the root of an open file; none for all others, and for files that have no name any more.
pub(crate) fn of_file(file: c_int) -> Option<PathBuf> {
    let root = root()?;
    let path = target(file)?;
    path.strip_prefix(root)
        .ok()
        .filter(|name| !name.as_os_str().as_bytes().ends_with(b" (deleted)"))
        .map(Path::to_owned)
}

/// The path below the root that `path` names, as seen from the directory `from`; none for all others.
///
/// # Safety
/// `path` must be null or end in a zero.
pub(crate) unsafe fn of_path(from: c_int, path: *const c_char) -> Option<PathBuf> {
    let root = root()?;
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise, which the kernel will need too.
    let named = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let full = match from {
        _ if named.is_absolute() => named.to_owned(),
        libc::AT_FDCWD => std::env::current_dir().ok()?.join(named),
        directory => target(directory)?.join(named),
    };
    full.strip_prefix(root).ok().map(Path::to_owned)
}

/// What an open file is called.
fn target(file: c_int) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{file}\0");
    let mut bytes = vec![0_u8; 4_096];
    // SAFETY: the link's name ends in a zero, the buffer is as long as said.
    let count = unsafe { libc::readlink(link.as_ptr().cast(), bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(usize::try_from(count).ok()?);
    Some(PathBuf::from(OsString::from_vec(bytes)))
}
