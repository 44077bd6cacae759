//! The store's contract, held by SQLite and, where `STEERSMAN_TEST_POSTGRES` names a server, by
//! PostgreSQL. `tests/postgres.sh` starts one.

mod backends;
mod contract;
mod crash;
mod jobs;
mod policies;

pub(crate) use backends::backends;
