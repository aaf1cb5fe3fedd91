//! What a node counts, out of its `/metrics`.

/// One counter or gauge; with labels as they are written, `chorus_queue_depth{queue="reads"}`.
pub(crate) fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
