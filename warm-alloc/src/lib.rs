//! Memory that was freed last is given out first.
//!
//! A thread that serves many connections gives memory back and asks for as much again within
//! microseconds. What it gave back last is still in the processor's first cache; a general allocator hands
//! out all else of a page before it comes back to that, so that whatever is written begins by waiting for
//! a slower one. [`Warm`] stands in front of such an allocator and keeps what its threads give back, a
//! stack for each size, as long as it is little.
//!
//! Only threads that say so ([`keep`]) keep memory; all others go straight to the allocator behind.
//!
//! ```
//! use std::alloc::System;
//!
//! // SAFETY: it is the only one, and the global allocator.
//! #[global_allocator]
//! static ALLOCATOR: warm_alloc::Warm<System> = unsafe { warm_alloc::Warm::new(System) };
//!
//! let kept = warm_alloc::keep();
//! let first = Box::new([0_u64; 40]);
//! let place = std::ptr::from_ref(&*first).addr();
//! drop(first);
//! assert_eq!(std::ptr::from_ref(&*Box::new([1_u64; 40])).addr(), place);
//! # drop(kept);
//! ```
//!
//! # What the unsafe code relies on
//!
//! 1. There is one [`Warm`] in a process, and it is the global allocator: who makes it promises that. So all
//!    that lies on a stack came from the one allocator behind it.
//! 2. A block's stack follows from its layout alone. It is asked for with that stack's layout and freed with it,
//!    whichever threads do the two, and is large enough for every layout of the stack.
//! 3. A block on a stack is in nobody's hands, so that its first word may hold the address of the next. Stacks
//!    are a thread's own, and nothing but `push` and `pop` reads or writes them.
//! 4. A thread's stacks have no destructor: what its other values free while it ends still finds them. What
//!    lies there by then is given back before, by [`Keeping`], or is lost; never given out twice.
//!
//! `tests/allocator.rs` plays with all of that, over an allocator that takes down what it has given out. Miri
//! would judge the pointers as well, and needs a nightly compiler, which this workspace does without.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

/// An allocator that gives out first what was freed last; memory comes from the one behind it.
///
/// A process has one, as its global allocator: all of them would keep memory in the same place.
#[derive(Debug)]
pub struct Warm<A> {
    behind: A,
}

impl<A> Warm<A> {
    /// Stands in front of `behind`.
    ///
    /// # Safety
    /// There is no other in the process, and it is the global allocator (`#[global_allocator]`): what one has
    /// kept would be given out, and given back, by the other.
    pub const unsafe fn new(behind: A) -> Warm<A> {
        Warm { behind }
    }
}

/// Keeps what this thread frees until the guard is dropped, one megabyte at most.
///
/// It does nothing where [`Warm`] is not the global allocator.
pub fn keep() -> Keeping {
    SHELF.with(|shelf| shelf.most.set(KEPT_MAX));
    Keeping { _of_this_thread: PhantomData }
}

/// While it lives, its thread keeps what it frees.
#[derive(Debug)]
#[must_use = "nothing is kept any more once it is dropped"]
pub struct Keeping {
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        SHELF.with(|shelf| shelf.most.set(0));
        for (place, stack) in stacks() {
            while let Some(block) = pop(place, stack) {
                // SAFETY: it came from the global allocator with this layout or one of the same stack, which
                // is given out with this one. As nothing is kept any more it goes to the allocator behind.
                unsafe { std::alloc::dealloc(block, stack) };
            }
        }
    }
}

/// What a thread has freed, and may have again.
struct Shelf {
    /// The stacks, one for each size in words; each block begins with the address of the next.
    tops: [Cell<*mut u8>; STACKS],
    /// How many bytes they hold.
    kept: Cell<usize>,
    /// How many they may.
    most: Cell<usize>,
}

thread_local! {
    static SHELF: Shelf = const {
        Shelf { tops: [const { Cell::new(ptr::null_mut()) }; STACKS], kept: Cell::new(0), most: Cell::new(0) }
    };
}

/// Returns the stack that a block of this layout belongs to, and the layout of all on it; `None` for what
/// is not kept.
fn stack(layout: Layout) -> Option<(usize, Layout)> {
    let place = layout.size().wrapping_sub(1) / WORD;
    if layout.size() == 0 || place >= STACKS || layout.align() > WORD {
        return None;
    }
    Some((place, layout_of(place)))
}

fn layout_of(place: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size far from overflowing.
    unsafe { Layout::from_size_align_unchecked((place + 1) * WORD, WORD) }
}

fn stacks() -> impl Iterator<Item = (usize, Layout)> {
    (0..STACKS).map(|place| (place, layout_of(place)))
}

/// Takes what was put on a stack last.
#[inline]
fn pop(place: usize, layout: Layout) -> Option<*mut u8> {
    SHELF.with(|shelf| {
        let top = shelf.tops[place].get();
        if top.is_null() {
            return None;
        }
        // SAFETY: `push` wrote the address of the next block there, and nobody has had the block since.
        shelf.tops[place].set(unsafe { top.cast::<*mut u8>().read() });
        shelf.kept.set(shelf.kept.get() - layout.size());
        Some(top)
    })
}

/// Puts a block on its stack; whether there was room.
///
/// # Safety
/// The block is of this layout, which is its stack's, and nobody else's any more.
#[inline]
unsafe fn push(block: *mut u8, place: usize, layout: Layout) -> bool {
    SHELF.with(|shelf| {
        let kept = shelf.kept.get() + layout.size();
        if kept > shelf.most.get() {
            return false;
        }
        // SAFETY: a block is a word at least, and aligned as one.
        unsafe { block.cast::<*mut u8>().write(shelf.tops[place].get()) };
        shelf.tops[place].set(block);
        shelf.kept.set(kept);
        true
    })
}

// SAFETY: blocks come from the allocator behind. Whether one may be kept is decided by its layout alone, so
// that it is asked for with its stack's layout, freed with it, and large enough for each layout of that
// stack, whichever thread does what. A block on a stack is in no other place.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Warm<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match stack(layout) {
            Some((place, layout)) => match pop(place, layout) {
                Some(block) => block,
                // SAFETY: the layout is that of a stack, and has a size.
                None => unsafe { self.behind.alloc(layout) },
            },
            // SAFETY: the caller's promise.
            None => unsafe { self.behind.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match stack(layout) {
            Some((place, layout)) => {
                // SAFETY: it was allocated with a layout of this stack, as the caller promises, and is given up.
                if !unsafe { push(block, place, layout) } {
                    // SAFETY: what has a stack came from there with its layout.
                    unsafe { self.behind.dealloc(block, layout) };
                }
            }
            // SAFETY: the caller's promise.
            None => unsafe { self.behind.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if stack(layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { self.behind.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is as large as that.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size does not overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (stack(layout), stack(wanted)) {
            // SAFETY: the caller's promise, and the allocator behind is the one that has it.
            (None, None) => unsafe { self.behind.realloc(block, layout, size) },
            (Some((before, _)), Some((after, _))) if before == after => block,
            _ => {
                // SAFETY: the caller's promise.
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both are as large as what is copied, and apart; the old one is given up.
                    unsafe {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                }
                moved
            }
        }
    }
}

/// What sizes are counted in.
const WORD: usize = size_of::<*mut u8>();

/// Up to this size blocks are kept: as large as what one request needs in one piece.
const LARGEST: usize = 4096;

const STACKS: usize = LARGEST / WORD;

/// As much as a thread keeps: about half of a second cache.
const KEPT_MAX: usize = 1 << 20;
