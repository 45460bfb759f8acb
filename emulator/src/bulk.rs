//! Many changes at once, by lists or by numbers.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::entries::UserEntry;
use crate::inputs::{Deactivation, NewUser, UserChange, WorldError};
use crate::random::SplitMix64;
use crate::world::World;

/// More of a kind in one request are a mistake that would take all memory.
const MOST: usize = 10_000_000;

/// How many to invent, or which ones.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Amount<T> {
    /// So many, invented by the environment's seed.
    Number(usize),
    /// These.
    List(Vec<T>),
}

impl<T> Default for Amount<T> {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// A membership by places in the lists of one [`BulkSpec`], counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Edge {
    /// Which of the groups.
    pub group: usize,
    /// Which of the users.
    pub user: usize,
}

/// What to make in a directory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BulkSpec {
    /// People.
    pub users: Amount<NewUser>,
    /// Groups, by their names.
    pub groups: Amount<String>,
    /// Memberships among these users and groups; invented ones differ from each other, and spread over everybody.
    pub memberships: Amount<Edge>,
    /// Without events: neither webhooks nor the Events API tell of it.
    pub silent: bool,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BulkResult {
    /// The users' ids, in order.
    pub users: Vec<String>,
    /// The groups' ids, in order.
    pub groups: Vec<String>,
    /// Number of memberships.
    pub memberships: usize,
}

/// What happens to each of the chosen people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Active users: another job title.
    Update,
    /// Active users: [`Deactivation::UpdatedInactive`].
    DeactivateUpdated,
    /// Active users: [`Deactivation::DeletedKept`].
    DeactivateKept,
    /// Active users: [`Deactivation::DeletedGone`].
    Deactivate,
    /// Active users: suspended.
    Suspend,
    /// Kept users who are not active: the same user, active again.
    Reactivate,
    /// Users who are not active or gone, and not back yet: a new user.
    Rehire,
}

/// A change of a share of a directory's people.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkChange {
    /// What happens.
    pub action: BulkAction,
    /// To how many of those whom it can happen to, 0 to 1, rounded up.
    #[serde(default = "everybody")]
    pub share: f64,
    /// Chooses them, together with their order of making.
    #[serde(default)]
    pub seed: u64,
    /// Without events.
    #[serde(default)]
    pub silent: bool,
}

fn everybody() -> f64 {
    1.0
}

impl World {
    /// Makes users, groups and memberships; each emits its event, unless `silent`.
    ///
    /// # Errors
    /// The directory does not exist, an edge names a place that there is not, or more memberships are to be invented than
    /// there are pairs. Nothing is made then.
    pub fn bulk_create(&mut self, directory_id: &str, spec: BulkSpec) -> Result<BulkResult, WorldError> {
        spec.check()?;
        self.directory_entry(directory_id)?;
        let before = self.out.silent;
        self.out.silent |= spec.silent;
        let made = self.bulk_insert(directory_id, spec);
        self.out.silent = before;
        made
    }

    fn bulk_insert(&mut self, directory_id: &str, spec: BulkSpec) -> Result<BulkResult, WorldError> {
        let mut made = BulkResult::default();
        match spec.users {
            Amount::List(people) => {
                for new in people {
                    made.users.push(self.create_user(directory_id, new)?);
                }
            }
            Amount::Number(count) => {
                let directory = self.directory_entry(directory_id)?;
                let (first, domain) = (directory.invented_users, directory.record.domain.clone());
                directory.invented_users += count;
                for number in first..first + count {
                    let new = NewUser::invented(number, domain.as_deref().unwrap_or("directory.example"));
                    made.users.push(self.create_user(directory_id, new)?);
                }
            }
        }
        let names = match spec.groups {
            Amount::List(names) => names,
            Amount::Number(count) => {
                let invented = &mut self.directory_entry(directory_id)?.invented_groups;
                let first = std::mem::replace(invented, *invented + count);
                (first..first + count).map(|number| format!("Group {}", number + 1)).collect()
            }
        };
        for name in names {
            made.groups.push(self.create_group(directory_id, &name)?);
        }
        for edge in spec.memberships.edges(made.users.len(), made.groups.len()) {
            made.memberships += usize::from(self.add_member(&made.groups[edge.group], &made.users[edge.user])?);
        }
        Ok(made)
    }

