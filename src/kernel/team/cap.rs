//! The phase that bounds logits (arXiv 2408.00118, 2.3).

use super::{Member, Rows, share};

/// Replaces every number by `cap * tanh(number / cap)`.
pub fn cap(member: &Member<'_>, rows: &Rows<'_>, cap: f32) {
    let parts = member.tasks(rows.width(), 4);
    member.phase(rows.rows() * parts, |task| {
        let columns = share(rows.width(), task % parts, parts);
        // SAFETY: numbers are shared out among the tasks.
        for number in unsafe { rows.part_mut(task / parts, columns) } {
            *number = cap * (*number / cap).tanh();
        }
    });
}
