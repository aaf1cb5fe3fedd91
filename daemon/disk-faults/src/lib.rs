//! # What a process does to its disk: recorded, and made to fail
//!
//! For tests alone, and never part of a program that people run. Built as a library for `LD_PRELOAD`, it stands between
//! a dynamically linked process and the system calls that change files. It is told by the environment:
//!
//! | variable | |
//! |---|---|
//! | `CHORUS_DISK_ROOT` | only calls below this directory (absolute, without links) are looked at; unset: none |
//! | `CHORUS_DISK_TRACE` | a file that every change is appended to, with its bytes, in the order in which it happened ([`trace`]) |
//! | `CHORUS_DISK_CONTROL` | a file whose one line says which call fails, and how ([`faults`]); it may come, change and go at any time |
//!
//! A preloaded library sees what SQLite and Rust's standard library do alike, in unchanged programs, in real processes;
//! a VFS of SQLite's would not see the promise file, which is written without SQLite. What it does not see: memory
//! that is mapped (SQLite's `-shm` files alone, which a start makes anew); `link`, `renameat` and its kin, `copy_file_range`
//! and `sendfile` (`std::fs::copy`), which backups and restores use and the stores at work do not; calls that are made without libc
//! (`rustix`); and programs linked statically.
//!
//! ## Why `unsafe`
//! To be called in libc's place is to have its signatures: raw pointers from the caller, passed on to the kernel as they
//! came. Every such function does only this, and reads the caller's bytes only after the kernel has taken them.
//! This is the one crate of the workspace that may.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(target_os = "linux")]
mod trace;
