//! IPVS as its schedulers see it: a list with the newest server in front, a flag for overload, and
//! for the ones that take turns a cursor that is a node of the list or its head.

use lvs_core::Algorithm;
use proptest::prelude::*;

use super::pace::Answers;
use super::{Call, Pair, Twin, Wish, limited_wish, steps};

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
        Pair::new(Algorithm::Lc, Kernel::new(Least(connections))).play(steps)?;
    }

    #[test]
    fn wlc_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Wlc, Kernel::new(Least(weighted_connections))).play(steps)?;
    }

    #[test]
    fn sed_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Sed, Kernel::new(Least(delay))).play(steps)?;
    }

    #[test]
    fn nq_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Nq, Kernel::new(Nq)).play(steps)?;
    }

    #[test]
    fn fo_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Fo, Kernel::new(Least(lightness))).play(steps)?;
    }

    #[test]
    fn ovf_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Ovf, Kernel::new(Ovf)).play(steps)?;
    }

    #[test]
    fn twos_picks_as_its_twin(steps in steps(limited_wish().boxed())) {
        Pair::new(Algorithm::Twos, Kernel::new(Twos)).play(steps)?;
    }
}

/// A real server in the kernel's list.
pub(super) struct Node {
    pub(super) server: u8,
    pub(super) wish: Wish,
    /// The weight, or the last that was not 0.
    pub(super) last_weight: u32,
    pub(super) active: u32,
    inactive: u32,
    pub(super) overload: bool,
    pub(super) down: bool,
    pub(super) answers: Answers,
}

pub(super) struct Kernel<R> {
    /// Newest first.
    list: Vec<Node>,
    /// Deleted, with connections that still live.
    trash: Vec<Node>,
    rule: R,
}

/// A scheduler's callbacks.
pub(super) trait Rule {
    /// Returns the place in the list of the server to use.
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize>;
    /// A server was added, edited or deleted; this is the list now.
    fn changed(&mut self, _list: &[Node]) {}
    /// The server at this place was unlinked from the list, which is shown without it.
    fn unlinked(&mut self, _server: u8, _place: usize, _list: &[Node]) {}
}

impl Node {
    pub(super) fn total(&self) -> u32 {
        self.active + self.inactive
    }

    pub(super) fn overhead(&self) -> u64 {
        u64::from(self.active) * 256 + u64::from(self.inactive)
    }

    pub(super) fn can_serve(&self) -> bool {
        !self.overload && !self.down
    }
}

impl<R: Rule> Kernel<R> {
    pub(super) fn new(rule: R) -> Kernel<R> {
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
        if wish.weight > 0 {
            node.last_weight = wish.weight;
        }
    }
}

impl<R: Rule> Twin for Kernel<R> {
    fn add(&mut self, server: u8, wish: Wish) {
        let mut node = match self.trash.iter().position(|node| node.server == server) {
            Some(place) => {
                let mut node = self.trash.swap_remove(place);
                Kernel::<R>::update(&mut node, wish);
                node
            }
            None => Node {
                server,
                wish,
                last_weight: 0,
                active: 0,
                inactive: 0,
                overload: false,
                down: false,
                answers: Answers::default(),
            },
        };
        node.last_weight = wish.weight;
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

    fn answer(&mut self, server: u8, millis: Option<u64>, now: u64) {
        self.node(server).answers.take(millis, now);
    }

    fn open(&mut self, call: &Call) -> Option<u8> {
        let place = self.rule.pick(&self.list, call)?;
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
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
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
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
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

/// The usable server whose load is least for its weight; the first of equals.
pub(super) fn cheapest(list: &[Node], cost: fn(&Node) -> (u64, u64)) -> Option<usize> {
    let usable = || (0..list.len()).filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0);
    let costs_no_more = |one: &Node, other: &Node| {
        let ((load, weight), (other_load, other_weight)) = (cost(one), cost(other));
        load * other_weight <= other_load * weight
    };
    usable().find(|place| usable().all(|other| costs_no_more(&list[*place], &list[other])))
}

/// `lc`, `wlc`, `sed`, `fo`: the least of something.
struct Least(fn(&Node) -> (u64, u64));

impl Rule for Least {
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
        cheapest(list, self.0)
    }
}

fn connections(node: &Node) -> (u64, u64) {
    (node.overhead(), 1)
}

pub(super) fn weighted_connections(node: &Node) -> (u64, u64) {
    (node.overhead(), u64::from(node.wish.weight))
}

fn delay(node: &Node) -> (u64, u64) {
    (u64::from(node.active) + 1, u64::from(node.wish.weight))
}

fn lightness(node: &Node) -> (u64, u64) {
    (1, u64::from(node.wish.weight))
}

struct Nq;

impl Rule for Nq {
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
        let idle = list.iter().position(|node| node.can_serve() && node.wish.weight > 0 && node.active == 0);
        idle.or_else(|| cheapest(list, delay))
    }
}

struct Ovf;

impl Rule for Ovf {
    fn pick(&mut self, list: &[Node], _call: &Call) -> Option<usize> {
        let takes_more = |node: &Node| node.can_serve() && node.active <= node.wish.weight;
        let weights = list.iter().filter(|node| takes_more(node)).map(|node| node.wish.weight);
        let heaviest = weights.max().filter(|weight| *weight > 0)?;
        list.iter().position(|node| takes_more(node) && node.wish.weight == heaviest)
    }
}

/// The draws are those of the call.
struct Twos;

impl Rule for Twos {
    fn pick(&mut self, list: &[Node], call: &Call) -> Option<usize> {
        let usable: Vec<usize> = (0..list.len())
            .filter(|place| list[*place].can_serve() && list[*place].wish.weight > 0)
            .collect();
        let total: u64 = usable.iter().map(|place| u64::from(list[*place].wish.weight)).sum();
        let [first, second] = call.draws().map(|draw| {
            let mut left = (draw % (total + 1)) as i64;
            usable.iter().copied().find(|place| {
                left -= i64::from(list[*place].wish.weight);
                left <= 0
            })
        });
        let (one, two) = (&list[first?], &list[second?]);
        let second_is_freer =
            u64::from(two.wish.weight) * one.overhead() > u64::from(one.wish.weight) * two.overhead();
        if second_is_freer { second } else { first }
    }
}
