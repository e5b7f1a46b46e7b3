//! Layer 3: the files of a directory become one checked [`Config`](model::Config).
//!
//! [`load`], [`locate`] and [`reload`] read all `*.yaml` of a directory, merge them and collect every
//! problem of every file; [`watch::Watcher`] says when it is time to load again, and [`dump`] writes
//! what came of it. Nothing here acts on what it read.

mod check;
pub mod civil;
mod dump;
mod lists;
mod load;
mod merge;
pub mod model;
pub mod policy;
pub mod problem;
mod raw;
mod read;
mod value;
pub mod watch;

pub use dump::{DumpError, dump};
pub use lists::list_entries;
pub use load::{Loaded, NotLoaded, load, locate, reload};
pub use problem::{Problem, Problems, Severity};
pub use value::check_log_filter;
