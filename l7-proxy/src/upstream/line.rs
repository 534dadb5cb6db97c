//! Where requests wait while every server has as many as it may have (`queue`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use lvs_core::Refusal;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::model::Queue;

/// The requests of one worker that wait for a server of one upstream.
pub(crate) struct Line {
    bounds: Queue,
    /// Who waits, in the order in which they came. Only the first looks for a server; each of the others
    /// is told when it has become the first.
    waiting: RefCell<VecDeque<Rc<Notify>>>,
}

/// A request's place in the line; given up when dropped, for the client may not wait that long.
struct Standing<'a> {
    line: &'a Line,
    told: Rc<Notify>,
}

impl Line {
    pub(crate) fn new(bounds: Queue) -> Line {
        Line { bounds, waiting: RefCell::default() }
    }

    /// A server has got rid of a request.
    pub(crate) fn call(&self) {
        if let Some(first) = self.waiting.borrow().front() {
            first.notify_one();
        }
    }

    /// Chooses a server, or waits until one can be chosen. Who comes first is served first.
    ///
    /// # Errors
    /// As `choose`; that all are full only once the line is full, or the time is over.
    pub(crate) async fn choose<L>(&self, choose: impl Fn() -> Result<L, Refusal>) -> Result<L, Refusal> {
        let before = self.waiting.borrow().len();
        if before == 0 {
            match choose() {
                Err(Refusal::AllFull) => {}
                chosen => return chosen,
            }
        }
        if before >= self.bounds.length {
            return Err(Refusal::AllFull);
        }
        let standing = Standing::last(self);
        let chosen = timeout(self.bounds.timeout, async {
            loop {
                if standing.is_first() {
                    // Other workers do not tell when they are done with a server.
                    let _ = timeout(LOOK_EVERY, standing.told.notified()).await;
                } else {
                    standing.told.notified().await;
                }
                match choose() {
                    Err(Refusal::AllFull) => {}
                    chosen => return chosen,
                }
            }
        });
        chosen.await.unwrap_or(Err(Refusal::AllFull))
    }
}

impl Standing<'_> {
    /// The last place.
    fn last(line: &Line) -> Standing<'_> {
        let told = Rc::new(Notify::new());
        line.waiting.borrow_mut().push_back(Rc::clone(&told));
        Standing { line, told }
    }

    fn is_first(&self) -> bool {
        self.line.waiting.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.told))
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let was_first = self.is_first();
        self.line.waiting.borrow_mut().retain(|told| !Rc::ptr_eq(told, &self.told));
        if was_first {
            // There may be room for more than one, and what the first was told may not have reached it.
            self.line.call();
        }
    }
}

/// How often the first who waits looks for a server that other workers have left.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::task::{JoinHandle, LocalSet, spawn_local};
    use tokio::time::sleep;

    use super::*;

    /// A line for servers that take so many requests more.
    struct Scene {
        line: Line,
        room: Cell<usize>,
        looks: Cell<usize>,
        served: RefCell<Vec<usize>>,
    }

    impl Scene {
        fn stand(self: &Rc<Scene>, who: usize) -> JoinHandle<()> {
            let scene = Rc::clone(self);
            spawn_local(async move {
                let choose = || {
                    scene.looks.set(scene.looks.get() + 1);
                    let left = scene.room.get().checked_sub(1).ok_or(Refusal::AllFull)?;
                    scene.room.set(left);
                    Ok(())
                };
                scene.line.choose(choose).await.unwrap();
                scene.served.borrow_mut().push(who);
            })
        }
    }

    fn run<F: Future<Output = ()>>(play: impl FnOnce(Rc<Scene>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let line = Line::new(Queue { length: 1000, timeout: Duration::from_secs(60) });
        let (room, looks, served) = Default::default();
        LocalSet::new().block_on(&runtime, play(Rc::new(Scene { line, room, looks, served })));
    }

    #[test]
    fn who_comes_first_is_served_first_however_often_is_looked() {
        run(async |scene| {
            let mut tasks = Vec::new();
            for who in 0..5 {
                tasks.push(scene.stand(who));
                sleep(Duration::from_millis(3)).await;
            }
            // Room that nobody tells of.
            for _ in 0..5 {
                sleep(Duration::from_millis(7)).await;
                scene.room.set(scene.room.get() + 1);
            }
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*scene.served.borrow(), [0, 1, 2, 3, 4]);
        });
    }

    #[test]
    fn only_the_first_looks_for_a_server() {
        run(async |scene| {
            let tasks: Vec<_> = (0..1000).map(|who| scene.stand(who)).collect();
            sleep(Duration::from_millis(100)).await;
            let looks = scene.looks.get();
            assert!(looks < 20, "{looks}");
            scene.room.set(1000);
            for task in tasks {
                task.await.unwrap();
            }
            assert!(scene.served.borrow().is_sorted());
        });
    }

    #[test]
    fn whoever_leaves_leaves_the_others_what_it_was_told() {
        run(async |scene| {
            let tasks: Vec<_> = (0..4).map(|who| scene.stand(who)).collect();
            sleep(Duration::from_millis(1)).await;
            scene.room.set(1);
            scene.line.call();
            tasks[0].abort();
            tasks[2].abort();
            sleep(Duration::from_millis(30)).await;
            assert_eq!(*scene.served.borrow(), [1]);
            scene.room.set(1);
            scene.line.call();
            sleep(Duration::from_millis(30)).await;
            assert_eq!(*scene.served.borrow(), [1, 3]);
        });
    }
}
