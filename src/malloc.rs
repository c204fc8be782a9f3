//! What the C library does with large blocks of memory.
#![allow(unsafe_code)]

/// Just under the 2 GiB that mallopt's int holds.
const KEEP: i32 = i32::MAX;

/// Large tensors come from the heap, which is kept: by glibc's defaults every tensor above 32 MiB is mapped, faulted in
/// page by page, and unmapped at every operation (1.6 times the time of a step of 64 windows). To be called before
/// threads start. False where the C library has no such setting.
pub fn keep_large_blocks() -> bool {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        // SAFETY: mallopt changes numbers of the allocator, under its own lock.
        unsafe { mallopt(M_MMAP_THRESHOLD, KEEP) == 1 && mallopt(M_TRIM_THRESHOLD, KEEP) == 1 }
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_env = "gnu")]
    fn glibc_takes_the_thresholds() {
        assert!(super::keep_large_blocks());
    }
}
