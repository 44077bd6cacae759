//! Whose turn it is on a connection, and since when: the client's or the server's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::ListenerSettings;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// The first byte of a request.
    Request,
    /// The rest of a request's head.
    Head,
    /// The reply: from a whole head to the end of the reply's body. The request's body is the
    /// route's to hurry.
    Reply,
}

/// What a client was too slow at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Asking for anything.
    Idle,
    /// Sending a request's head.
    Head,
    /// Taking the reply.
    Taking,
}

#[derive(Debug, Clone, Copy)]
struct State {
    waits: Waits,
    since: Instant,
    /// Since when bytes wait for the client to take them.
    blocked: Option<Instant>,
    /// Requests so far.
    requests: u64,
    /// Whether the last request's body is not read to its end.
    body_unread: bool,
}

/// The state of one connection, changed by its wire and by its requests.
#[derive(Debug)]
pub(super) struct Turn(watch::Sender<State>);

/// A request under way; its end is the end of its reply.
#[derive(Debug)]
pub(super) struct Under(Arc<Turn>);

impl Late {
    /// The word for it in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Taking => "taking",
        }
    }
}

impl Turn {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State {
            waits: Waits::Request,
            since: Instant::now(),
            blocked: None,
            requests: 0,
            body_unread: false,
        }))
    }

    /// What the connection waits for.
    pub(super) fn waits(&self) -> Waits {
        self.0.borrow().waits
    }

    /// Whether the client may be asking: no request ever came, or the head of one is under way.
    pub(super) fn may_ask(&self) -> bool {
        let state = self.0.borrow();
        state.waits == Waits::Head || state.requests == 0
    }

    /// Whether the client may still be sending a body that nobody wants.
    pub(super) fn has_unread_body(&self) -> bool {
        self.0.borrow().body_unread
    }

    /// Bytes came in.
    pub(super) fn heard(&self) {
        self.0.send_if_modified(|state| {
            let first = state.waits == Waits::Request;
            if first {
                (state.waits, state.since) = (Waits::Head, Instant::now());
            }
            first
        });
    }

    /// The client took bytes.
    pub(super) fn taken(&self) {
        self.0.send_if_modified(|state| {
            state.blocked = None;
            // the tail of a reply may still be on its way
            if state.waits == Waits::Request {
                state.since = Instant::now();
            }
            // whoever waits for an earlier moment finds the later one by itself
            false
        });
    }

    /// The client takes nothing, though bytes wait for it.
    pub(super) fn blocked(&self) {
        self.0.send_if_modified(|state| {
            let first = state.blocked.is_none();
            state.blocked.get_or_insert_with(Instant::now);
            first
        });
    }

    /// A request's head is whole.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Under {
        self.0.send_modify(|state| {
            (state.waits, state.since) = (Waits::Reply, Instant::now());
            state.requests += 1;
            state.body_unread = has_body;
        });
        Under(Arc::clone(self))
    }

    /// The request's body is read to its end.
    pub(super) fn body_read(&self) {
        self.0.send_if_modified(|state| {
            state.body_unread = false;
            false
        });
    }

    /// Resolves once the client is too slow at something.
    pub(super) async fn overdue(&self, limits: &ListenerSettings) -> Late {
        let mut states = self.0.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let Some((deadline, late)) = deadline(&state, limits) else {
                // the sender lives as long as `self`
                let _ = states.changed().await;
                continue;
            };
            if deadline <= Instant::now() {
                return late;
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                _ = states.changed() => {}
            }
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            (state.waits, state.since) = (Waits::Request, Instant::now());
        });
    }
}

/// When the client is late, and at what.
fn deadline(state: &State, limits: &ListenerSettings) -> Option<(Instant, Late)> {
    let after =
        |since: Instant, limit: Duration, late| since.checked_add(limit).map(|at| (at, late));
    if let Some(since) = state.blocked {
        return after(since, limits.send_timeout, Late::Taking);
    }
    match state.waits {
        Waits::Request => after(state.since, limits.idle_timeout, Late::Idle),
        Waits::Head => after(state.since, limits.header_timeout, Late::Head),
        Waits::Reply => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ListenerSettings {
        ListenerSettings {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(60),
            ..ListenerSettings::default()
        }
    }

    /// When a connection is late from now on, to the second, and at what.
    fn late_in(turn: &Turn) -> Option<(u64, Late)> {
        let (at, late) = deadline(&turn.0.borrow(), &limits())?;
        let left = at.saturating_duration_since(Instant::now());
        Some((left.as_secs_f64().round() as u64, late))
    }

    #[test]
    fn the_clock_runs_against_whoever_has_the_turn() {
        let turn = Arc::new(Turn::new());
        assert_eq!(late_in(&turn), Some((75, Late::Idle)));
        assert!(turn.may_ask());
        turn.heard();
        assert_eq!(late_in(&turn), Some((10, Late::Head)));
        let under = turn.begin(true);
        turn.heard();
        assert_eq!(late_in(&turn), None);
        turn.blocked();
        assert_eq!(late_in(&turn), Some((60, Late::Taking)));
        turn.taken();
        assert_eq!(late_in(&turn), None);
        assert!(turn.has_unread_body() && !turn.may_ask());
        turn.body_read();
        drop(under);
        assert_eq!(late_in(&turn), Some((75, Late::Idle)));
        assert!(!turn.has_unread_body() && !turn.may_ask());
        turn.heard();
        assert!(turn.may_ask());
    }

    #[tokio::test]
    async fn a_head_that_trickles_in_gets_no_more_time_than_one_that_stands_still() {
        let turn = Turn::new();
        let limits = ListenerSettings {
            header_timeout: Duration::from_millis(20),
            ..limits()
        };
        let trickle = async {
            loop {
                turn.heard();
                tokio::task::yield_now().await;
            }
        };
        let late = tokio::select! {
            late = turn.overdue(&limits) => late,
            () = trickle => unreachable!("never ends"),
        };
        assert_eq!(late, Late::Head);
    }
}
