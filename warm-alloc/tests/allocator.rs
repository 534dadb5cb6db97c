//! The allocator as a program has it: everything in this process comes from it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};

use warm_alloc::{Warm, keep};

// SAFETY: it is the only one, and the global allocator.
#[global_allocator]
static ALLOCATOR: Warm<Watched> = unsafe { Warm::new(Watched) };

/// The system's allocator, which takes down what it has given out to threads that ask for it.
struct Watched;

thread_local! {
    static WATCHES: Cell<bool> = const { Cell::new(false) };
    /// Needs no memory while it is added to.
    static GIVEN: RefCell<Vec<(usize, Layout)>> = const { RefCell::new(Vec::new()) };
}

/// Begins to take down what this thread is given.
fn watch(given: impl IntoIterator<Item = (usize, Layout)>) {
    let mut list = Vec::with_capacity(10_000);
    list.extend(given);
    GIVEN.set(list);
    WATCHES.set(true);
}

fn note_given(block: *mut u8, layout: Layout) {
    if WATCHES.get() {
        GIVEN.with_borrow_mut(|given| {
            assert!(given.iter().all(|(place, _)| *place != block.addr()), "given out twice");
            assert!(given.len() < given.capacity());
            given.push((block.addr(), layout));
        });
    }
}

fn note_freed(block: *mut u8, layout: Layout) {
    if WATCHES.get() {
        GIVEN.with_borrow_mut(|given| {
            let place = given.iter().position(|&known| known == (block.addr(), layout));
            given.swap_remove(place.expect("freed as what it was not given out as"));
        });
    }
}

// SAFETY: all calls go to the system's.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc(layout) };
        note_given(block, layout);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note_freed(block, layout);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

#[test]
fn everything_goes_back_as_what_it_was() {
    watch([]);
    let kept = keep();
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut held: Vec<(*mut u8, Layout, u8)> = Vec::with_capacity(1000);
    for step in 0..60_000_u32 {
        let mark = step.to_le_bytes()[0];
        let pick = |next: &mut dyn FnMut(usize) -> usize, held: &[_]| next(held.len());
        match next(8) {
            0..4 if held.len() < 1000 => {
                let size = 1 + if next(10) == 0 { next(20_000) } else { next(600) };
                let layout = Layout::from_size_align(size, 1 << next(6)).unwrap();
                let zeroed = next(4) == 0;
                // SAFETY: the size is not 0.
                let block =
                    unsafe { if zeroed { ALLOCATOR.alloc_zeroed(layout) } else { ALLOCATOR.alloc(layout) } };
                assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
                // SAFETY: it is of this size, and ours.
                unsafe {
                    assert!(!zeroed || std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
                    block.write_bytes(mark, size);
                }
                held.push((block, layout, mark));
            }
            4..6 if !held.is_empty() => {
                let (block, layout, mark) = held.swap_remove(pick(&mut next, &held));
                // SAFETY: it is of this size, ours, and given up.
                unsafe {
                    let bytes = std::slice::from_raw_parts(block, layout.size());
                    assert!(bytes.iter().all(|&byte| byte == mark), "written by somebody else");
                    ALLOCATOR.dealloc(block, layout);
                }
            }
            6..8 if !held.is_empty() => {
                let place = pick(&mut next, &held);
                let (block, layout, mark) = held[place];
                let size = 1 + next(5000);
                // SAFETY: the size is not 0, and the old block is given up.
                let moved = unsafe { ALLOCATOR.realloc(block, layout, size) };
                let same = layout.size().min(size);
                // SAFETY: it is of this size, and ours.
                unsafe {
                    assert!(std::slice::from_raw_parts(moved, same).iter().all(|&byte| byte == mark));
                    moved.write_bytes(mark, size);
                }
                held[place] = (moved, Layout::from_size_align(size, layout.align()).unwrap(), mark);
            }
            _ => {}
        }
    }
    for (block, layout, _) in held.drain(..) {
        // SAFETY: it is given up.
        unsafe { ALLOCATOR.dealloc(block, layout) };
    }
    drop((kept, held));
    WATCHES.set(false);
    let left = GIVEN.take();
    assert!(left.is_empty(), "{left:?} were not given back");
}

#[test]
fn last_freed_is_first_given_out() {
    let place = |block: &[u64]| block.as_ptr().addr();
    let _kept = keep();
    let (one, other) = (vec![1_u64; 37], vec![2_u64; 37]);
    let (first, second) = (place(&one), place(&other));
    drop((one, other));
    let (one, other) = (vec![1_u64; 37], vec![2_u64; 37]);
    assert_eq!((place(&one), place(&other)), (second, first));
}

#[test]
fn block_may_be_freed_by_any_thread() {
    let _kept = keep();
    for round in 0..100_u64 {
        let block = vec![round; 50];
        let back = std::thread::spawn(move || {
            // Every other one keeps what it did not allocate, and gives it back at its end.
            let _kept = round.is_multiple_of(2).then(keep);
            assert_eq!(block, [round; 50]);
            drop(block);
            vec![round + 1; 50]
        });
        assert_eq!(back.join().unwrap(), [round + 1; 50]);
    }
}

#[test]
fn what_a_thread_keeps_is_bounded() {
    let layout = Layout::from_size_align(4096, 8).unwrap();
    let _kept = keep();
    // SAFETY: the size is not 0.
    let blocks: Vec<*mut u8> = (0..1000).map(|_| unsafe { ALLOCATOR.alloc(layout) }).collect();
    watch(blocks.iter().map(|block| (block.addr(), layout)));
    for &block in &blocks {
        // SAFETY: it is given up.
        unsafe { ALLOCATOR.dealloc(block, layout) };
    }
    WATCHES.set(false);
    let kept = GIVEN.take().len();
    assert!((200..=256).contains(&kept), "{kept} blocks of 4096 bytes");
}
