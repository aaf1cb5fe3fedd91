//! libFuzzer's way into [`chorus_fuzz::websocket`].
#![no_main]
#![allow(unsafe_code, reason = "the macro exports the target under the name that libFuzzer calls")]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chorus_fuzz::websocket::run(input));
