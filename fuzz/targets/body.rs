//! libFuzzer's way into [`chorus_fuzz::body`].
#![no_main]
#![allow(unsafe_code, reason = "the macro exports the target under the name that libFuzzer calls")]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chorus_fuzz::body::run(input));
