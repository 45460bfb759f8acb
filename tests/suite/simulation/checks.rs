//! What is demanded on the way. Each demand is made of what the simulated network saw and the database shows; nothing is
//! taken from the engine's own words, but the reasons with which events end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Instant;

use chrono::{DateTime, TimeDelta};
use directory_mirror::clock::Timestamp;
use serde_json::Value;
use workos_emulator::EmittedEvent;

use super::network::{Network, PAUSE};
use super::stage::{FoldedEvent, Shown, Stage, folded_events};

/// Rule 2: an answer that contradicts is accepted when it is given for the fourth time, and these times lie between.
const SECONDS_BETWEEN_ANSWERS: [i64; 3] = [0, 1, 4];
/// How long a hint counts: as long as memories are kept.
const HINTS_COUNT_DAYS: i64 = 90;
/// Rule 4: so many may vanish within an hour unannounced, or a tenth.
const BELIEVED: usize = 20;

/// What happened in a history so far, in the order of a count of its own.
#[derive(Default)]
pub struct Witness {
    tick: u64,
    /// When a request was sent whose answer showed the user active, and the `updated_at` that it showed.
    seen_active: HashMap<String, Vec<(u64, Timestamp, Timestamp)>>,
    /// When, in both orders, a request was sent whose answer showed the user gone or inactive.
    seen_away: HashMap<String, Vec<(u64, Timestamp)>>,
    /// When a request was sent whose answer listed the membership.
    seen_listed: HashMap<(String, String), Vec<(u64, Timestamp)>>,
    /// Answers with a list of a group's members or of a user's groups.
    lists_read: HashMap<String, Vec<(u64, Timestamp)>>,
    /// What an answer was about, whatever it said.
    asked_about: BTreeSet<String>,
    /// What an answer showed, or a folded event that is no removal told of.
    known: BTreeSet<String>,
    /// What the API itself answered 404 to.
    missing: BTreeSet<String>,
    /// Whom or what a folded event took away.
    taken_away: BTreeSet<String>,
    folded: BTreeSet<String>,
    newest: HashMap<String, Newest>,
    /// Since the mirror was looked at last: what answers were about, and what folded events told of, with the newest.
    asked_lately: BTreeSet<String>,
    told_lately: HashMap<String, Timestamp>,
    /// What answers showed since, and what of that not as being deleted.
    shown_lately: BTreeSet<String>,
    shown_there_lately: BTreeSet<String>,
    /// What answers did not find, and which memberships events took away.
    missing_lately: BTreeSet<String>,
    removed_lately: BTreeSet<String>,
    /// Whose members or groups were read, and whether there were any.
    lists_read_lately: HashMap<String, bool>,
    /// Directories of which an event of their own told.
    directories_told_lately: BTreeSet<String>,
    /// What the mirror showed when it was looked at last, and when the truth was asked for that it had.
    before: HashMap<String, Shown>,
    truth_at: HashMap<String, Timestamp>,
    members_before: Vec<(String, String)>,
    gone_before: Vec<String>,
    /// Unannounced removals of a directory, and since when they count.
    removals: BTreeMap<String, (Timestamp, usize)>,
    /// Directories whose removals somebody confirmed.
    pub confirmed: BTreeSet<String>,
    /// The brake goes by our clock.
    pub clock_changed: bool,
    paused: HashMap<String, Instant>,
    broken: Option<String>,
}

/// The newest hint about a user or a membership.
struct Newest {
    key: (Timestamp, bool, String),
    /// When it was folded, if it took somebody away by being folded.
    revoked: Option<u64>,
}

impl Witness {
    /// A request is sent. Answers its place in the order of all that happens.
    pub fn sent(&mut self, url: &reqwest::Url) -> u64 {
        self.tick += 1;
        if let Some(path) = limited_path(url)
            && self.paused.get(&path).is_some_and(|until| Instant::now() < *until)
        {
            self.broken = Some(format!("{path} is asked while its 429 asks for a pause"));
        }
        self.tick
    }