    /// Changes a share of a directory's people and returns how many. The same seed chooses the same ones.
    ///
    /// # Errors
    /// The directory does not exist, or the share is not from 0 to 1.
    pub fn bulk_change(&mut self, directory_id: &str, change: &BulkChange) -> Result<usize, WorldError> {
        if !(0.0..=1.0).contains(&change.share) {
            return Err(WorldError::Bulk("share must be from 0 to 1.".to_owned()));
        }
        let mut ids = self.candidates(directory_id, change.action)?;
        let count = (ids.len() as f64 * change.share).ceil() as usize;
        let mut random = SplitMix64::seeded(change.seed);
        for place in 0..count {
            let other = place + random.below(ids.len() - place);
            ids.swap(place, other);
        }
        ids.truncate(count);
        ids.sort();
        let before = self.out.silent;
        self.out.silent |= change.silent;
        let changed = ids.iter().try_for_each(|id| self.change_one(id, change.action));
        self.out.silent = before;
        changed.map(|()| count)
    }

    fn candidates(&mut self, directory_id: &str, action: BulkAction) -> Result<Vec<String>, WorldError> {
        let ids = self.directory_entry(directory_id)?.users.clone();
        let here = || ids.iter().filter_map(|id| self.users.get(id));
        let back = here().filter(|user| action == BulkAction::Rehire && user.is_active());
        let back: HashSet<&str> = back.map(|user| &*user.idp_id).collect();
        let wants_active = !matches!(action, BulkAction::Reactivate | BulkAction::Rehire);
        let wanted = |user: &&UserEntry| user.is_active() == wants_active && !back.contains(&*user.idp_id);
        let kept = here().filter(wanted);
        let gone = self
            .departed
            .values()
            .filter(|user| action == BulkAction::Rehire && *user.home.directory_id == *directory_id)
            .filter(|user| !back.contains(&*user.idp_id));
        let mut ids: Vec<String> = kept.chain(gone).map(|user| user.id.to_string()).collect();
        ids.sort();
        if action == BulkAction::Rehire {
            // Somebody who left more than once comes back once; ids grow with time.
            let person = |id: &String| self.users.get(id.as_str()).or_else(|| self.departed.get(id.as_str()));
            let people = ids.iter().filter_map(|id| Some((person(id)?.idp_id.to_string(), id.clone())));
            let newest: HashMap<String, String> = people.collect();
            ids = newest.into_values().collect();
            ids.sort();
        }
        Ok(ids)
    }

    fn change_one(&mut self, id: &str, action: BulkAction) -> Result<(), WorldError> {
        match action {
            BulkAction::Update => {
                let title = self.users.get(id).and_then(|user| user.job_title.as_deref()).unwrap_or_default();
                let title = title.strip_prefix("Senior ").map_or_else(|| format!("Senior {title}"), str::to_owned);
                self.update_user(id, UserChange { job_title: Some(title), ..UserChange::default() })
            }
            BulkAction::DeactivateUpdated => self.deactivate_user(id, Deactivation::UpdatedInactive),
            BulkAction::DeactivateKept => self.deactivate_user(id, Deactivation::DeletedKept),
            BulkAction::Deactivate => self.deactivate_user(id, Deactivation::DeletedGone),
            BulkAction::Suspend => self.suspend_user(id),
            BulkAction::Reactivate => self.reactivate_user(id),
            BulkAction::Rehire => self.rehire_user(id).map(drop),
        }
    }
}

impl BulkSpec {
    /// Whether it can be done.
    pub(crate) fn check(&self) -> Result<(), WorldError> {
        if self.users.count() > MOST || self.groups.count() > MOST {
            return Err(WorldError::Bulk(format!("At most {MOST} users and {MOST} groups in one request.")));
        }
        self.memberships.check(self.users.count(), self.groups.count())
    }
}

impl<T> Amount<T> {
    fn count(&self) -> usize {
        match self {
            Self::Number(count) => *count,
            Self::List(list) => list.len(),
        }
    }
}

impl Amount<Edge> {
    fn check(&self, users: usize, groups: usize) -> Result<(), WorldError> {
        match self {
            Self::List(edges) => match edges.iter().find(|edge| edge.user >= users || edge.group >= groups) {
                Some(edge) => {
                    Err(WorldError::Bulk(format!("No group {} or no user {} in this request.", edge.group, edge.user)))
                }
                None => Ok(()),
            },
            Self::Number(count) if *count > users.saturating_mul(groups) => Err(WorldError::Bulk(format!(
                "{count} memberships are more than {users} users and {groups} groups have."
            ))),
            Self::Number(_) => Ok(()),
        }
    }

    /// Checked ones.
    fn edges(&self, users: usize, groups: usize) -> impl Iterator<Item = Edge> {
        let at = move |number| match self {
            Self::List(edges) => edges[number],
            Self::Number(_) => invented_edge(number, users, groups),
        };
        (0..self.count()).map(at)
    }
}

/// Edge `number` of a walk that visits every user in turn, and every pair once: in round `r` each user gets the group `r`
/// places further.
fn invented_edge(number: usize, users: usize, groups: usize) -> Edge {
    let (round, user) = (number / users, number % users);
    Edge { group: (user + round) % groups, user }
}
