//! Which processors a worker runs on (`worker_cpu_affinity`).

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which processors workers run on; a set is a list of numbers of processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// One each, in turns (`auto`): of these, or of all that the process may use.
    Auto(Option<Vec<usize>>),
    /// The first worker on the first set, and so on; the last set is that of all others. Never empty.
    Sets(Vec<Vec<usize>>),
}

impl Affinity {
    /// Reads a mask of bits, the processor 0 last; `None` if it is none.
    pub(crate) fn parse_mask(mask: &str) -> Option<Vec<usize>> {
        let bits = mask.chars().filter(|&bit| bit != ' ');
        let bits: Vec<bool> = bits.map(|bit| "01".find(bit).map(|bit| bit == 1)).collect::<Option<_>>()?;
        let known = bits.len() <= CpuSet::MAX_CPU;
        known.then(|| (0..bits.len()).filter(|&place| bits[bits.len() - 1 - place]).collect())
    }

    /// Has this thread, that of the worker of this number, run where it is to.
    ///
    /// # Errors
    /// There is no such processor here, or the process may not use it.
    pub(crate) fn settle(&self, worker: usize) -> io::Result<()> {
        let usable = || -> io::Result<Vec<usize>> {
            let set = sched_getaffinity(None)?;
            Ok((0..CpuSet::MAX_CPU).filter(|&place| set.is_set(place)).collect())
        };
        let chosen = match self {
            Self::Auto(Some(those)) => one_of(those, worker),
            Self::Auto(None) => one_of(&usable()?, worker),
            Self::Sets(sets) => sets.get(worker).or(sets.last()).cloned().unwrap_or_default(),
        };
        let mut set = CpuSet::new();
        chosen.iter().for_each(|&place| set.set(place));
        Ok(sched_setaffinity(None, &set)?)
    }
}

fn one_of(processors: &[usize], worker: usize) -> Vec<usize> {
    processors.iter().cycle().nth(worker).copied().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{Affinity, one_of};

    #[test]
    fn last_bit_of_a_mask_is_the_first_processor() {
        assert_eq!(Affinity::parse_mask("0101"), Some(vec![0, 2]));
        assert_eq!(Affinity::parse_mask("1000 0001"), Some(vec![0, 7]));
        assert_eq!(Affinity::parse_mask("012"), None);
        assert_eq!(Affinity::parse_mask(&"1".repeat(2000)), None);
    }

    #[test]
    fn workers_take_turns_at_processors() {
        let taken: Vec<_> = (0..4).flat_map(|worker| one_of(&[1, 5, 6], worker)).collect();
        assert_eq!(taken, [1, 5, 6, 1]);
    }

    #[test]
    fn thread_runs_where_its_worker_is_to() {
        let settled = std::thread::spawn(|| {
            let allowed = rustix::thread::sched_getaffinity(None).unwrap();
            let first = (0..1024).find(|&place| allowed.is_set(place)).unwrap();
            Affinity::Sets(vec![vec![first]]).settle(3).unwrap();
            (rustix::thread::sched_getcpu(), rustix::thread::sched_getaffinity(None).unwrap().count(), first)
        });
        let (runs_on, count, first) = settled.join().unwrap();
        assert_eq!((runs_on, count), (first, 1));
    }
}