    /// What was answered to the request that was sent at `tick`; `honest` if the records are as the API has them.
    pub fn answered(&mut self, (tick, at): (u64, Timestamp), url: &reqwest::Url, status: u16, body: &[u8]) {
        let path: Vec<&str> = url.path().trim_matches('/').split('/').collect();
        if status == 429
            && let Some(path) = limited_path(url)
        {
            self.paused.insert(path, Instant::now() + PAUSE);
        }
        if let [_, id] = path[..] {
            self.about(id);
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
        match (status, &path[..]) {
            (404, [_, id]) => {
                self.missing.insert((*id).to_owned());
                self.missing_lately.insert((*id).to_owned());
                self.seen_away.entry((*id).to_owned()).or_default().push((tick, at));
            }
            (200, ["directory_users" | "directory_groups" | "directories", _]) => self.shown((tick, at), &value),
            (200, ["directory_users" | "directory_groups" | "directories"]) => {
                let records = value["data"].as_array().into_iter().flatten();
                let of = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, id)| id.into_owned());
                let (group, user) = (of("group"), of("user"));
                if let Some(owner) = group.as_ref().or(user.as_ref()) {
                    self.lists_read.entry(owner.clone()).or_default().push((tick, at));
                    let is_empty = value["data"].as_array().is_none_or(Vec::is_empty);
                    *self.lists_read_lately.entry(owner.clone()).or_default() |= !is_empty;
                }
                for record in records {
                    self.shown((tick, at), record);
                    let id = text(record, "id");
                    let edge = group.as_ref().map(|group| (group.clone(), id.clone()));
                    let edge = edge.or_else(|| user.as_ref().map(|user| (id, user.clone())));
                    if let Some(edge) = edge {
                        self.seen_listed.entry(edge).or_default().push((tick, at));
                    }
                }
            }
            _ => {}
        }
    }

    fn about(&mut self, id: &str) {
        self.asked_about.insert(id.to_owned());
        self.asked_lately.insert(id.to_owned());
    }

    fn shown(&mut self, (tick, at): (u64, Timestamp), record: &Value) {
        let id = text(record, "id");
        self.about(&id);
        self.shown_lately.insert(id.clone());
        if record["state"] != "deleting" {
            self.shown_there_lately.insert(id.clone());
        }
        self.known.insert(id.clone());
        self.known.insert(text(record, "directory_id"));
        if record["state"] == "active" {
            self.seen_active.entry(id).or_default().push((tick, at, instant(&record["updated_at"])));
        } else {
            self.seen_away.entry(id).or_default().push((tick, at));
        }
    }

    /// A new process knows of no pause.
    pub fn restarted(&mut self) {
        self.paused.clear();
    }

    /// Takes note of what was folded by now.
    pub fn note_folded(&mut self, folded: Vec<FoldedEvent>, emitted: &HashMap<String, EmittedEvent>) {
        for event in folded {
            if self.folded.insert(event.id.clone()) {
                self.tick += 1;
                self.fold(&event, emitted);
            }
        }
    }

    /// Looks at the mirror after a step.
    pub async fn look(&mut self, stage: &Stage, network: &Mutex<Network>) -> Result<(), String> {
        let folded = folded_events(&stage.db).await;
        self.note_folded(folded, &network.lock().unwrap().emitted);
        let (directories, users, groups) = (stage.directories().await, stage.users().await, stage.groups().await);
        nobody_is_created_by_a_removal(self, directories.iter().chain(&users).chain(&groups))?;
        self.nobody_is_revived(&users)?;
        let members = stage.members().await;
        self.no_membership_is_revived(&members)?;
        let gone: BTreeSet<&str> =
            directories.iter().filter(|row| row.deleted_at.is_some()).map(|row| row.id.as_str()).collect();
        if let Some(id) = gone.iter().find(|id| !self.taken_away.contains(**id)) {
            return Err(format!("{id} is deleted, though no event said so"));
        }
        if let Some(id) =
            self.gone_before.iter().find(|id| !gone.contains(id.as_str()) && !self.shown_there_lately.contains(*id))
        {
            return Err(format!("{id} is there again, though no answer showed it"));
        }
        self.removals_are_founded(&users, &groups, &gone)?;
        self.lost_memberships_are_founded(&members, &users, &groups)?;
        let records = || users.iter().chain(&groups);
        self.old_hints_change_nothing(records(), &gone)?;
        if !self.clock_changed {
            self.the_brake_holds(records(), &gone)?;
        }
        a_scan_is_complete(&directories, &users, &mut network.lock().unwrap())?;
        self.before = records().map(|row| (row.id.clone(), row.clone())).collect();
        self.truth_at = stage.truths().await.into_iter().collect();
        self.gone_before = gone.into_iter().map(str::to_owned).collect();
        self.members_before = members;
        self.asked_lately.clear();
        self.told_lately.clear();
        self.shown_lately.clear();
        self.shown_there_lately.clear();
        self.missing_lately.clear();
        self.removed_lately.clear();
        self.lists_read_lately.clear();
        self.directories_told_lately.clear();
        self.broken.take().map_or(Ok(()), Err)
    }

    fn fold(&mut self, event: &FoldedEvent, emitted: &HashMap<String, EmittedEvent>) {
        let Some(sent) = emitted.get(&event.id) else { return };
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        let data = &body["data"];
        let at = sent.created_at.min(event.received_at + TimeDelta::hours(1));
        let (user, group) = (text(&data["user"], "id"), text(&data["group"], "id"));
        let id = text(data, "id");
        let (subject, removes) = match sent.event.as_str() {
            "dsync.group.user_added" => (format!("{group} {user}"), false),
            "dsync.group.user_removed" => (format!("{group} {user}"), true),
            "dsync.user.deleted" | "dsync.group.deleted" | "dsync.deleted" => (id.clone(), true),
            _ => (id.clone(), false),
        };
        if event.ignored {
            if sent.event == "dsync.deleted" {
                self.taken_away.insert(id);
            }
            return;
        }
        if sent.event.matches('.').count() == 1 {
            self.directories_told_lately.insert(id.clone());
        }
        for told in [&id, &user, &group] {
            let newest = self.told_lately.entry(told.clone()).or_insert(at);
            *newest = at.max(*newest);
        }
        if removes {
            self.removed_lately.insert(subject.clone());
            self.taken_away.insert(id);
        } else {
            self.known.extend([id, user.clone(), group, text(data, "directory_id")]);
        }
        let remembered = event.reason.starts_with("takes away") && !self.asked_about.contains(&subject);
        let takes_effect = event.reason.starts_with("the user is inactive")
            || event.reason.starts_with("the membership is gone")
            || (remembered && sent.event == "dsync.user.deleted");
        let key = (at, removes, event.id.clone());
        if self.newest.get(&subject).is_none_or(|newest| newest.key < key) {
            let revoked = (removes && takes_effect).then_some(self.tick);
            self.newest.insert(subject, Newest { key, revoked });
        }
    }

    /// Nobody whom the newest hint took away is active without an answer that says so, and that may be believed.
    fn nobody_is_revived(&self, users: &[Shown]) -> Result<(), String> {
        for user in users.iter().filter(|user| user.active) {
            let Some(newest) = self.newest.get(&user.id) else { continue };
            let Some(tick) = newest.revoked else { continue };
            let since = || self.seen_active.get(&user.id).into_iter().flatten().filter(|(sent, ..)| *sent > tick);
            let agrees = since().any(|(_, _, updated_at)| *updated_at > newest.key.0);
            // A truth of a minute later has settled the hint; the next one is believed again.
            let settled = |(sent, at): &(u64, Timestamp)| *sent > tick && *at >= newest.key.0 + TimeDelta::minutes(1);
            let agrees = agrees || self.seen_away.get(&user.id).into_iter().flatten().any(settled);
            // Of so old an event the engine does not know whether a newer one was pruned, and asks.
            let is_past = since().any(|(_, at, _)| *at >= newest.key.0 + TimeDelta::days(HINTS_COUNT_DAYS));
            let believed = self.are_evidence(since().map(|(_, at, _)| *at));
            if !agrees && !is_past && !believed {
                return Err(format!(
                    "{} is active again, though a hint of {} took the user away",
                    user.id, newest.key.0
                ));
            }
        }
        Ok(())
    }

    /// Whether answers that were asked for at these instants are enough to believe them against the newest hint.
    fn are_evidence(&self, mut asked: impl Iterator<Item = Timestamp>) -> bool {
        let Some(mut last) = asked.next() else { return false };
        for seconds in SECONDS_BETWEEN_ANSWERS {
            // The engine waits by its own clock.
            let earliest = last + TimeDelta::seconds(if self.clock_changed { 0 } else { seconds });
            let Some(next) = asked.find(|at| *at >= earliest) else { return false };
            last = next;
        }
        true
    }

    /// Nothing is deleted but what the API answered 404 to, or an event took away: a group, or a directory with all in it.
    /// Where no event told, the 404 counts only beside an answer that shows the directory (rule 4).
    fn removals_are_founded(&self, users: &[Shown], groups: &[Shown], gone: &BTreeSet<&str>) -> Result<(), String> {
        let untold = groups.iter().filter(|group| !self.taken_away.contains(&group.id));
        for row in users.iter().chain(untold).filter(|row| row.deleted_at.is_some()) {
            let told = gone.contains(row.directory.as_str()) || self.taken_away.contains(&row.directory);
            if !told && !self.missing.contains(&row.id) {
                return Err(format!("{} is deleted, though neither an event nor the API said so", row.id));
            }
            let is_new = self.before.get(&row.id).is_none_or(|before| before.deleted_at.is_none());
            let announced = told || self.taken_away.contains(&row.id);
            if is_new && !announced && !self.shown_lately.contains(&row.directory) {
                return Err(format!("{} is deleted by a 404, though the API did not show its directory", row.id));
            }
        }
        Ok(())
    }

    /// A membership goes by an event, with one of its ends, or by a list. An empty one counts only if its owner was shown
    /// as well, and a group's says nothing of who is inactive (rule 5).
    fn lost_memberships_are_founded(
        &self,
        members: &[(String, String)],
        users: &[Shown],
        groups: &[Shown],
    ) -> Result<(), String> {
        let members: BTreeSet<&(String, String)> = members.iter().collect();
        let is_there = |rows: &[Shown], id: &str| rows.iter().any(|row| row.id == id && row.deleted_at.is_none());
        for (group, user) in self.members_before.iter().filter(|member| !members.contains(member)) {
            let told = self.removed_lately.contains(&format!("{group} {user}"));
            let counts = |owner: &String| {
                let list = self.lists_read_lately.get(owner);
                list.is_some_and(|has_something| *has_something || self.shown_lately.contains(owner))
            };
            // A lagging answer or an event may have shown anew at once what a 404 had taken away.
            let is_told = |id: &String| self.shown_lately.contains(id) || self.told_lately.contains_key(id);
            let came_back = |id: &String| self.missing_lately.contains(id) && is_told(id);
            let stays = |rows: &[Shown], id: &String| is_there(rows, id) && !came_back(id);
            let is_active = |row: &Shown| row.id == *user && row.active;
            let was_active = self.before.get(user).is_some_and(is_active);
            let by_list = counts(user) || (counts(group) && (was_active || users.iter().any(is_active)));
            if !told && !by_list && stays(users, user) && stays(groups, group) {
                return Err(format!("{user} is no longer in {group}, though nothing said so"));
            }
        }
        Ok(())
    }

    /// As for users: a list that a lagging replica gives is asked for again, but for one of a minute after the hint.
    fn no_membership_is_revived(&self, members: &[(String, String)]) -> Result<(), String> {
        for (group, user) in members {
            let Some(newest) = self.newest.get(&format!("{group} {user}")) else { continue };
            let Some(tick) = newest.revoked else { continue };
            let seen = self.seen_listed.get(&(group.clone(), user.clone())).into_iter().flatten();
            let since: Vec<Timestamp> = seen.filter(|(sent, _)| *sent > tick).map(|(_, at)| *at).collect();
            let settled = |(sent, at): &(u64, Timestamp)| *sent > tick && *at >= newest.key.0 + TimeDelta::minutes(1);
            let lists = [group, user].into_iter().filter_map(|owner| self.lists_read.get(owner)).flatten();
            let is_settled = lists.copied().any(|list| settled(&list));
            if since.is_empty() || !(is_settled || self.are_evidence(since.iter().copied())) {
                return Err(format!("{user} is in {group} again, though a hint took the membership away"));
            }
        }
        Ok(())
    }

    /// While nothing but events told of a record, what is shown of it is never older than before; and events from before
    /// the last truth change nothing at all (rules 1 and 6).
    fn old_hints_change_nothing<'a>(
        &self,
        rows: impl Iterator<Item = &'a Shown>,
        gone: &BTreeSet<&str>,
    ) -> Result<(), String> {
        for row in rows.filter(|row| !self.asked_lately.contains(&row.id)) {
            let Some(before) = self.before.get(&row.id) else { continue };
            let (is, was) = (row.updated_at, before.updated_at);
            if !row.verified && !before.verified && is < was {
                return Err(format!("{} shows the content of {is:?} in place of that of {was:?}", row.id));
            }
            let of_directory = self.directories_told_lately.contains(&row.directory);
            // A directory that is gone took everything along, perhaps by an answer of the API.
            if of_directory || gone.contains(row.directory.as_str()) {
                continue;
            }
            let news = self.told_lately.get(&row.id).zip(self.truth_at.get(&row.id));
            let all_old = news.is_some_and(|(told, truth)| told < truth);
            if all_old
                && (row.active, row.deleted_at.is_some(), is) != (before.active, before.deleted_at.is_some(), was)
            {
                return Err(format!("{} was changed by an event from before the last truth", row.id));
            }
        }
        Ok(())
    }

    fn the_brake_holds<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Shown> + Clone,
        gone: &BTreeSet<&str>,
    ) -> Result<(), String> {
        let was_there = |row: &&Shown| self.before.get(&row.id).is_none_or(|before| before.deleted_at.is_none());
        let told = |id: &str| self.taken_away.contains(id);
        let mut vanished: Vec<(&Shown, Timestamp)> = rows
            .clone()
            .filter_map(|row| Some((row, row.deleted_at?)))
            .filter(|(row, _)| was_there(row) && !told(&row.id) && !told(&row.directory))
            .filter(|(row, _)| !gone.contains(row.directory.as_str()) && !self.confirmed.contains(&row.directory))
            .collect();
        vanished.sort_by_key(|(_, at)| *at);
        for (row, at) in vanished {
            let count = self.removals.entry(row.directory.clone()).or_insert((at, 0));
            if at - count.0 >= TimeDelta::hours(1) {
                *count = (at, 0);
            }
            count.1 += 1;
            let all = rows.clone().filter(|other| other.directory == row.directory).count();
            if count.1 > BELIEVED.max(all / 10) {
                return Err(format!("{} vanished from {} within an hour, unannounced", count.1, row.directory));
            }
        }
        Ok(())
    }
}

