#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fedgate_fuzz::framer::run(data));
