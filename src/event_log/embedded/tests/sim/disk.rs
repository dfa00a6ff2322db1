//! The state of a disk: names, files, and all that may be left of them after a crash.
//!
//! It knows nothing of faults and does nothing by itself. A clone costs little, so a crash can be
//! tried at every operation of one and the same run.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{chance::Chance, contents::Contents};

/// A disk. Files and directories have one name each, which is their whole path.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: Vec<Arc<Contents>>,
    names: Names,
    durable_names: Names,
    /// Changes of names that were not synced, oldest first.
    changes: Vec<Change>,
}

type Name = Arc<str>;
type Names = BTreeMap<Name, Node>;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// A change of a directory's names.
#[derive(Clone, Debug)]
enum Change {
    Add(Name, Node),
    Move { from: Name, to: Name, node: Node },
    Remove(Name, Node),
}

/// Something about a crash that the disk may decide freely, and how many ways there are. Way zero
/// is what was durable, the last one is what was written last.
#[derive(Clone, Copy, Debug)]
struct Freedom {
    about: About,
    ways: usize,
}

#[derive(Clone, Copy, Debug)]
enum About {
    Sector { file: usize },
    Length { file: usize },
    Change,
}

/// All that may be left of a disk after a crash.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    disk: Disk,
    freedoms: Vec<Freedom>,
}

/// One way for each freedom of some [`Remains`].
pub(super) type Outcome = Vec<usize>;

impl Disk {
    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        match self.names.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            None => self.add(path, Node::Dir),
        }
    }

    /// The names in a directory.
    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let inside = self.names.keys().filter(|path| parent(path) == dir);
        inside.map(|path| path[dir.len() + 1..].into()).collect()
    }

    /// Makes a file and returns its number.
    pub(super) fn create(&mut self, path: &str) -> io::Result<usize> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.files.push(Arc::default());
        let file = self.files.len() - 1;
        self.add(path, Node::File(file))?;
        Ok(file)
    }

    /// The number of a file.
    pub(super) fn find(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file(&self, file: usize) -> &Contents {
        &self.files[file]
    }

    pub(super) fn file_mut(&mut self, file: usize) -> &mut Contents {
        Arc::make_mut(&mut self.files[file])
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let Some((from, node)) = self.names.remove_entry(from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let to: Name = to.into();
        self.names.insert(Arc::clone(&to), node);
        self.changes.push(Change::Move { from, to, node });
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        self.add(to, Node::File(file))
    }

    pub(super) fn unlink(&mut self, path: &str) -> io::Result<()> {
        let Some((name, node)) = self.names.remove_entry(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.changes.push(Change::Remove(name, node));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &str) {
        self.changes.retain(|change| parent(change.name()) != dir);
        self.durable_names.retain(|path, _| parent(path) != dir);
        let inside = self.names.iter().filter(|(path, _)| parent(path) == dir);
        let inside = inside.map(|(path, node)| (Arc::clone(path), *node));
        self.durable_names.extend(inside);
    }

    /// A sync of a directory that leaves the names which were removed.
    pub(super) fn sync_dir_but_removals(&mut self, dir: &str) {
        let removed = self.durable_names.iter();
        let removed = removed.filter(|(path, _)| !self.names.contains_key(*path));
        let removed: Vec<_> = removed
            .map(|(path, node)| (Arc::clone(path), *node))
            .collect();
        self.sync_dir(dir);
        self.durable_names.extend(removed);
    }

    /// A sync of a directory that fails: the first changes reach the disk, the others may do so
    /// later.
    pub(super) fn fail_sync_dir(&mut self, dir: &str, chance: &mut Chance) {
        let is_inside = |change: &Change| parent(change.name()) == dir;
        let count = self.changes.iter().filter(|c| is_inside(c)).count();
        let mut reached = chance.below(count + 1);
        let durable_names = &mut self.durable_names;
        self.changes.retain(|change| {
            let reaches = is_inside(change) && reached > 0;
            if reaches {
                reached -= 1;
                change.apply(durable_names);
            }
            !reaches
        });
    }

    /// What may be left if the machine stops now.
    pub(super) fn remains(&self) -> Remains {
        let mut freedoms = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            if !self.is_named(number) {
                continue;
            }
            for (_, ways) in file.dirty() {
                let about = About::Sector { file: number };
                freedoms.push(Freedom { about, ways });
            }
            let ways = file.length_count();
            if ways > 1 {
                let about = About::Length { file: number };
                freedoms.push(Freedom { about, ways });
            }
        }
        let changes = self.changes.iter().map(|_| Freedom {
            about: About::Change,
            ways: 2,
        });
        freedoms.extend(changes);
        Remains {
            disk: self.clone(),
            freedoms,
        }
    }

    fn add(&mut self, path: &str, node: Node) -> io::Result<()> {
        let parent = parent(path);
        if !parent.is_empty() && self.names.get(parent) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name: Name = path.into();
        self.names.insert(Arc::clone(&name), node);
        self.changes.push(Change::Add(name, node));
        Ok(())
    }

    /// Whether a name may lead to the file after a crash.
    fn is_named(&self, file: usize) -> bool {
        let node = Node::File(file);
        let names = self.names.values().chain(self.durable_names.values());
        names
            .chain(self.changes.iter().map(Change::node))
            .any(|n| *n == node)
    }
}

impl Change {
    fn name(&self) -> &Name {
        match self {
            Self::Add(name, _) | Self::Remove(name, _) | Self::Move { to: name, .. } => name,
        }
    }

    fn node(&self) -> &Node {
        match self {
            Self::Add(_, node) | Self::Remove(_, node) | Self::Move { node, .. } => node,
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, node) => _ = names.insert(Arc::clone(name), *node),
            // Another file may have the name, if the change that freed it was lost.
            Self::Remove(name, node) => {
                if names.get(name) == Some(node) {
                    names.remove(name);
                }
            }
            Self::Move { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(Arc::clone(to), *node);
            }
        }
    }
}

