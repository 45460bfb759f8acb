//! What an answer of the API does to the mirror (rules 1 to 5 and 8).

use chrono::TimeDelta;

use super::working_set::{EdgeKey, WorkingSet};
use crate::clock::Timestamp;
use crate::model::{
    DirectoryGroupId, DirectoryRecord, DirectoryUserId, GroupRecord, Mark, MarkTarget, Memory, Stamp, SyncStatus,
    UserRecord, UserState,
};

/// How long to wait before an answer that contradicts the newest hint is asked for again; after the last, it is
/// accepted.
const ASK_AGAIN_AFTER_SECONDS: [i64; 3] = [0, 1, 4];
/// An accepted contradiction is looked at once more after this long.
const SECOND_LOOK_SECONDS: i64 = 60;
/// Instants of the API's clock are known no better than this.
const CLOCK_GRAIN_SECONDS: i64 = 2;
/// A directory that is there though its deletion was announced is looked at for so long: an event that was received while
/// our clock was slow counts as older than it is.
const ANNOUNCED_DELETION_HOURS: i64 = 1;

/// When and in which order a truth was asked for.
#[derive(Debug, Clone, Copy)]
pub struct TruthContext {
    /// The request's number in its directory's sequence, taken when it was sent.
    pub number: i64,
    /// When it was sent, by the API's clock.
    pub sent_at: Timestamp,
    /// When it was sent, by ours.
    pub asked_at: Timestamp,
    /// When its answer is applied, by our clock.
    pub now: Timestamp,
    /// The number that is applied under: every request that was sent before has a smaller one.
    pub applied_under: i64,
}

/// What the API says of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<R> {
    /// This is the record.
    Is(R),
    /// It does not exist, and the answer counts by rule 4.
    Gone,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The mirror says the same now.
    Accepted,
    /// It contradicts the newest hint and is asked for again.
    Contradicted,
    /// Something newer stands already; nothing was written.
    Superseded,
}

/// Applies what the API says of the directory.
pub fn directory_truth(set: &mut WorkingSet, answer: Answer<DirectoryRecord>, at: &TruthContext) -> Verdict {
    let target = MarkTarget::Directory;
    let memory = &set.directory.memory;
    if memory.truth_number >= at.number || set.is_marked_after(&target, at.number) {
        return Verdict::Superseded;
    }
    let contradicts = memory.recent_hint().is_some_and(|hint| match &answer {
        Answer::Is(record) => {
            hint.removes && record.state != "deleting" && record.updated_at.is_none_or(|updated| updated <= hint.at)
        }
        Answer::Gone => !hint.removes,
    });
    if contradicts && ask_again(set, &target, at) {
        return Verdict::Contradicted;
    }
    let updated_at = match &answer {
        Answer::Is(record) => record.updated_at,
        Answer::Gone => None,
    };
    let last_truth = set.directory.memory.truth_at;
    settle_mark(set, &target, last_truth, at);
    match answer {
        Answer::Is(record) => {
            let linked = record.state == "linked";
            let was_off =
                set.directory.row.as_ref().is_none_or(|row| row.record.state != "linked" || row.deleted_at.is_some());
            set.directory.set_directory(record, at.now);
            if let Some(row) = &mut set.directory.row
                && row.record.state != "deleting"
            {
                row.deleted_at = None;
                if linked && was_off {
                    row.sync_status = SyncStatus::Never;
                }
            }
        }
        Answer::Gone => delete_directory(set, at.now),
    }
    let removal = set.directory.memory.hint.as_ref().filter(|hint| hint.removes);
    let is_recent = removal.is_some_and(|hint| at.sent_at < hint.at + TimeDelta::hours(ANNOUNCED_DELETION_HOURS));
    let may_lag = is_recent && updated_at.is_some();
    let is_there =
        set.directory.row.as_ref().is_some_and(|row| row.record.state != "deleting" && row.deleted_at.is_none());
    let outlives =
        removal.is_some_and(|hint| updated_at.is_some_and(|updated| updated > hint.at || (is_there && !is_recent)));
    if contradicts || (may_lag && !outlives) {
        look_again_later(set, target, at);
    }
    let memory = &mut set.directory.memory;
    if outlives {
        // A later 404 is not what that removal announced.
        memory.hint = None;
    }
    memory.truth_number = at.number;
    memory.truth_at = Some(at.sent_at);
    memory.snapshot = updated_at.map(|updated_at| Stamp { updated_at, event_id: None });
    set.directory.memory_changed = true;
    Verdict::Accepted
}

