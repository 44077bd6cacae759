//! What the service counts for metrics, and how its part of a scrape is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::app::App;
use super::under_way::UnderWay;
use crate::engine::EngineStats;
use crate::telemetry::{Histogram, Page, Tally, names};
use crate::types::FinishReason;

/// The instruments of one service.
#[derive(Debug)]
pub(super) struct Meters {
    since: Instant,
    /// Answers that ended, by how.
    finished: Tally<&'static str>,
    /// From submission to an answer's end, in seconds; of those that came to one.
    request_time: Histogram,
    /// Answers that the engine has, by policy.
    pub(super) under_way: Arc<UnderWay>,
    /// Requests taken on: policy, source of the weights.
    pub(super) answers: Tally<(String, &'static str)>,
}

/// How an answer came to its end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Finished(FinishReason),
    Failed,
    /// Nobody reads it any longer.
    Abandoned,
}

impl Outcome {
    /// Its word, in metrics and traces.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Finished(FinishReason::Stop) => "stop",
            Self::Finished(FinishReason::Length) => "length",
            Self::Failed => "error",
            Self::Abandoned => "abort",
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        let finished = Tally::default();
        let request_time = Histogram::new(names::SECONDS);
        Self {
            since: Instant::now(),
            finished,
            request_time,
            under_way: Arc::default(),
            answers: Tally::default(),
        }
    }
}

impl Meters {
    /// An answer ended, so long after it was asked for.
    pub(super) fn ended(&self, outcome: Outcome, after: Duration) {
        if let Outcome::Finished(_) = outcome {
            self.request_time.observe_time(after);
        }
        self.finished.add(outcome.word());
    }
}

impl App {
    /// Writes what engine and service have counted.
    pub fn report(&self, page: &mut Page) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.numbers(&names::BUILD, [(version, 1.0)]);
        page.number(&names::UPTIME, self.meters.since.elapsed().as_secs_f64());
        let stats = self.engine.stats();
        report_engine(page, &stats);
        let engine = self.engine.meters();
        page.number(&names::PROMPT_TOKENS, engine.prompt_tokens.get() as f64);
        page.histogram(&names::QUEUE_TIME, &engine.queue_time);
        page.histogram(&names::FIRST_TOKEN, &engine.first_token);
        page.histogram(&names::INTER_TOKEN, &engine.inter_token);
        page.histogram(&names::ITERATION_TOKENS, &engine.iteration_tokens);
        page.histogram(&names::REQUEST_TIME, &self.meters.request_time);
        let finished = self.meters.finished.counts();
        let finished = finished
            .iter()
            .map(|(reason, n)| ([("finished_reason", *reason)], *n as f64));
        page.numbers(&names::FINISHED, finished);
        let answers = self.meters.answers.counts();
        let answers = answers.iter().map(|((policy, source), n)| {
            let labels = [("policy", policy.as_str()), ("weights", *source)];
            (labels, *n as f64)
        });
        page.numbers(&names::ANSWERS, answers);
        self.report_adapters(page);
    }
}

fn report_engine(page: &mut Page, stats: &EngineStats) {
    let EngineStats {
        blocks_used,
        blocks_cached,
        blocks_total,
        ..
    } = *stats;
    let turned = stats.last_turn.filter(|_| !stats.resting);
    let age = turned.map_or(Duration::ZERO, |at| at.elapsed());
    for (metric, value) in [
        (names::RUNNING, stats.running as f64),
        (names::WAITING, stats.waiting as f64),
        (names::WAITING_TOKENS, stats.waiting_tokens as f64),
        (
            names::KV_USAGE,
            blocks_used as f64 / blocks_total.max(1) as f64,
        ),
        (names::PREFIX_QUERIES, stats.prefix_queries_tokens as f64),
        (names::PREFIX_HITS, stats.prefix_hits_tokens as f64),
        (names::PREEMPTIONS, stats.preemptions as f64),
        (names::RESTARTS, stats.restarts as f64),
        (names::ITERATIONS, stats.iterations as f64),
        (names::LOOP_AGE, age.as_secs_f64()),
        (names::GENERATION_TOKENS, stats.tokens_generated as f64),
    ] {
        page.number(&metric, value);
    }
    let free = blocks_total.saturating_sub(blocks_used + blocks_cached);
    let blocks = [
        ("used", blocks_used),
        ("cached", blocks_cached),
        ("free", free),
    ];
    let blocks = blocks.map(|(state, count)| ([("state", state)], count as f64));
    page.numbers(&names::KV_BLOCKS, blocks);
}
