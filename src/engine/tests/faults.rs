//! Faults: what panics in one sequence, what panics in the loop, and the loop that comes after.

use super::mock::Valve;
use super::*;

/// A constraint that misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Panics when it is dropped, which happens in the loop itself.
    Bomb,
    /// Panics when it is asked.
    Panics,
    /// Refuses when it is asked.
    Refuses,
    /// Refuses the first token.
    Chokes,
}

#[derive(Debug)]
struct Constraint(Broken);

impl TokenConstraint for Constraint {
    fn allowed(&mut self, tokens: &mut TokenSet) -> Result<(), ConstraintError> {
        assert_ne!(self.0, Broken::Panics, "the constraint panics");
        if self.0 == Broken::Refuses {
            return Err(ConstraintError("no".into()));
        }
        (0..32).for_each(|token| tokens.insert(token));
        Ok(())
    }

    fn advance(&mut self, _: TokenId) -> Result<(), ConstraintError> {
        match self.0 {
            Broken::Chokes => Err(ConstraintError("not this one".into())),
            _ => Ok(()),
        }
    }

    fn boxed_clone(&self) -> Box<dyn TokenConstraint> {
        Box::new(Self(self.0))
    }
}

impl Drop for Constraint {
    fn drop(&mut self) {
        assert!(self.0 != Broken::Bomb || std::thread::panicking(), "bomb");
    }
}

fn broken(kind: Broken, max_tokens: usize) -> GenerationRequest<u64> {
    GenerationRequest {
        constraint: Some(Box::new(Constraint(kind))),
        ..request(&[1, 2, 3], max_tokens)
    }
}

#[test]
fn a_broken_constraint_fails_its_sequence_only() {
    let engine = start(&Arc::new(Mock::default()), EngineConfig::default());
    let mate = engine.submit(request(&[4, 5], 60)).unwrap();
    let hear = |kind| {
        listen(engine.submit(broken(kind, 9)).unwrap())
            .end
            .unwrap_err()
    };
    assert!(matches!(hear(Broken::Panics), EngineError::Panicked(_)));
    assert!(matches!(hear(Broken::Refuses), EngineError::Constraint(_)));
    assert!(matches!(hear(Broken::Chokes), EngineError::Constraint(_)));
    assert_eq!(listen(mate).tokens, alone(&request(&[4, 5], 60)).tokens);
    assert_blocks_are_back(&engine);
}

#[test]
fn after_a_fault_of_the_loop_everyone_is_told_and_a_new_one_serves() {
    let mock = Arc::new(Mock {
        valve: Some(Valve::default()),
        pools: Some(Valve::default()),
        ..Mock::default()
    });
    let (steps, pools) = (mock.valve(), mock.pools.as_ref().unwrap());
    pools.allow(1);
    let config = EngineConfig {
        max_sequences: 3,
        queue_capacity: 3,
        ..EngineConfig::default()
    };
    let engine = start(&mock, config);
    let bomb = engine.submit(broken(Broken::Bomb, 3)).unwrap();
    // A second one goes off while the first one's fault is dealt with.
    let other_bomb = engine.submit(broken(Broken::Bomb, 50)).unwrap();
    let mate = engine.submit(request(&[1], 50)).unwrap();
    steps.await_arrival(1);
    let waits = engine.submit(request(&[2], 3)).unwrap();
    steps.allow(usize::MAX);
    assert_eq!(listen(bomb).tokens.len(), 3);
    for stream in [other_bomb, mate, waits] {
        assert!(matches!(listen(stream).end, Err(EngineError::Restarted)));
    }
    pools.await_arrival(2);
    let stats = engine.stats();
    assert!(!engine.is_alive());
    assert_eq!(
        (stats.running, stats.blocks_used, stats.restarts),
        (0, 0, 1)
    );
    assert_eq!(stats.waiting + stats.waiting_tokens, 0, "no place is lost");
    // Whoever comes meanwhile waits for the new loop.
    let next = request(&[7, 8], 20);
    let patient = engine.submit(next.clone()).unwrap();
    pools.allow(1);
    assert_eq!(listen(patient).tokens, alone(&next).tokens);
    assert!(engine.is_alive());
}

#[test]
fn a_pool_that_cannot_be_made_is_tried_again() {
    let mock = Arc::new(Mock {
        pools: Some(Valve::default()),
        ..Mock::default()
    });
    let pools = mock.pools.as_ref().unwrap();
    pools.fail(2);
    pools.allow(usize::MAX);
    let engine = start(&mock, EngineConfig::default());
    let told = listen(engine.submit(request(&[1, 2], 4)).unwrap());
    assert_eq!((told.tokens.len(), engine.stats().restarts), (4, 2));
}
