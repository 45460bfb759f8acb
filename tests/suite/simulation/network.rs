//! WorkOS and the network between.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use directory_mirror::clock::Timestamp;
use directory_mirror::workos::Reply;
use workos_emulator::{ApiRequest, EmittedEvent, NewDirectory, NewUser, Options, Truth, UserChange, World, WorldError};

use super::history::Random;
use super::op::{Fault, How, Op, place};

pub const KEY: &str = "sk_test_emulator";
/// A lag beyond this is answered with the oldest state there is.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long a 429 keeps requests off. The limits go by the machine's clock, so it is short.
pub const PAUSE: Duration = Duration::from_millis(5);
const BEGINS_AT: i64 = 1_790_000_000;
const EMPTY_LIST: &str = r#"{"object":"list","data":[],"list_metadata":{"before":null,"after":null}}"#;

pub struct Network {
    world: World,
    pub now: DateTime<Utc>,
    pub clock_off: TimeDelta,
    pub fault: Fault,
    pub lag: TimeDelta,
    pub page_size: Option<usize>,
    pub omits_inactive: bool,
    loses: Option<Random>,
    /// Without the poller nothing but its event tells that a directory was deleted (rule 4), so that one is not lost.
    pub keeps_deletions: bool,
    pub directories: Vec<String>,
    users: Vec<String>,
    groups: Vec<String>,
    pub waiting: Vec<EmittedEvent>,
    pub arrived: Vec<EmittedEvent>,
    lost_deletions: Vec<EmittedEvent>,
    /// Every event there was, lost ones too.
    pub emitted: HashMap<String, EmittedEvent>,
    /// Directories that lost somebody without an event: what is not linked is not reconciled, and would never tell.
    silent: BTreeSet<String>,
    /// The directory in which a user was deleted just now.
    deleted_in: Option<String>,
    /// Users who were there before any event, with their directory.
    pub old: Vec<(String, String)>,
    /// Whether the API said of records that are there that they are not.
    lied: bool,
    /// Whether lists showed anything but the present.
    pub lists_lied: bool,
    /// Whether events were ignored, since their directory was disabled.
    pub was_disabled: bool,
    people: usize,
}

impl Network {
    pub fn new() -> Self {
        let options = Options { requests_per_minute: 0, directory_users_per_second: 0, ..Options::default() };
        let mut world = World::new(&options);
        let now = DateTime::from_timestamp(BEGINS_AT, 0).unwrap();
        world.set_now(now);
        world.keep_history(REMEMBERED);
        Self {
            world,
            now,
            clock_off: TimeDelta::zero(),
            fault: Fault::None,
            lag: TimeDelta::zero(),
            page_size: None,
            omits_inactive: false,
            loses: None,
            keeps_deletions: false,
            directories: Vec::new(),
            users: Vec::new(),
            groups: Vec::new(),
            waiting: Vec::new(),
            arrived: Vec::new(),
            lost_deletions: Vec::new(),
            emitted: HashMap::new(),
            silent: BTreeSet::new(),
            deleted_in: None,
            old: Vec::new(),
            lied: false,
            lists_lied: false,
            was_disabled: false,
            people: 0,
        }
    }

    pub fn pass(&mut self, milliseconds: i64) {
        self.now += TimeDelta::milliseconds(milliseconds);
        self.world.set_now(self.now);
    }

    /// Whether the first events are older than the Events API keeps them.
    pub fn is_old(&self) -> bool {
        self.now.timestamp() - BEGINS_AT > 80 * 86_400
    }

    pub fn our_now(&self) -> Timestamp {
        self.now + self.clock_off
    }

    pub fn omit_inactive(&mut self) {
        self.omits_inactive = true;
        self.world.set_omit_inactive_from_group_members(true);
    }

    pub fn lose_half(&mut self, seed: u64) {
        self.loses = Some(Random(seed));
    }

    pub fn truth(&self) -> Truth {
        self.world.truth()
    }

    /// Has those webhooks sent again of which neither a webhook told nor the Events API any more: that a directory is gone
    /// is believed by an event alone (rule 4).
    pub fn tell_of_old_deletions(&mut self) {
        if self.is_old() {
            self.waiting.append(&mut self.lost_deletions);
        }
    }

    /// Loses a waiting webhook.
    pub fn lose(&mut self, number: usize) {
        let count = self.waiting.len();
        let number = place(number, count);
        if count > 0 && !(self.keeps_deletions && self.waiting[number].event == "dsync.deleted") {
            let lost = self.waiting.remove(number);
            self.lost_deletions.extend(Some(lost).filter(|event| event.event == "dsync.deleted"));
        }
    }

