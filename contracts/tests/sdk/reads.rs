//! Lists by pages, and single records.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use workos::directory_sync::{ListDirectoriesParams, ListGroupsParams, ListUsersParams};
use workos::{DirectoryState, DirectoryType, DirectoryUserWithGroupsState};

use crate::support::{change_everything, client, emulator, found, unlimited};

fn set<'a>(ids: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

#[tokio::test]
async fn every_page_of_every_list_is_read() {
    let emulator = emulator(unlimited()).await;
    let companies: Vec<_> = (0..13).map(|_| found(&emulator, 2)).collect();
    let acme = found(&emulator, 37);
    let client = client(&emulator, &emulator.api_key());
    let api = client.directory_sync();

    let params = ListDirectoriesParams { limit: Some(5), ..Default::default() };
    let directories: Vec<_> = api.list_directories_auto_paging(params).try_collect().await.unwrap();
    assert_eq!(directories.len(), 14);
    assert!(companies.iter().all(|company| directories.iter().any(|found| found.id == company.directory)));
    let listed = directories.iter().find(|directory| directory.id == acme.directory).unwrap();
    assert_eq!(listed.metadata.as_ref().unwrap().users.active, 37);
    assert_eq!(listed.metadata.as_ref().unwrap().groups, 3);

    let params = ListUsersParams { directory: Some(acme.directory.clone()), limit: Some(10), ..Default::default() };
    let users: Vec<_> = api.list_users_auto_paging(params).try_collect().await.unwrap();
    assert_eq!(users.len(), 37, "no user comes twice");
    assert_eq!(set(users.iter().map(|user| &user.id)), set(&acme.users));

    let params = ListUsersParams { group: Some(acme.groups[0].clone()), limit: Some(4), ..Default::default() };
    let members: Vec<_> = api.list_users_auto_paging(params).try_collect().await.unwrap();
    assert_eq!(set(members.iter().map(|user| &user.id)), set(acme.users.iter().step_by(3)));

    let params = ListGroupsParams { directory: Some(acme.directory.clone()), limit: Some(2), ..Default::default() };
    let groups: Vec<_> = api.list_groups_auto_paging(params).try_collect().await.unwrap();
    assert_eq!(set(groups.iter().map(|group| &group.id)), set(&acme.groups));

    let params = ListGroupsParams { user: Some(acme.users[1].clone()), ..Default::default() };
    let groups = api.list_groups(params).await.unwrap();
    assert_eq!(groups.data.iter().map(|group| &group.id).collect::<Vec<_>>(), [&acme.groups[1]]);
    assert_eq!(groups.list_metadata.after, None);
    emulator.stop().await;
}

#[tokio::test]
async fn a_page_goes_back_as_well_as_on() {
    let emulator = emulator(unlimited()).await;
    let acme = found(&emulator, 9);
    let client = client(&emulator, &emulator.api_key());
    let page = async |before: Option<String>, after: Option<String>| {
        let params = ListUsersParams {
            directory: Some(acme.directory.clone()),
            limit: Some(3),
            before,
            after,
            ..Default::default()
        };
        client.directory_sync().list_users(params).await.unwrap()
    };
    let first = page(None, None).await;
    let second = page(None, first.list_metadata.after.clone()).await;
    let back = page(second.list_metadata.before.clone(), None).await;
    let ids = |page: &workos::DirectoryUserList| page.data.iter().map(|user| user.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&back));
    assert!(ids(&first).iter().all(|id| !ids(&second).contains(id)));
    emulator.stop().await;
}

#[tokio::test]
async fn every_record_decodes_to_words_that_the_sdk_knows() {
    let emulator = emulator(unlimited()).await;
    let acme = change_everything(&emulator);
    let client = client(&emulator, &emulator.api_key());
    let api = client.directory_sync();

    let directory = api.get_directory(&acme.directory).await.unwrap();
    assert_eq!(directory.object, "directory");
    assert!(!matches!(directory.state, DirectoryState::Unknown(_)), "{:?}", directory.state);
    assert!(!matches!(directory.type_, DirectoryType::Unknown(_)), "{:?}", directory.type_);

    let truth = emulator.truth();
    for (id, expected) in &truth.users {
        let user = api.get_user(id).await.unwrap();
        assert_eq!(user.object, "directory_user");
        assert!(!matches!(user.state, DirectoryUserWithGroupsState::Unknown(_)), "{:?}", user.state);
        assert_eq!(user.email, expected.email);
        assert_eq!(user.role.map(|role| role.slug), expected.role.as_ref().map(|role| role.slug.clone()));
        assert!(user.updated_at.ends_with('Z'));
    }
    for (id, expected) in &truth.groups {
        let group = api.get_group(id).await.unwrap();
        assert_eq!((group.object.as_str(), &group.name), ("directory_group", &expected.name));
    }
    assert_eq!(truth.users.len(), 6, "one of seven is gone for good");
    emulator.stop().await;
}
