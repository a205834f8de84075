//! Frames between wrapper and daemon, as both sides read them.

#![no_main]

use kache_core::protocol::{self, FRAME_BYTES_MAX, HEADER_BYTES, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((header, body)) = data.split_first_chunk::<HEADER_BYTES>() else { return };
    let Ok(length) = protocol::body_length(header) else { return };
    assert!(length <= FRAME_BYTES_MAX);
    // What follows a body is nobody's.
    let body = &body[..length.min(body.len())];
    if let Ok(request) = protocol::decode::<Request>(body) {
        let is_fine = request.check().is_ok();
        if let Ok(frame) = protocol::encode(&request) {
            let again: Request = protocol::decode(&frame[HEADER_BYTES..]).expect("what is encoded can be decoded");
            assert_eq!(again.check().is_ok(), is_fine);
            assert_eq!(again, request);
        }
        if let Request::Find(find) = &request
            && is_fine
        {
            assert!(!find.crate_name.contains(['/', '.', '\0']) && !find.package.contains(['/', '.', '\0']));
        }
    }
    if let Ok(reply) = protocol::decode::<Reply>(body)
        && let Ok(frame) = protocol::encode(&reply)
    {
        let again: Reply = protocol::decode(&frame[HEADER_BYTES..]).expect("what is encoded can be decoded");
        assert_eq!(again, reply);
    }
});
