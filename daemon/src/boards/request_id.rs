//! What a request's id tells.

use chorus_proto::types::RequestId;

/// When a UUID v7 was made, in milliseconds of Unix time (RFC 9562, 5.7); none for every other key.
pub(crate) fn made_at_ms(id: &RequestId) -> Option<u64> {
    const HYPHENATED: usize = 36;
    let text = id.as_str();
    if text.len() != HYPHENATED {
        return None;
    }
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    let seven = uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122;
    seven.then(|| (uuid.as_u128() >> 80) as u64)
}
