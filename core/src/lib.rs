//! A hub in every instance of a service.

#![forbid(unsafe_code)]

pub mod config;
pub mod discovery;
pub mod engine;
pub mod error;
pub mod host;
pub mod hub;
pub mod ids;
pub mod net;
pub mod observe;
pub mod payload;
pub mod spec;
pub mod strategy;
pub mod swim;
mod sync;
pub mod time;
pub mod wire;
