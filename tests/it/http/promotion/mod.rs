//! A better policy goes live while the server answers.

mod change;
mod elsewhere;
mod harness;
mod job;
mod load;
mod measure;
mod refused;
mod removed;
mod restart;
