//! Floors, under construction.
fn main() {}
