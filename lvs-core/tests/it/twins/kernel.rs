//! IPVS as its schedulers see it: a list with the newest server in front, a flag for overload, and
//! for the ones that take turns a cursor that is a node of the list or its head.

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::{Pair, Twin, Wish, limited_wish, steps};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rr_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Rr, Kernel::new(Rr { cursor: None })).play(steps)?;
    }

    #[test]
    fn wrr_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Wrr, Kernel::new(Wrr::default())).play(steps)?;
    }

    #[test]
    fn lc_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Lc, Kernel::new(Lc)).play(steps)?;
    }

    #[test]
    fn wlc_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Wlc, Kernel::new(Wlc)).play(steps)?;
    }
}

/// A real server in the kernel's list.
struct Node {
    server: u8,
    wish: Wish,
    active: u32,
    inactive: u32,
    overload: bool,
    down: bool,
}

struct Kernel<R> {
    /// Newest first.
    list: Vec<Node>,
    /// Deleted, with connections that still live.
    trash: Vec<Node>,
    rule: R,
}

/// A scheduler's callbacks.
trait Rule {
    /// Returns the place in the list of the server to use.
    fn pick(&mut self, list: &[Node]) -> Option<usize>;
    /// A server was added, edited or deleted; this is the list now.
    fn changed(&mut self, _list: &[Node]) {}
    /// The server at this place was unlinked from the list, which is shown without it.
    fn unlinked(&mut self, _server: u8, _place: usize, _list: &[Node]) {}
}

impl Node {
    fn total(&self) -> u32 {
        self.active + self.inactive
    }

    fn overhead(&self) -> u64 {
        u64::from(self.active) * 256 + u64::from(self.inactive)
    }

    fn can_serve(&self) -> bool {
        !self.overload && !self.down
    }
}

impl<R: Rule> Kernel<R> {
    fn new(rule: R) -> Kernel<R> {
        Kernel { list: Vec::new(), trash: Vec::new(), rule }
    }

    fn node(&mut self, server: u8) -> &mut Node {
        let known = self.list.iter_mut().chain(&mut self.trash);
        known.into_iter().find(|node| node.server == server).expect("a server of the twin")
    }

    fn update(node: &mut Node, wish: Wish) {
        if wish.upper == 0 || wish.upper > node.wish.upper {
            node.overload = false;
        }
        node.wish = wish;
    }
}

impl<R: Rule> Twin for Kernel<R> {
    fn add(&mut self, server: u8, wish: Wish) {
        let node = match self.trash.iter().position(|node| node.server == server) {
            Some(place) => {
                let mut node = self.trash.swap_remove(place);
                Kernel::<R>::update(&mut node, wish);
                node
            }
            None => Node { server, wish, active: 0, inactive: 0, overload: false, down: false },
        };
        self.list.insert(0, node);
        self.rule.changed(&self.list);
    }

    fn edit(&mut self, server: u8, wish: Wish) {
        Kernel::<R>::update(self.node(server), wish);
        self.rule.changed(&self.list);
    }

    fn delete(&mut self, server: u8) {
        let place = self.list.iter().position(|node| node.server == server).expect("a listed server");
        let node = self.list.remove(place);
        if node.total() > 0 {
            self.trash.push(node);
        }
        self.rule.unlinked(server, place, &self.list);
        self.rule.changed(&self.list);
    }

    fn set_down(&mut self, server: u8, down: bool) {
        self.node(server).down = down;
    }

    fn open(&mut self) -> Option<u8> {
        let place = self.rule.pick(&self.list)?;
        let node = &mut self.list[place];
        node.active += 1;
        if node.wish.upper != 0 && node.total() >= node.wish.upper {
            node.overload = true;
        }
        Some(node.server)
    }

    fn close(&mut self, server: u8) {
        let node = self.node(server);
        node.active -= 1;
        node.inactive += 1;
    }

