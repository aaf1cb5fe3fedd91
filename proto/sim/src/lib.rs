//! A whole Chorus cluster in one thread from one seed.
