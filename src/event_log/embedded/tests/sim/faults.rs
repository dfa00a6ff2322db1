//! What can go wrong with an operation of the disk, and when it does.

use std::{collections::BTreeMap, fmt, io};

use super::chance::Chance;

/// What the log asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    CreateDir,
    List,
    Create,
    Open,
    Size,
    Read,
    Write,
    Allocate,
    Truncate,
    Sync,
    DropCache,
    Rename,
    Link,
    Unlink,
    SyncDir,
}

/// What kind of file an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Segment,
    State,
    Other,
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It fails and does nothing; a sync does some of its work and forgets the rest.
    Error,
    /// The same, since the disk is full.
    Full,
    /// The same, since the quota is used up.
    Quota,
    /// A read or write does a part and says so.
    Short,
    /// A write or allocation does a part and fails.
    Part,
    /// A write or allocation does a part and fails, since the disk is full.
    PartFull,
}

/// One operation of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) op: Op,
    pub(super) kind: Kind,
    /// The name of the file, or of the directory.
    pub(super) name: String,
}

/// When operations go wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// The next operation of each of these sorts goes wrong.
    next: Vec<(Op, Kind, Fault)>,
    /// The operation with this number goes wrong, the next one being 0.
    at: Option<(u64, Fault)>,
    /// About one operation of this many goes wrong.
    one_in: Option<(usize, Chance)>,
    /// How often each fault came about, over the life of the disk and its forks.
    pub(super) fired: BTreeMap<(Op, Fault), u64>,
}

impl Operation {
    pub(super) fn new(op: Op, path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self {
            op,
            kind: Kind::of(name),
            name: name.into(),
        }
    }

    /// Whether it changes what the disk may be after a crash.
    pub(super) fn is_change(&self) -> bool {
        match self.op {
            Op::List | Op::Open | Op::Size | Op::Read | Op::DropCache => false,
            Op::CreateDir
            | Op::Create
            | Op::Write
            | Op::Allocate
            | Op::Truncate
            | Op::Sync
            | Op::Rename
            | Op::Link
            | Op::Unlink
            | Op::SyncDir => true,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}", self.op, self.name)
    }
}

impl Kind {
    fn of(name: &str) -> Self {
        if name.ends_with(".seg") || name == "spare" {
            Self::Segment
        } else if name.starts_with("state") {
            Self::State
        } else {
            Self::Other
        }
    }
}

impl Fault {
    /// What the operating system says.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Error | Self::Short | Self::Part => io::Error::other("the disk failed"),
            Self::Full | Self::PartFull => io::ErrorKind::StorageFull.into(),
            Self::Quota => io::ErrorKind::QuotaExceeded.into(),
        }
    }

    /// Whether an operation can go wrong like this.
    fn fits(self, op: Op) -> bool {
        match self {
            Self::Error => op != Op::DropCache,
            Self::Full | Self::Quota => matches!(
                op,
                Op::CreateDir
                    | Op::Create
                    | Op::Write
                    | Op::Allocate
                    | Op::Truncate
                    | Op::Sync
                    | Op::Rename
                    | Op::Link
                    | Op::SyncDir
            ),
            Self::Short => matches!(op, Op::Read | Op::Write),
            Self::Part | Self::PartFull => matches!(op, Op::Write | Op::Allocate),
        }
    }
}

impl Faults {
    /// Makes the next operation of a sort go wrong.
    pub(super) fn fail_next(&mut self, op: Op, kind: Kind, fault: Fault) {
        self.next.push((op, kind, fault));
    }

    /// Makes the operation go wrong that comes after `number` others.
    pub(super) fn fail_at(&mut self, number: u64, fault: Fault) {
        self.at = Some((number, fault));
    }

    /// Makes about one operation in `times` go wrong.
    pub(super) fn fail_at_random(&mut self, times: usize, seed: u64) {
        self.one_in = Some((times, Chance::new(seed)));
    }

    /// Lets nothing go wrong any more.
    pub(super) fn heal(&mut self) {
        (self.next, self.at, self.one_in) = (Vec::new(), None, None);
    }

    /// How often something went wrong so that the log was told of it.
    pub(super) fn failures(&self) -> u64 {
        let told = self.fired.iter();
        let told = told.filter(|((_, fault), _)| *fault != Fault::Short);
        told.map(|(_, count)| count).sum()
    }

    /// How this operation goes wrong, if it does.
    pub(super) fn strike(&mut self, operation: &Operation) -> Option<Fault> {
        let fault = self
            .due(operation)
            .filter(|fault| fault.fits(operation.op))?;
        *self.fired.entry((operation.op, fault)).or_default() += 1;
        Some(fault)
    }

    fn due(&mut self, operation: &Operation) -> Option<Fault> {
        let sort = (operation.op, operation.kind);
        if let Some(at) = self.next.iter().position(|next| (next.0, next.1) == sort) {
            return Some(self.next.remove(at).2);
        }
        if let Some((left, fault)) = &mut self.at {
            if *left == 0 {
                let fault = *fault;
                self.at = None;
                return Some(fault);
            }
            *left -= 1;
        }
        let (times, chance) = self.one_in.as_mut()?;
        chance.one_in(*times).then(|| *chance.pick(&ALL))
    }
}

/// Every way in which an operation goes wrong.
pub(super) const ALL: [Fault; 6] = [
    Fault::Error,
    Fault::Full,
    Fault::Quota,
    Fault::Short,
    Fault::Part,
    Fault::PartFull,
];
