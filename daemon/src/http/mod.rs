//! Pages, API and feed.
