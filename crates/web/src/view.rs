//! How the core types are shown to a person. Every text that comes from a host is escaped twice: control characters and
//! characters that reorder text here, HTML by the templates.

pub mod actor;
pub mod change;
pub mod entry;
pub mod line;
pub mod moment;
pub mod shell;
pub mod word;
