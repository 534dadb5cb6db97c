//! What variables show of the program around a request.

use std::fmt;

/// The program around a request.
pub trait Around: fmt::Debug {
    /// Returns how many connections of clients there are.
    fn connections(&self) -> Connections;
}

/// How many connections of clients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// A head is being read of these.
    pub reading: u64,
    /// A request of these is being answered.
    pub writing: u64,
    /// These wait for a request.
    pub waiting: u64,
}

/// Which connections a variable counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// `$connections_active`: all of them.
    Active,
    /// `$connections_reading`
    Reading,
    /// `$connections_writing`
    Writing,
    /// `$connections_waiting`
    Waiting,
}

impl Counting {
    pub(super) fn of(self, connections: Connections) -> u64 {
        let Connections { reading, writing, waiting } = connections;
        match self {
            Self::Active => reading + writing + waiting,
            Self::Reading => reading,
            Self::Writing => writing,
            Self::Waiting => waiting,
        }
    }
}

/// No program at all, in which there are no connections.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Around for Nowhere {
    fn connections(&self) -> Connections {
        Connections::default()
    }
}
