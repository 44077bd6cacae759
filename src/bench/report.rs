//! A run as a report: everything that is needed to repeat it, and what came of it.

use std::fmt::Write;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::machine::Machine;
use super::plan::Plan;
use super::run::Load;
use super::summary::{LevelReport, Spread};
use super::workload::Workload;

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this program.
    steersman: &'static str,
    /// When it began, UTC.
    started_at: String,
    /// Where the bench ran; the server may run elsewhere.
    machine: Machine,
    server: Server,
    workload: Workload,
    /// Words of each prompt.
    prompt_words: usize,
    /// One a level of load.
    levels: Vec<LevelReport>,
}

#[derive(Debug, Clone, Serialize)]
struct Server {
    url: String,
    model: String,
    version: Option<String>,
    ignores_eos: bool,
}

impl Report {
    /// A run that begins now.
    pub fn begin(url: String, plan: &Plan) -> Self {
        let survey = &plan.survey;
        let now = OffsetDateTime::now_utc().format(&Rfc3339);
        Self {
            steersman: env!("CARGO_PKG_VERSION"),
            started_at: now.unwrap_or_default(),
            machine: Machine::this(),
            server: Server {
                url,
                model: survey.model.clone(),
                version: survey.version.clone(),
                ignores_eos: survey.ignores_eos,
            },
            workload: plan.workload.clone(),
            prompt_words: survey.prompt_words,
            levels: Vec::new(),
        }
    }

    /// Adds a level.
    pub fn push(&mut self, level: LevelReport) {
        self.levels.push(level);
    }

    /// Requests answered, over all levels.
    pub fn completed(&self) -> usize {
        self.levels.iter().map(|level| level.completed).sum()
    }

    /// The figures as a table, times in milliseconds as p50/p95/p99.
    pub fn table(&self) -> String {
        let mut rows = vec![
            [
                "load",
                "answered",
                "tokens/s",
                "requests/s",
                "first text ms",
                "inter-token ms",
                "end to end ms",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.levels.iter().map(row));
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
            .collect();
        let mut table = String::new();
        for row in rows {
            for (cell, width) in row.iter().zip(widths.iter().copied()) {
                // writing to a String cannot fail
                let _ = write!(table, "{cell:>width$}  ");
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        for level in &self.levels {
            for (kind, count) in &level.errors {
                let _ = writeln!(table, "{}: {count} x {kind}", named(level.load));
            }
        }
        table
    }
}

fn row(level: &LevelReport) -> [String; 7] {
    let spread = |spread: Option<Spread>| match spread {
        Some(Spread { p50, p95, p99, .. }) => format!("{p50:.1}/{p95:.1}/{p99:.1}"),
        None => "-".to_owned(),
    };
    [
        named(level.load),
        format!("{}/{}", level.completed, level.requests),
        format!("{:.1}", level.output_tokens_per_s),
        format!("{:.2}", level.requests_per_s),
        spread(level.ttft_ms),
        spread(level.inter_token_ms),
        spread(level.end_to_end_ms),
    ]
}

fn named(load: Load) -> String {
    match load {
        Load::Closed { concurrency } => format!("{concurrency} at once"),
        Load::Open { rate_per_s } => format!("{rate_per_s} a second"),
    }
}
