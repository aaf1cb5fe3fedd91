//! What a request's id tells, and the ids of the rows that it makes.

use chorus_proto::types::RequestId;

use super::Context;

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

/// The id of the `n`th row that an entry makes. The first one's is the request's own id if that is a UUID v7 in its
/// usual spelling: such an id is never taken twice. Any other key may come again once its outcome is forgotten; then
/// the id follows from the entry, in the shape of a UUID v7.
#[must_use]
pub fn row_id(context: &Context<'_>, n: u32) -> String {
    let request = context.request.as_str();
    match made_at_ms(context.request) {
        Some(_) if n == 0 && !request.bytes().any(|byte| byte.is_ascii_uppercase()) => request.to_owned(),
        _ => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&context.index.to_be_bytes()).update(request.as_bytes());
            if n > 0 {
                hasher.update(&n.to_be_bytes());
            }
            let mut random = [0; 10];
            random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
            uuid::Builder::from_unix_timestamp_millis(context.time_ms, &random).into_uuid().to_string()
        }
    }
}
