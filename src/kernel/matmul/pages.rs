//! Zeroed memory for weights, in huge pages where the system has them.

/// So many zeros. Large ones lie in huge pages on Linux: streaming through them was measured 15 %
/// faster, and only a program that asks gets them.
pub(super) fn zeroed<T: Copy>(zero: T, count: usize) -> Vec<T> {
    let mut zeros = Vec::with_capacity(count);
    // Before it is touched: pages are chosen then.
    #[cfg(target_os = "linux")]
    advise(zeros.spare_capacity_mut());
    zeros.resize(count, zero);
    zeros
}

/// Size of a huge page.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T]) {
    let range = memory.as_ptr_range();
    let (start, end) = (
        range.start.addr().next_multiple_of(HUGE),
        range.end.addr() / HUGE * HUGE,
    );
    if start >= end {
        return;
    }
    let first = range
        .start
        .cast::<u8>()
        .wrapping_add(start - range.start.addr());
    // SAFETY: whole pages inside the allocation; the advice changes how they are held, not what they
    // hold.
    let refused =
        unsafe { libc::madvise(first.cast_mut().cast(), end - start, libc::MADV_HUGEPAGE) };
    if refused != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "weights lie in small pages");
    }
}
