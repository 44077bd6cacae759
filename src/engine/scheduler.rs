//! Decides which sequences run in the next iteration, and with how many tokens each.
//!
//! Knows nothing of models, channels or the clock: given the same needs it makes the same grants.

/// Rows that a sequence can have: its own, and a neutral one to be guided away from.
pub(super) const ROWS: usize = 2;

/// What one sequence could do next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Tokens of each row that are not in the cache yet: at least one, or 0 for a row that it does
    /// not have.
    pub(super) rows: [usize; ROWS],
    /// Whether it can run now: its reader has room, and nobody computes what it is about to.
    pub(super) ready: bool,
}

impl Need {
    /// Whether one token a row is all that it takes to draw. Such tokens come before prompts'.
    pub(super) fn decodes(&self) -> bool {
        self.rows.iter().all(|&tokens| tokens <= 1)
    }

    /// The most that it can do with `budget` tokens. Both rows draw in one iteration: until that
    /// one, each keeps a token back.
    fn within(&self, budget: usize) -> [usize; ROWS] {
        let [own, neutral] = self.rows;
        if own + neutral <= budget {
            return self.rows;
        }
        if neutral == 0 {
            // in halves at last: a tail of few tokens would cost nearly what a full iteration does
            return [budget.min(own.div_ceil(2)), 0];
        }
        let own = (own - 1).min(budget);
        [own, (neutral - 1).min(budget - own)]
    }
}

/// Leave for a sequence to run in the next iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// The sequence, by its place in order of age.
    pub(super) sequence: usize,
    /// How many tokens of each row run.
    pub(super) rows: [usize; ROWS],
}

/// Tokens that one iteration may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) all: usize,
    /// Of them, those of prompts.
    pub(super) prompts: usize,
}

/// Shares tokens among sequences in order of age: first everyone who decodes, then prompts, oldest
/// first, the last of them in part.
pub(super) fn schedule(needs: &[Need], budget: Budget) -> Vec<Grant> {
    let mut left = budget.all;
    let mut grants = Vec::with_capacity(needs.len());
    for decodes in [true, false] {
        if !decodes {
            left = left.min(budget.prompts);
        }
        for (sequence, need) in needs.iter().enumerate() {
            if !need.ready || need.decodes() != decodes {
                continue;
            }
            let rows = need.within(left);
            let tokens: usize = rows.iter().sum();
            if tokens > 0 {
                left -= tokens;
                grants.push(Grant { sequence, rows });
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECODE: Need = Need {
        rows: [1, 0],
        ready: true,
    };
    const PAUSED: Need = Need {
        ready: false,
        ..DECODE
    };

    const fn tokens(all: usize) -> Budget {
        Budget { all, prompts: all }
    }

    fn prompt(tokens: usize) -> Need {
        Need {
            rows: [tokens, 0],
            ready: true,
        }
    }

    fn check(needs: &[Need], budget: usize, expected: &[(usize, usize)]) {
        let grants = schedule(needs, tokens(budget));
        let got: Vec<_> = grants
            .iter()
            .map(|grant| (grant.sequence, grant.rows[0]))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn decodes_come_before_older_prompts() {
        check(&[prompt(10), DECODE, DECODE], 6, &[(1, 1), (2, 1), (0, 4)]);
    }

    #[test]
    fn prompts_share_the_rest_in_order_of_arrival() {
        check(&[prompt(3), prompt(9), prompt(2)], 8, &[(0, 3), (1, 5)]);
    }

    #[test]
    fn a_prompt_beyond_the_budget_ends_without_a_short_tail() {
        check(&[prompt(30)], 8, &[(0, 8)]);
        check(&[prompt(9)], 8, &[(0, 5)]);
        check(&[prompt(9), prompt(9)], 8, &[(0, 5), (1, 3)]);
    }

    #[test]
    fn a_paused_sequence_takes_no_budget() {
        check(&[PAUSED, DECODE, prompt(4)], 3, &[(1, 1), (2, 2)]);
    }

    #[test]
    fn a_prompt_always_moves_while_a_place_decodes_less_than_the_budget() {
        let mut needs = vec![DECODE; 7];
        needs.push(prompt(100));
        assert_eq!(
            schedule(&needs, tokens(8)).last(),
            Some(&Grant {
                sequence: 7,
                rows: [1, 0]
            })
        );
    }

    #[test]
    fn both_rows_of_a_guided_sequence_end_together() {
        let guided = |own, neutral| Need {
            rows: [own, neutral],
            ready: true,
        };
        let rows = |need: Need, budget| {
            schedule(&[need], tokens(budget))
                .first()
                .map(|grant| grant.rows)
        };
        assert_eq!(rows(guided(1, 1), 2), Some([1, 1]));
        assert_eq!(rows(guided(1, 1), 1), None);
        assert_eq!(rows(guided(5, 3), 8), Some([5, 3]));
        assert_eq!(rows(guided(5, 3), 7), Some([4, 2]));
        assert_eq!(rows(guided(5, 3), 3), Some([3, 0]));
        assert_eq!(rows(guided(1, 9), 4), Some([0, 4]));
    }

    proptest! {
        #[test]
        fn no_grant_is_empty_or_over_budget_and_rows_end_together(
            needs in prop::collection::vec((1usize..20, 0usize..20, any::<bool>()), 1..20),
            all in 2usize..60,
            prompts in 2usize..60,
        ) {
            let needs: Vec<_> = needs
                .into_iter()
                .map(|(own, neutral, ready)| Need { rows: [own, neutral], ready })
                .collect();
            let grants = schedule(&needs, Budget { all, prompts });
            let total = |decodes: bool| -> usize {
                let of = grants.iter().filter(|grant| needs[grant.sequence].decodes() == decodes);
                of.flat_map(|grant| grant.rows).sum()
            };
            prop_assert!(total(true) + total(false) <= all && total(false) <= prompts);
            prop_assert_eq!(grants.is_empty(), needs.iter().all(|need| !need.ready));
            for grant in grants {
                let need = needs[grant.sequence];
                prop_assert!(need.ready && grant.rows.iter().sum::<usize>() > 0);
                let ends = [0, 1].map(|row| grant.rows[row] == need.rows[row]);
                prop_assert!(need.rows[1] == 0 || ends[0] == ends[1]);
            }
        }
    }
}
