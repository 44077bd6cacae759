//! The phase between the two halves of a gated feed-forward layer (arXiv 2002.05202).

use super::super::gated::{Activation, gated_rows};
use super::{Member, Rows, share};

/// Numbers that are taken at a time.
const CHUNK: usize = 256;

/// `out = activation(gate) * up`; `gate_up` is (rows, 2 · width), the gates first, `out` (rows,
/// width).
pub fn gate(member: &Member<'_>, gate_up: &Rows<'_>, activation: Activation, out: &Rows<'_>) {
    let (rows, width) = (out.rows(), out.width());
    let chunks = width.div_ceil(CHUNK);
    let all = rows * chunks;
    let tasks = member.tasks(all, 4);
    member.phase(tasks, |task| {
        for index in share(all, task, tasks) {
            let (row, first) = (index / chunks, index % chunks * CHUNK);
            let columns = first..width.min(first + CHUNK);
            // SAFETY: nobody writes to `gate_up` in this phase, and chunks are shared out among the
            // tasks, so each is written by one of them.
            let (both, out) = unsafe {
                let both = gate_up.read(row..row + 1);
                (both, out.part_mut(row, columns.clone()))
            };
            let (gate, up) = both.split_at(width);
            gated_rows(&gate[columns.clone()], &up[columns], activation, out);
        }
    });
}