/// Applies what the API says of a user.
pub fn user_truth(
    set: &mut WorkingSet,
    id: &DirectoryUserId,
    answer: Answer<UserRecord>,
    at: &TruthContext,
) -> Verdict {
    let target = MarkTarget::User(id.clone());
    let ours = matches!(&answer, Answer::Is(record) if record.directory_id == set.directory_id);
    let entity = set.user(id);
    let taken_over = ours && entity.take_over();
    let (foreign, superseded) = (entity.foreign, entity.memory.truth_number >= at.number);
    if foreign {
        // It is its own directory's business.
        set.clear_mark(&target, at.number);
    }
    if foreign || superseded {
        return Verdict::Superseded;
    }
    let entity = set.user(id);
    let contradicts = match &answer {
        Answer::Is(record) => {
            let active = UserState::from_source(&record.state) == UserState::Active;
            let removal = entity.memory.recent_hint().filter(|hint| hint.removes);
            let revoked = removal.is_some_and(|hint| record.updated_at <= hint.at);
            // Who is inactive agrees with a removal, however old the record: only answers that would revive are counted.
            let agrees = removal.is_some() && !active;
            (active && revoked) || (!agrees && is_older(entity.memory.snapshot.as_ref(), record.updated_at))
        }
        Answer::Gone => entity.memory.recent_hint().is_some_and(|hint| !hint.removes),
    };
    let may_lag = |since: Timestamp| at.sent_at < since + TimeDelta::seconds(SECOND_LOOK_SECONDS);
    // A record that is no newer than the deletion is either all that remains, or the past of somebody who is gone; a 404
    // may be the past of somebody who was not there yet.
    let inconclusive = match &answer {
        Answer::Is(record) => {
            let hint = entity.memory.recent_hint().filter(|hint| hint.removes && record.updated_at <= hint.at);
            hint.is_some_and(|hint| may_lag(hint.at))
        }
        Answer::Gone => entity.row.as_ref().is_some_and(|row| row.record.created_at.is_some_and(may_lag)),
    };
    if set.is_marked_after(&target, at.number) {
        return Verdict::Superseded;
    }
    if contradicts && ask_again(set, &target, at) {
        return Verdict::Contradicted;
    }
    let last_truth = set.user(id).memory.truth_at;
    settle_mark(set, &target, last_truth, at);
    let entity = set.user(id);
    let mut came_back = false;
    match answer {
        Answer::Is(record) => {
            entity.memory.snapshot = Some(Stamp { updated_at: record.updated_at, event_id: None });
            came_back = entity.set_user(record, Some(at.now), at.now);
        }
        Answer::Gone => {
            if let Some(row) = &mut entity.row {
                row.state = UserState::Inactive;
                row.verified_at = Some(at.now);
                row.deactivated_at = row.deactivated_at.or(Some(at.now));
                row.deleted_at = row.deleted_at.or(Some(at.now));
                row.deletion_reason = Some("directory_sync".to_owned());
                entity.row_changed = true;
            }
            set.users_without_edges.insert(id.clone());
            set.clear_mark(&MarkTarget::UserGroups(id.clone()), at.number);
        }
    }
    let entity = set.user(id);
    entity.memory.truth_number = at.number;
    entity.memory.truth_at = Some(at.sent_at);
    entity.memory_changed = true;
    if came_back || taken_over {
        set.mark(MarkTarget::UserGroups(id.clone()), at.number, at.now);
    }
    if contradicts || inconclusive {
        look_again_later(set, target, at);
    }
    Verdict::Accepted
}

