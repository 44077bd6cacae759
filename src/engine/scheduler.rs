//! Decides which sequences run in the next iteration, and with how many tokens each.
//!
//! Knows nothing of models, channels or the clock: given the same needs it makes the same grants.

/// What one sequence could do next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Tokens of its history that are not in its cache yet; at least one.
    pub(super) tokens: usize,
    /// Whether it has generated before. Its one token then comes before any prompt's.
    pub(super) decoding: bool,
    /// Whether its reader has room for what it may generate.
    pub(super) ready: bool,
}

/// Leave for a sequence to run in the next iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// The sequence, by its place in order of arrival.
    pub(super) sequence: usize,
    /// How many of its tokens run.
    pub(super) tokens: usize,
}

/// Shares `budget` tokens among sequences in order of arrival: first one token for everyone who
/// decodes, then prompts, oldest first, the last of them in part.
pub(super) fn schedule(needs: &[Need], budget: usize) -> Vec<Grant> {
    let mut left = budget;
    let mut grants = Vec::new();
    for decoding in [true, false] {
        for (sequence, need) in needs.iter().enumerate() {
            let tokens = need.tokens.min(left);
            if need.ready && need.decoding == decoding && tokens > 0 {
                left -= tokens;
                grants.push(Grant { sequence, tokens });
            }
        }
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECODE: Need = Need {
        tokens: 1,
        decoding: true,
        ready: true,
    };
    const PAUSED: Need = Need {
        ready: false,
        ..DECODE
    };

    fn prompt(tokens: usize) -> Need {
        Need {
            tokens,
            decoding: false,
            ready: true,
        }
    }

    fn check(needs: &[Need], budget: usize, expected: &[(usize, usize)]) {
        let grants = schedule(needs, budget);
        let got: Vec<_> = grants
            .iter()
            .map(|grant| (grant.sequence, grant.tokens))
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
    fn a_paused_sequence_takes_no_budget() {
        check(&[PAUSED, DECODE, prompt(4)], 3, &[(1, 1), (2, 2)]);
    }

    #[test]
    fn a_prompt_always_moves_while_a_place_decodes_less_than_the_budget() {
        let mut needs = vec![DECODE; 7];
        needs.push(prompt(100));
        assert_eq!(
            schedule(&needs, 8).last(),
            Some(&Grant {
                sequence: 7,
                tokens: 1
            })
        );
    }
}
