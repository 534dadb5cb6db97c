//! An allocator that knows how many bytes are in use, and in blocks of which sizes: what has grown is
//! known by its size.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

pub(crate) struct Counting;

/// Blocks in use by their size: each eight bytes apart, and those above one after the other by powers of two.
static BLOCKS: [AtomicIsize; SIZES + 64] = [const { AtomicIsize::new(0) }; SIZES + 64];

static IN_USE: AtomicIsize = AtomicIsize::new(0);

/// Bytes that were asked for and not given back.
pub(crate) fn in_use() -> isize {
    IN_USE.load(Ordering::Relaxed)
}

/// How many blocks of about which size are in use.
pub(crate) fn blocks() -> Vec<(usize, isize)> {
    let size = |class: usize| if class < SIZES { class * STEP } else { 1 << (class - SIZES) };
    let counts = BLOCKS.iter().map(|count| count.load(Ordering::Relaxed));
    counts.enumerate().filter(|(_, count)| *count != 0).map(|(class, count)| (size(class), count)).collect()
}

fn count(size: usize, by: isize) {
    IN_USE.fetch_add(by * size.cast_signed(), Ordering::Relaxed);
    let small = size.div_ceil(STEP);
    let class = if small < SIZES { small } else { SIZES + size.ilog2() as usize };
    BLOCKS[class].fetch_add(by, Ordering::Relaxed);
}

const STEP: usize = 8;
const SIZES: usize = 8192;

// SAFETY: every call is passed on to the system's allocator as it is, and the counters are atomic
// numbers that never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