/// Applies what the API says of a group.
pub fn group_truth(
    set: &mut WorkingSet,
    id: &DirectoryGroupId,
    answer: Answer<GroupRecord>,
    at: &TruthContext,
) -> Verdict {
    let target = MarkTarget::Group(id.clone());
    let ours = matches!(&answer, Answer::Is(record) if record.directory_id == set.directory_id);
    let entity = set.group(id);
    let taken_over = ours && entity.take_over();
    let (foreign, superseded) = (entity.foreign, entity.memory.truth_number >= at.number);
    if foreign {
        // It is its own directory's business.
        set.clear_mark(&target, at.number);
    }
    if foreign || superseded {
        return Verdict::Superseded;
    }
    let entity = set.group(id);
    let contradicts = match &answer {
        Answer::Is(record) => {
            let revoked = entity.memory.recent_hint().is_some_and(|hint| hint.removes && record.updated_at <= hint.at);
            revoked || is_older(entity.memory.snapshot.as_ref(), record.updated_at)
        }
        Answer::Gone => entity.memory.recent_hint().is_some_and(|hint| !hint.removes),
    };
    if set.is_marked_after(&target, at.number) {
        return Verdict::Superseded;
    }
    if contradicts && ask_again(set, &target, at) {
        return Verdict::Contradicted;
    }
    let last_truth = set.group(id).memory.truth_at;
    settle_mark(set, &target, last_truth, at);
    let entity = set.group(id);
    let mut came_back = false;
    match answer {
        Answer::Is(record) => {
            entity.memory.snapshot = Some(Stamp { updated_at: record.updated_at, event_id: None });
            came_back = entity.set_group(record, Some(at.now), at.now);
        }
        Answer::Gone => {
            if let Some(row) = &mut entity.row {
                row.verified_at = Some(at.now);
                row.deleted_at = row.deleted_at.or(Some(at.now));
                entity.row_changed = true;
            }
            set.groups_without_edges.insert(id.clone());
            set.clear_mark(&MarkTarget::GroupMembers(id.clone()), at.number);
        }
    }
    let entity = set.group(id);
    entity.memory.truth_number = at.number;
    entity.memory.truth_at = Some(at.sent_at);
    entity.memory_changed = true;
    if came_back || taken_over {
        set.mark(MarkTarget::GroupMembers(id.clone()), at.number, at.now);
    }
    if contradicts {
        look_again_later(set, target, at);
    }
    Verdict::Accepted
}

/// Applies what a list says of one membership: listed, or absent from a list that was read to its end.
pub fn edge_truth(set: &mut WorkingSet, key: &EdgeKey, listed: bool, at: &TruthContext) -> Verdict {
    let target = MarkTarget::Edge(key.0.clone(), key.1.clone());
    let has_both_ends = set.has_both_ends(key);
    let foreign = set.user(&key.1).foreign || set.group(&key.0).foreign;
    if foreign {
        // It is its own directory's business.
        set.clear_mark(&target, at.number);
        return Verdict::Superseded;
    }
    let edge = set.edge(key);
    if edge.memory.truth_number >= at.number {
        return Verdict::Superseded;
    }
    let contradicts = has_both_ends && edge.memory.recent_hint().is_some_and(|hint| hint.removes == listed);
    if set.is_marked_after(&target, at.number) {
        return Verdict::Superseded;
    }
    if contradicts && ask_again(set, &target, at) {
        return Verdict::Contradicted;
    }
    let last_truth = set.edge(key).memory.truth_at;
    settle_mark(set, &target, last_truth, at);
    let edge = set.edge(key);
    edge.memory.present = listed && has_both_ends;
    edge.memory.truth_number = at.number;
    edge.memory.truth_at = Some(at.sent_at);
    edge.changed = true;
    if contradicts {
        look_again_later(set, target, at);
    }
    Verdict::Accepted
}

/// Takes a directory and everything in it away, in the transaction of this set.
pub(super) fn delete_directory(set: &mut WorkingSet, now: Timestamp) {
    if let Some(row) = &mut set.directory.row
        && row.deleted_at.is_none()
    {
        row.deleted_at = Some(now);
        row.record.state = "deleting".to_owned();
        set.directory.row_changed = true;
        set.everything_goes = true;
    }
}