    /// Changes the source; what is impossible at that moment is left out.
    pub fn change(&mut self, op: &Op) {
        let _impossible = self.try_change(op);
        let mut events = self.world.take_events();
        if let Some(directory) = self.deleted_in.take()
            && events.iter().all(|event| event.event != "dsync.user.deleted")
        {
            self.silent.insert(directory);
        }
        self.emitted.extend(events.iter().map(|event| (event.id.clone(), event.clone())));
        if let Some(random) = &mut self.loses {
            let keeps = self.keeps_deletions;
            let lost =
                events.extract_if(.., |event| !(keeps && event.event == "dsync.deleted") && random.below(2) == 1);
            self.lost_deletions.extend(lost.filter(|event| event.event == "dsync.deleted"));
        }
        self.waiting.extend(events);
    }

    fn create_user(&mut self, directory: &str, like: Option<(Option<String>, String)>) -> Result<(), WorldError> {
        self.people += 1;
        let mut person = NewUser::invented(self.people, "acme.example");
        if let Some((email, idp_id)) = like {
            person.email = email.unwrap_or(person.email);
            person.idp_id = Some(idp_id).filter(|id| !id.is_empty());
        }
        let id = self.world.create_user(directory, person)?;
        self.users.push(id);
        Ok(())
    }

    fn replace_directory(&mut self, directory: &str) -> Result<(), WorldError> {
        let truth = self.world.truth();
        let unknown = || WorldError::UnknownDirectory(directory.to_owned());
        let record = truth.directories.get(directory).ok_or_else(unknown)?;
        let people: Vec<_> = truth.users.values().filter(|user| user.directory_id == directory).collect();
        self.world.delete_directory(directory)?;
        let organization_id = Some(record.organization_id.clone());
        let new = NewDirectory { organization_id, ..NewDirectory::named(&record.name) };
        let id = self.world.create_directory(new);
        self.directories.push(id.clone());
        for user in people {
            self.create_user(&id, Some((user.email.clone(), user.idp_id.clone())))?;
        }
        Ok(())
    }

    /// Links the directories again, if one that is not linked might not be put right: it is not reconciled, and need not be
    /// found once its first events are so old that nothing tells of them.
    pub fn link_again(&mut self, all: bool) {
        if all || self.needs_reconcile() || self.is_old() {
            for id in &self.directories {
                let _deleted = self.world.set_directory_state(id, "linked");
            }
        }
    }

    /// Whether the poller alone cannot bring the directory to equality: somebody in it was deleted without an event, which
    /// is twice, or an API that lied was believed, or it kept from a scan who was there before any event.
    pub fn needs_scan(&self, directory: &str) -> bool {
        self.silent.contains(directory) || self.lied || (self.lists_lied && !self.old.is_empty())
    }

    /// Whether events cannot bring equality: somebody vanished without one, an API that lied was believed within the
    /// brake's limits, or a scan was kept from whom no event told of, or one that was ignored.
    pub fn needs_reconcile(&self) -> bool {
        let untold = self.was_disabled || !self.old.is_empty();
        !self.silent.is_empty() || self.lied || (self.lists_lied && untold)
    }

    /// Deletes a user; nothing is emitted if a deletion was announced before.
    fn delete_user(&mut self, id: &str) -> Result<(), WorldError> {
        let truth = self.world.truth();
        self.world.delete_user(id)?;
        self.deleted_in = truth.users.get(id).map(|user| user.directory_id.clone());
        Ok(())
    }

    fn create_old_users(&mut self, directory: &str, count: usize) -> Result<(), WorldError> {
        for _ in 0..count {
            self.people += 1;
            let person = NewUser::invented(self.people, "acme.example");
            let id = self.world.silently(|world| world.create_user(directory, person))?;
            if let Some(group) = self.groups.last() {
                let _of_another_directory = self.world.silently(|world| world.add_member(group, &id));
            }
            self.users.push(id.clone());
            self.old.push((directory.to_owned(), id));
        }
        Ok(())
    }

    /// Whether the user exists at this moment.
    pub fn has_user(&mut self, id: &str) -> bool {
        self.world.answer(&ApiRequest::get(&format!("/directory_users/{id}"), KEY)).status == 200
    }

    fn vanish(&mut self, directory: &str, count: usize) {
        let truth = self.world.truth();
        self.silent.insert(directory.to_owned());
        let there = truth.users.values().filter(|user| user.directory_id == directory).take(count);
        for user in there {
            let _gone_already = self.world.silently(|world| world.delete_user(&user.id));
        }
    }

