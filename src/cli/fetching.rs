//! A model that a command is given: what lies here, or what a hub has under that name, fetched and
//! shown on its way.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use crate::hub::{FetchWatcher, Hub, HubError, HubName, HubSettings};

/// How often a line tells how far it is, where no bar does.
const EVERY: Duration = Duration::from_secs(10);

/// Where a command's lines go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lines {
    /// To the log.
    Logged,
    /// To standard error as they are.
    Printed,
}

impl Lines {
    fn say(self, line: &str) {
        match self {
            Self::Logged => tracing::info!("{line}"),
            Self::Printed => eprintln!("{line}"),
        }
    }

    fn warn(self, line: &str) {
        match self {
            Self::Logged => tracing::warn!("{line}"),
            Self::Printed => eprintln!("{line}"),
        }
    }
}

/// The folder or file that `model` names. May be dropped while it fetches; the next run goes on.
pub(super) async fn located(model: &Path, lines: Lines) -> Result<PathBuf, HubError> {
    let Some(name) = HubName::of(model)? else {
        return Ok(model.to_owned());
    };
    let hub = Hub::new(HubSettings::from_environment()?);
    let shown = Shown::new(name.to_string(), lines);
    let fetched = hub.fetch(&name, &shown).await;
    shown.end(fetched.is_ok());
    fetched
}

/// The same for commands that wait for it.
pub(super) fn located_now(model: &Path, lines: Lines) -> Result<PathBuf, HubError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HubError::Start)?;
    runtime.block_on(located(model, lines))
}

/// Shows a bar on a terminal, else a line now and then.
struct Shown {
    name: String,
    lines: Lines,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

/// How far it is, in bytes.
#[derive(Default)]
struct State {
    planned: u64,
    here: u64,
    /// When something first came, and what was here by then.
    began: Option<(Instant, u64)>,
    /// When a line last told.
    told: Option<Instant>,
}

impl State {
    /// Bytes a second, so far.
    fn speed(&self, now: Instant) -> u64 {
        let Some((began, had)) = self.began else {
            return 0;
        };
        let seconds = now.duration_since(began).as_secs_f64().max(0.001);
        (self.here.saturating_sub(had) as f64 / seconds) as u64
    }
}

impl Shown {
    fn new(name: String, lines: Lines) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = "{bar:30} {decimal_bytes} of {decimal_total_bytes}, \
                            {decimal_bytes_per_sec} (left {eta})";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            name,
            lines,
            bar,
            state: Mutex::default(),
        }
    }

    /// Writes lines where they do not run into the bar.
    fn aside(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, is_here: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let state = self.state();
        if is_here && state.planned > 0 {
            self.lines.say(&format!("fetched {}", self.name));
        }
    }
}

impl FetchWatcher for Shown {
    fn planned(&self, bytes: u64) {
        let planned = {
            let mut state = self.state();
            state.planned += bytes;
            state.planned
        };
        if let Some(bar) = &self.bar {
            bar.set_length(planned);
        }
        let line = format!("fetching {}: {}", self.name, DecimalBytes(bytes));
        self.aside(|| self.lines.say(&line));
    }

    fn reached(&self, bytes: u64) {
        let now = Instant::now();
        let mut state = self.state();
        state.here = bytes;
        let is_first = state.began.is_none();
        state.began.get_or_insert((now, bytes));
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            if is_first {
                // what an earlier run fetched took no time of this one
                bar.reset_eta();
            }
            return;
        }
        let told = *state.told.get_or_insert(now);
        if now.duration_since(told) >= EVERY {
            state.told = Some(now);
            let (all, speed) = (DecimalBytes(state.planned), DecimalBytes(state.speed(now)));
            let name = &self.name;
            let line = format!(
                "fetching {name}: {} of {all}, {speed}/s",
                DecimalBytes(bytes)
            );
            self.lines.say(&line);
        }
    }

    fn note(&self, line: &str) {
        self.aside(|| self.lines.warn(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_here_before_does_not_count_as_speed() {
        let began = Instant::now();
        let state = State {
            planned: 100,
            here: 60,
            began: Some((began, 40)),
            told: None,
        };
        assert_eq!(state.speed(began + Duration::from_secs(2)), 10);
        assert_eq!(State::default().speed(began), 0);
    }

    #[test]
    fn what_is_no_name_of_a_model_is_left_to_whoever_loads_it() {
        for path in ["/no/such/folder", "demo", "models/demo", "a/b/c"] {
            let found = located_now(Path::new(path), Lines::Printed).expect("a path");
            assert_eq!(found, Path::new(path));
        }
    }
}