    fn expire(&mut self, server: u8, closed: bool) {
        let node = self.node(server);
        if closed {
            node.inactive -= 1;
        } else {
            node.active -= 1;
        }
        let Wish { upper, lower, .. } = node.wish;
        let room = if lower != 0 {
            node.total() < lower
        } else if upper != 0 {
            node.total() * 4 < upper * 3
        } else {
            true
        };
        if room {
            node.overload = false;
        }
        self.trash.retain(|node| node.total() > 0);
    }

    fn state(&self, server: u8) -> (u32, u32, bool) {
        let node = self.list.iter().find(|node| node.server == server).expect("a listed server");
        (node.active, node.inactive, node.overload)
    }
}

/// The place after a cursor.
fn after(cursor: Option<u8>, list: &[Node]) -> usize {
    match cursor {
        None => 0,
        Some(server) => 1 + list.iter().position(|node| node.server == server).expect("a listed cursor"),
    }
}

/// Server used last; `None` is the head of the list.
struct Rr {
    cursor: Option<u8>,
}

impl Rule for Rr {
    fn pick(&mut self, list: &[Node]) -> Option<usize> {
        let start = after(self.cursor, list);
        let once_around = (start..list.len()).chain(0..start);
        let mut usable = once_around.filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0);
        let place = usable.next()?;
        self.cursor = Some(list[place].server);
        Some(place)
    }

    fn unlinked(&mut self, server: u8, place: usize, list: &[Node]) {
        if self.cursor == Some(server) {
            self.cursor = place.checked_sub(1).map(|previous| list[previous].server);
        }
    }
}

#[derive(Default)]
struct Wrr {
    cursor: Option<u8>,
    current: u32,
    max: u32,
    step: u32,
}

impl Wrr {
    /// The next threshold; says whether it began again from the top.
    fn sink(&mut self) -> bool {
        self.current = self.current.saturating_sub(self.step);
        if self.current == 0 {
            self.current = self.max;
            return true;
        }
        false
    }
}

impl Rule for Wrr {
    fn pick(&mut self, list: &[Node]) -> Option<usize> {
        if self.max == 0 {
            return None;
        }
        let began_at = self.cursor;
        let mut begin = after(began_at, list);
        // The last server to look at, once everything else has been looked at.
        let mut stop = None;
        let (mut last_pass, mut restarted) = (false, false);
        for _sweep in 0..10_000 {
            for (place, node) in list.iter().enumerate().skip(begin) {
                if node.can_serve() && node.wish.weight >= self.current {
                    self.cursor = Some(node.server);
                    return Some(place);
                }
                if stop == Some(node.server) {
                    self.cursor = stop;
                    return None;
                }
            }
            begin = 0;
            if self.sink() {
                if last_pass || began_at.is_none() {
                    self.cursor = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.current <= self.step;
            if last_pass && restarted {
                stop = began_at;
            }
        }
        panic!("wrr does not end");
    }

    fn changed(&mut self, list: &[Node]) {
        let weights = || list.iter().map(|node| node.wish.weight).filter(|weight| *weight > 0);
        self.cursor = None;
        self.step = (1..=weights().max().unwrap_or(1))
            .rev()
            .find(|divisor| weights().all(|weight| weight % divisor == 0))
            .expect("1 divides");
        self.max = weights().max().unwrap_or(0).saturating_sub(self.step - 1);
        if self.current > self.max || self.current == 0 {
            self.current = self.max;
        } else if self.step > 1 {
            self.current = self.current / self.step * self.step + 1;
        }
    }
}

struct Lc;

impl Rule for Lc {
    fn pick(&mut self, list: &[Node]) -> Option<usize> {
        let usable = (0..list.len()).filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0);
        usable.min_by_key(|place| (list[*place].overhead(), *place))
    }
}

struct Wlc;

impl Rule for Wlc {
    fn pick(&mut self, list: &[Node]) -> Option<usize> {
        let usable =
            || (0..list.len()).filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0);
        let costs_no_more = |one: &Node, other: &Node| {
            one.overhead() * u64::from(other.wish.weight) <= other.overhead() * u64::from(one.wish.weight)
        };
        usable().find(|place| usable().all(|other| costs_no_more(&list[*place], &list[other])))
    }
}