/// An answer older than the content that a hint or another answer brought comes from a replica that lags.
fn is_older(shown: Option<&Stamp>, updated_at: Timestamp) -> bool {
    shown.is_some_and(|shown| updated_at < shown.updated_at)
}

/// Puts the mark off so that the answer is asked for again; `false` once it was asked for often enough. Answers that were
/// asked for together, or before the mark was due again, are one piece of evidence: a replica that lags gives them all.
fn ask_again(set: &mut WorkingSet, target: &MarkTarget, at: &TruthContext) -> bool {
    let standing = set.marks.get(target).filter(|mark| mark.contradictions > 0);
    if standing.is_some_and(|mark| at.asked_at < mark.due_at) {
        return true;
    }
    let Some(wait) = wait_before_asking_again(set, target) else { return false };
    let contradictions = standing.map_or(0, |mark| mark.contradictions) + 1;
    let due_at = at.now + TimeDelta::seconds(wait);
    set.put_mark(Mark { version: at.applied_under, due_at, contradictions, ..fresh_mark(target.clone(), at) });
    true
}

/// Seconds; `None` if it was asked for often enough.
fn wait_before_asking_again(set: &WorkingSet, target: &MarkTarget) -> Option<i64> {
    let asked = set.marks.get(target).map_or(0, |mark| mark.contradictions.max(0));
    usize::try_from(asked).ok().and_then(|asked| ASK_AGAIN_AFTER_SECONDS.get(asked)).copied()
}

/// Whether a 404 of this user or group would only be asked for again, since the newest hint says the contrary.
#[must_use]
pub fn would_ask_again_for_gone(set: &WorkingSet, target: &MarkTarget) -> bool {
    let memory = match target {
        MarkTarget::User(id) => set.users.get(id).map(|entity| &entity.memory),
        MarkTarget::Group(id) => set.groups.get(id).map(|entity| &entity.memory),
        _ => None,
    };
    let contradicts = memory.and_then(Memory::recent_hint).is_some_and(|hint| !hint.removes);
    contradicts && wait_before_asking_again(set, target).is_some()
}

fn look_again_later(set: &mut WorkingSet, target: MarkTarget, at: &TruthContext) {
    let due_at = at.now + TimeDelta::seconds(SECOND_LOOK_SECONDS);
    set.put_mark(Mark { due_at, contradictions: Mark::SECOND_LOOK, ..fresh_mark(target, at) });
}

/// Clears a mark that an answer settled. Another answer of the replica that made a second look necessary does not: that
/// takes one that was asked for a minute after the mark was set and, since our clock may have been set, after the last truth
/// by the API's. What is fetched sooner, with others, starts that minute anew, so that the look itself never comes too soon.
fn settle_mark(set: &mut WorkingSet, target: &MarkTarget, last_truth: Option<Timestamp>, at: &TruthContext) {
    let Some(mark) = set.marks.get(target).filter(|mark| mark.is_second_look()).cloned() else {
        set.clear_mark(target, at.number);
        return;
    };
    let second_look = TimeDelta::seconds(SECOND_LOOK_SECONDS);
    let by_our_clock = mark.set_at + second_look - at.asked_at;
    let by_theirs = last_truth.map_or(TimeDelta::zero(), |last| last + second_look - at.sent_at);
    let wait = by_our_clock.max(by_theirs);
    if wait <= TimeDelta::seconds(CLOCK_GRAIN_SECONDS) {
        set.clear_mark(target, at.number);
    } else if !set.is_marked_after(target, at.number) {
        set.put_mark(Mark { due_at: mark.due_at.max(at.now + second_look), ..mark });
    }
}

/// A mark that no hint set.
fn fresh_mark(target: MarkTarget, at: &TruthContext) -> Mark {
    let (version, now) = (at.number, at.now);
    Mark { target, version, due_at: now, contradictions: 0, failures: 0, urgent: false, set_at: now, hinted_at: None }
}
