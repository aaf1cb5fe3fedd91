//! Pages, API and feed: what people and programs see of a node (interfaces.md, HTTP and Websocket).
//!
//! - [`serve()`] accepts connections within limits, `router` says what is where, `gate` who may ask.
//! - `api` serves the boards, whatever they are: their routes follow from their [`Facts`](crate::boards::Facts).
//! - `pages` renders what people see; `assets` holds the modules and style sheets that bring it alive.
//! - `feed` tells every applied entry once, in order, over a websocket or as server-sent events.
//! - `live` shows what a node does as it happens, `elections` what became of who leads; `supervisor` asks `chorus up` for a drill.
//! - `asker` is who asks and what they may do, `token` what a page is told of it, `addresses` how often and how many.
//! - `limits` says how much of everything there may be, `held` what bodies and answers may hold together.
//! - `problem` is the one shape of every error.
//! - `unconfigured` is what a node without a key shows: what to do.
//!
//! Nothing here knows a rule of Raft: a write is a [`Submission`](crate::node::Submission), a read a query of the
//! store.

mod addresses;
mod api;
mod asker;
mod assets;
mod cache;
mod clock;
mod cluster;
mod elections;
mod feed;
mod form;
mod gate;
mod health;
mod held;
mod limits;
mod live;
mod log;
mod openapi;
mod originals;
mod pages;
mod problem;
mod request;
mod router;
mod serve;
mod site;
mod supervisor;
mod token;
mod unconfigured;

pub use serve::serve;
pub use site::WebState;
pub use unconfigured::serve_unconfigured;
