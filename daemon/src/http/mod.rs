//! Pages, API and feed: what people and programs see of a node (interfaces.md, HTTP and Websocket).
//!
//! - [`serve()`] accepts connections within limits, `router` says what is where, `gate` who may ask.
//! - `api` serves the boards, whatever they are: their routes follow from the [`Board`](crate::boards::Board) trait.
//! - `pages` renders what people see; `assets` holds the modules and style sheets that bring it alive.
//! - `feed` tells every applied entry once, in order, over a websocket or as server-sent events.
//! - `problem` is the one shape of every error.
//!
//! Nothing here knows a rule of Raft: a write is a [`Submission`](crate::node::Submission), a read a query of the
//! store.

mod api;
mod assets;
mod clock;
mod cluster;
mod feed;
mod form;
mod gate;
mod health;
mod limits;
mod log;
mod pages;
mod problem;
mod request;
mod router;
mod serve;
mod site;

pub use serve::serve;
pub use site::WebState;
