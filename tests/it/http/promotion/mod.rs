//! A better policy goes live while the server answers.

mod change;
mod harness;
mod load;
mod measure;
mod refused;
mod restart;