impl Remains {
    /// How many outcomes there are; none if that is a huge number.
    pub(super) fn count(&self) -> Option<usize> {
        let mut ways = self.freedoms.iter().map(|freedom| freedom.ways);
        ways.try_fold(1_usize, usize::checked_mul)
    }

    /// The outcomes that are tried: all of them if there are at most `all_max`. Else the one with
    /// nothing that was not durable, the one with all that was written, for every freedom the one
    /// where it alone was kept and the one where it alone was lost, and `more` random ones.
    pub(super) fn outcomes(
        &self,
        all_max: usize,
        more: usize,
        chance: &mut Chance,
    ) -> Vec<Outcome> {
        if let Some(count) = self.count().filter(|count| *count <= all_max) {
            return (0..count).map(|number| self.numbered(number)).collect();
        }
        let mut outcomes = vec![self.oldest(), self.newest()];
        for (at, freedom) in self.freedoms.iter().enumerate() {
            let (mut kept, mut lost) = (self.oldest(), self.newest());
            kept[at] = freedom.ways - 1;
            lost[at] = 0;
            outcomes.extend([kept, lost]);
        }
        outcomes.extend((0..more).map(|_| self.random(chance)));
        outcomes
    }

    /// Nothing that was not durable is left.
    pub(super) fn oldest(&self) -> Outcome {
        vec![0; self.freedoms.len()]
    }

    /// Everything is left.
    pub(super) fn newest(&self) -> Outcome {
        let ways = self.freedoms.iter().map(|freedom| freedom.ways - 1);
        ways.collect()
    }

    pub(super) fn random(&self, chance: &mut Chance) -> Outcome {
        let freedoms = self.freedoms.iter();
        freedoms.map(|freedom| chance.below(freedom.ways)).collect()
    }

    /// The disk as the crash with this outcome leaves it.
    pub(super) fn after(&self, outcome: &Outcome) -> Disk {
        let mut sectors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        let mut names = self.disk.durable_names.clone();
        let mut changes = self.disk.changes.iter();
        for (freedom, way) in self.freedoms.iter().zip(outcome) {
            match freedom.about {
                About::Sector { file } => sectors.entry(file).or_default().push(*way),
                About::Length { file } => _ = lengths.insert(file, *way),
                About::Change => {
                    if let Some(change) = changes.next().filter(|_| *way > 0) {
                        change.apply(&mut names);
                    }
                }
            }
        }
        let is_there = |path: &str| parent(path).is_empty() || names.contains_key(parent(path));
        let lost: Vec<_> = names
            .keys()
            .filter(|path| !is_there(path))
            .cloned()
            .collect();
        let mut disk = Disk::default();
        // A directory that is lost takes what is in it along; keys come in the order of the tree.
        for (path, node) in names {
            let within = |dir: &Name| {
                let inner = path.strip_prefix(&**dir);
                inner.is_some_and(|inner| inner.starts_with('/'))
            };
            if lost.iter().any(|dir| *dir == path || within(dir)) {
                continue;
            }
            let node = match node {
                Node::Dir => Node::Dir,
                Node::File(file) => {
                    let versions = sectors.get(&file).map_or(&[][..], |versions| versions);
                    let length = lengths.get(&file).copied().unwrap_or(0);
                    let contents = self.disk.files[file].survive(versions, length);
                    disk.files.push(Arc::new(contents));
                    Node::File(disk.files.len() - 1)
                }
            };
            disk.names.insert(path, node);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    /// The outcome with this number, below [`Self::count`].
    fn numbered(&self, mut number: usize) -> Outcome {
        let mut way = |freedom: &Freedom| {
            let way = number % freedom.ways;
            number /= freedom.ways;
            way
        };
        self.freedoms.iter().map(&mut way).collect()
    }
}

/// The directory that a path lies in; empty for a path without one.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_after(disk: &Disk) -> Vec<Vec<String>> {
        let remains = disk.remains();
        let outcomes = remains.outcomes(1_000, 0, &mut Chance::new(0));
        let mut names: Vec<_> = outcomes
            .iter()
            .map(|outcome| remains.after(outcome).list("/d"))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    #[test]
    fn changes_of_names_are_lost_one_by_one_and_renames_as_a_whole() {
        let mut disk = Disk::default();
        disk.create_dir("/d").unwrap();
        disk.sync_dir("");
        disk.create("/d/a").unwrap();
        disk.sync_dir("/d");
        assert_eq!(names_after(&disk), [["a"]]);
        disk.rename("/d/a", "/d/b").unwrap();
        disk.create("/d/c").unwrap();
        let wanted = [vec!["a"], vec!["a", "c"], vec!["b"], vec!["b", "c"]];
        assert_eq!(names_after(&disk), wanted);
        disk.sync_dir("/d");
        disk.unlink("/d/b").unwrap();
        assert_eq!(names_after(&disk), [vec!["b", "c"], vec!["c"]]);
    }

    #[test]
    fn a_lost_directory_takes_its_files_along() {
        let mut disk = Disk::default();
        disk.create_dir("/d").unwrap();
        disk.create("/d/a").unwrap();
        disk.sync_dir("/d");
        assert_eq!(names_after(&disk), [vec![], vec!["a"]]);
    }
}