/// Once a directory counts as scanned, everybody is there who was before any event.
fn a_scan_is_complete(directories: &[Shown], users: &[Shown], network: &mut Network) -> Result<(), String> {
    if network.lists_lied {
        return Ok(());
    }
    for (directory, user) in network.old.clone() {
        let scanned = directories.iter().any(|row| row.id == directory && row.verified && row.deleted_at.is_none());
        if scanned && users.iter().all(|row| row.id != user) && network.has_user(&user) {
            return Err(format!("{directory} counts as scanned, and {user} is missing"));
        }
    }
    Ok(())
}

fn nobody_is_created_by_a_removal<'a>(
    witness: &Witness,
    mut rows: impl Iterator<Item = &'a Shown>,
) -> Result<(), String> {
    match rows.find(|row| !witness.known.contains(&row.id)) {
        Some(row) => Err(format!("{} has a row, though only removals told of it", row.id)),
        None => Ok(()),
    }
}

/// What a 429 to this request pauses at the least: its directory's requests for lists of users.
fn limited_path(url: &reqwest::Url) -> Option<String> {
    let directory = url.query_pairs().find(|(name, _)| name == "directory")?.1.into_owned();
    (url.path() == "/directory_users").then(|| format!("/directory_users of {directory}"))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn instant(value: &Value) -> Timestamp {
    let parsed = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    parsed.map(|at| at.to_utc()).unwrap_or_default()
}
