//! What records were before their last changes, kept for a window of time, so that an answer can show the past.
//!
//! A [`Versioned`] map keeps each entry as it was before a change; `past` reads the world as it was.
//! Who is in which list follows from the users' entries and is not kept a second time.

mod past;

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Deref;

use chrono::{DateTime, TimeDelta, Utc};

use crate::entries::{DirectoryEntry, GroupEntry, Id, UserEntry};

/// What of an entry is kept when it is superseded.
pub(crate) trait Entry: Clone {
    /// The entry without the lists in it: they follow from other entries.
    fn shell(&self) -> Self;
}

impl Entry for DirectoryEntry {
    fn shell(&self) -> Self {
        Self {
            record: self.record.clone(),
            home: self.home.clone(),
            domain_id: self.domain_id.clone(),
            users: BTreeSet::new(),
            groups: BTreeSet::new(),
            sync_requested_at: self.sync_requested_at,
            invented_users: self.invented_users,
            invented_groups: self.invented_groups,
        }
    }
}

impl Entry for UserEntry {
    /// Whole: its groups are where memberships of the past are read from.
    fn shell(&self) -> Self {
        self.clone()
    }
}

impl Entry for GroupEntry {
    fn shell(&self) -> Self {
        Self { record: self.record.clone(), home: self.home.clone(), members: BTreeSet::new() }
    }
}

/// A map that can keep what its entries were; it is read like a [`HashMap`].
#[derive(Debug)]
pub(crate) struct Versioned<T: Entry> {
    present: HashMap<Id, T>,
    window: TimeDelta,
    now: DateTime<Utc>,
    /// In the order of time; `None` did not exist.
    superseded: VecDeque<Superseded<T>>,
    /// What is kept already as it was before `now`.
    kept_now: HashSet<Id>,
}

/// What an entry was until a moment, at which it became another.
#[derive(Debug)]
struct Superseded<K> {
    until: DateTime<Utc>,
    id: Id,
    was: Option<K>,
}

impl<T: Entry> Default for Versioned<T> {
    fn default() -> Self {
        Self {
            present: HashMap::new(),
            window: TimeDelta::zero(),
            now: DateTime::UNIX_EPOCH,
            superseded: VecDeque::new(),
            kept_now: HashSet::new(),
        }
    }
}

impl<T: Entry> Deref for Versioned<T> {
    type Target = HashMap<Id, T>;

    fn deref(&self) -> &Self::Target {
        &self.present
    }
}

impl<T: Entry> Versioned<T> {
    pub(crate) fn get_mut<Q>(&mut self, id: &Q) -> Option<&mut T>
    where
        Id: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.keep(id);
        self.present.get_mut(id)
    }

    pub(crate) fn insert(&mut self, id: Id, entry: T) -> Option<T> {
        if self.window > TimeDelta::zero() && !self.present.contains_key(&id) && self.kept_now.insert(id.clone()) {
            self.superseded.push_back(Superseded { until: self.now, id: id.clone(), was: None });
        }
        self.keep(&id);
        self.present.insert(id, entry)
    }

    pub(crate) fn remove<Q>(&mut self, id: &Q) -> Option<T>
    where
        Id: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.keep(id);
        self.present.remove(id)
    }

    /// Sets the time of the changes to come and forgets what is older than the window.
    fn set_now(&mut self, now: DateTime<Utc>) {
        if now > self.now {
            self.now = now;
            self.kept_now.clear();
        }
        let window = self.window;
        while self.superseded.front().is_some_and(|version| now - version.until >= window) {
            self.superseded.pop_front();
        }
    }

    /// Keeps an entry as it was before `now`. What became of it within one millisecond is nobody's past.
    fn keep<Q>(&mut self, id: &Q)
    where
        Id: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.window == TimeDelta::zero() || self.kept_now.contains(id) {
            return;
        }
        if let Some((id, entry)) = self.present.get_key_value(id) {
            self.superseded.push_back(Superseded { until: self.now, id: id.clone(), was: Some(entry.shell()) });
            self.kept_now.insert(id.clone());
        }
    }

    /// What changed since `time`, as it was at that time.
    fn since(&self, time: DateTime<Utc>) -> Vec<(Id, Option<T>)> {
        let first = self.superseded.partition_point(|version| version.until <= time);
        let mut seen = HashSet::new();
        let versions = self.superseded.range(first..).filter(|version| seen.insert(&version.id));
        versions.map(|version| (version.id.clone(), version.was.clone())).collect()
    }

    fn replace(&mut self, id: &Id, entry: Option<T>) -> Option<T> {
        match entry {
            Some(entry) => self.present.insert(id.clone(), entry),
            None => self.present.remove(id),
        }
    }
}
