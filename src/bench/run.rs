//! Sends the requests of one level, in a closed or an open loop.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde::Serialize;

use super::arrivals::arrivals;
use super::client::Client;
use super::outcome::Outcome;
use super::plan::Plan;
use super::summary::LevelReport;

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Load {
    /// So many at a time: the next one is sent when one has ended. A slow server is asked less.
    Closed {
        /// How many.
        concurrency: usize,
    },
    /// So many a second, at random moments, whether the server keeps up or not.
    Open {
        /// Requests a second, on average.
        rate_per_s: f64,
    },
}

/// Sends the plan's requests from place `first` on, and tells `tick` of each that has ended.
pub async fn run(
    client: &Client,
    plan: &Plan,
    load: Load,
    first: usize,
    tick: &dyn Fn(),
) -> LevelReport {
    let count = plan.workload.requests;
    // before the clock runs: making a request is no work of the server's
    let bodies: Vec<_> = (first..first + count)
        .map(|place| plan.streamed(place))
        .collect();
    let path = plan.workload.api.path();
    let (due, at_once) = match load {
        Load::Closed { concurrency } => (vec![Duration::ZERO; count], concurrency.max(1)),
        // seeded by the place, so that levels differ
        Load::Open { rate_per_s } => {
            let seed = plan.workload.seed.wrapping_add(first as u64);
            (arrivals(rate_per_s, count, seed), count.max(1))
        }
    };
    let start = Instant::now();
    let outcomes: Vec<Outcome> = stream::iter(bodies.into_iter().zip(due))
        .then(|(body, due)| async move {
            tokio::time::sleep_until((start + due).into()).await;
            (body, due)
        })
        .map(|(body, due)| async move {
            // of an open loop when it was due: a late client must not flatter the server
            let since = match load {
                Load::Closed { .. } => Instant::now(),
                Load::Open { .. } => start + due,
            };
            let outcome = client.stream(path, body, since).await;
            tick();
            outcome
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    LevelReport::new(load, &outcomes, start.elapsed())
}
