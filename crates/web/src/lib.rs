//! The console: what needs attention, what happens now, one change in full, and the agents, as pages a person reads.
//!
//! Pages are rendered here, on the server, and work without script; a small script of our own keeps them up to date. It
//! only reads: nothing that a page can ask for changes a host, a baseline or the record. It never speaks SQL (that is
//! `tally-store`), never loads anything from elsewhere, and is served on a loopback address only, because it is plain HTTP:
//! from another machine it is reached through a tunnel (`ssh -L`).
//!
//! | file | what |
//! |---|---|
//! | `console` | what the manager holds of it, and the server |
//! | `guard` | host names, headers, who may come in |
//! | `door` | login links and sessions |
//! | `route` | which address shows which page |
//! | `page/` | one struct for each page, with its template |
//! | `view/` | how types of `tally-types` are shown: an entry, an actor, a line of a list |
//! | `live` | the stream of what is new |

mod asset;
mod console;
mod door;
mod failure;
mod filter;
mod guard;
mod live;
mod page;
mod route;
mod view;

pub use console::{Console, DeliverySource, ServeError, bind, serve};
pub use live::Live;
