//! Deliveries to AWS against emulators: ministack, which verifies signatures and evaluates policies, and moto as a second
//! opinion. What arrived is asked of AWS's own library. Between the manager's part and the emulator stands a gate of ours
//! that keeps the documented limits, which the emulators do not, and makes things go wrong when told to.

// A failed step is a failed test; clippy knows that of test functions, not of what they call.
#![allow(clippy::unwrap_used)]

mod accounts;
mod archive;
mod cloud;
mod gate;
mod identity;
mod logs;
mod queues;
mod scene;
