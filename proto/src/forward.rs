//! How a request finds the leader, exactly once.