    fn try_change(&mut self, op: &Op) -> Result<(), WorldError> {
        let chosen = |list: &[String], number: usize| {
            let missing = || WorldError::UnknownUser(String::new());
            list.get(place(number, list.len())).cloned().ok_or_else(missing)
        };
        match op {
            Op::CreateDirectory => {
                let name = format!("Directory {}", self.directories.len());
                let id = self.world.create_directory(NewDirectory::named(&name));
                self.directories.push(id);
            }
            Op::DeleteDirectory(d) => self.world.delete_directory(&chosen(&self.directories, *d)?)?,
            Op::ReplaceDirectory(d) => self.replace_directory(&chosen(&self.directories, *d)?)?,
            Op::DirectoryState(d, state) => {
                self.world.set_directory_state(&chosen(&self.directories, *d)?, state)?;
            }
            Op::CreateUser(d) => self.create_user(&chosen(&self.directories, *d)?, None)?,
            Op::CreateUsers(d, count) => {
                for _ in 0..*count {
                    self.create_user(&chosen(&self.directories, *d)?, None)?;
                }
            }
            Op::OldUsers(d, count) => self.create_old_users(&chosen(&self.directories, *d)?, *count)?,
            Op::Vanish(d, count) => self.vanish(&chosen(&self.directories, *d)?, *count),
            Op::UpdateUser(u) => {
                self.people += 1;
                let change = UserChange { job_title: Some(format!("Title {}", self.people)), ..UserChange::default() };
                self.world.update_user(&chosen(&self.users, *u)?, change)?;
            }
            Op::RecycleAddress(u) => {
                let id = chosen(&self.users, *u)?;
                let truth = self.world.truth();
                let Some(user) = truth.users.get(&id) else { return Ok(()) };
                self.create_user(&user.directory_id, Some((user.email.clone(), String::new())))?;
            }
            Op::Deactivate(u, How::DeletedGone) => self.delete_user(&chosen(&self.users, *u)?)?,
            Op::Deactivate(u, how) => self.world.deactivate_user(&chosen(&self.users, *u)?, (*how).into())?,
            Op::Suspend(u) => self.world.suspend_user(&chosen(&self.users, *u)?)?,
            Op::Reactivate(u) => self.world.reactivate_user(&chosen(&self.users, *u)?)?,
            Op::Rehire(u) => {
                let id = self.world.rehire_user(&chosen(&self.users, *u)?)?;
                if !self.users.contains(&id) {
                    self.users.push(id);
                }
            }
            Op::DeleteUser(u) => self.delete_user(&chosen(&self.users, *u)?)?,
            Op::CreateGroup(d) => {
                let id = self.world.create_group(&chosen(&self.directories, *d)?, "Team")?;
                self.groups.push(id);
            }
            Op::RenameGroup(g) => {
                self.people += 1;
                self.world.rename_group(&chosen(&self.groups, *g)?, &format!("Team {}", self.people))?;
            }
            Op::DeleteGroup(g) => self.world.delete_group(&chosen(&self.groups, *g)?)?,
            Op::AddMember(g, u) => {
                self.world.add_member(&chosen(&self.groups, *g)?, &chosen(&self.users, *u)?)?;
            }
            Op::RemoveMember(g, u) => {
                self.world.remove_member(&chosen(&self.groups, *g)?, &chosen(&self.users, *u)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub fn answer(&mut self, url: &reqwest::Url) -> Result<Reply, String> {
        // What comes of the API itself tells the time, though not what is.
        let of_api = matches!(self.fault, Fault::OtherEnvironment | Fault::RecordsGone);
        let date = of_api.then_some(self.now);
        let reply =
            |status, retry_after, body: &str| Ok(Reply { status, retry_after, date, body: body.as_bytes().to_vec() });
        let path = url.path();
        let is_list = ["/directories", "/directory_users", "/directory_groups", "/events"].contains(&path);
        let in_directory = path.starts_with("/directory_users") || path.starts_with("/directory_groups");
        self.lied |= matches!(self.fault, Fault::OtherEnvironment | Fault::RecordsGone);
        self.lists_lied |= self.lied || !self.lag.is_zero();
        match self.fault {
            Fault::Outage => Err("no route".to_owned()),
            Fault::ServerError => reply(503, Duration::ZERO, r#"{"message":"Service Unavailable"}"#),
            Fault::RateLimited => reply(429, PAUSE, r#"{"message":"Too Many Requests"}"#),
            Fault::WrongKey => reply(401, Duration::ZERO, r#"{"message":"Unauthorized"}"#),
            Fault::ProxyNotFound => reply(404, Duration::ZERO, "<html>Not Found</html>"),
            Fault::OtherEnvironment if is_list => reply(200, Duration::ZERO, EMPTY_LIST),
            Fault::OtherEnvironment => reply(404, Duration::ZERO, r#"{"message":"Not Found"}"#),
            Fault::RecordsGone if in_directory && is_list => reply(200, Duration::ZERO, EMPTY_LIST),
            Fault::RecordsGone if in_directory => reply(404, Duration::ZERO, r#"{"message":"Not Found"}"#),
            Fault::RecordsGone | Fault::None => Ok(self.truthful_answer(url)),
        }
    }

    fn truthful_answer(&mut self, url: &reqwest::Url) -> Reply {
        let mut query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Some(size) = self.page_size {
            query = query.replace("limit=100", &format!("limit={size}"));
        }
        let request = ApiRequest::get(&format!("{}{query}", url.path()), KEY);
        let answer = self.world.answer_from(&request, self.lag);
        Reply { status: answer.status, retry_after: Duration::ZERO, date: Some(self.now), body: answer.body }
    }
}
