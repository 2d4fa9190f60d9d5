//! The people of a Keystone, from its dump and from its lists.

use super::*;
use crate::import::{ImportError, ImportOptions, Lists, Snapshot, apply, plan};

on_both!(
    people_come_over_with_their_passwords_and_roles,
    an_import_that_contradicts_what_is_here_changes_nothing,
    the_lists_of_an_api_are_imported_without_passwords,
);

/// A small Keystone: `$HASH` is of the password `old-secret`.
const DUMP: &str = r#"
CREATE TABLE `project` (`id` varchar(64),`name` varchar(64),`extra` text,`description` text,`enabled` tinyint(1),`domain_id` varchar(64),`parent_id` varchar(64),`is_domain` tinyint(1));
INSERT INTO `project` VALUES ('<<keystone.domain.root>>','<<keystone.domain.root>>','{}','',0,'<<keystone.domain.root>>',NULL,1),
('default','Default','{}','The default domain',1,'<<keystone.domain.root>>',NULL,1),
('f1000000000000000000000000000001','firm','{}','A firm',1,'<<keystone.domain.root>>',NULL,1),
('a1000000000000000000000000000001','mill','{"colour": "red"}','d',1,'f1000000000000000000000000000001','f1000000000000000000000000000001',0),
('a1000000000000000000000000000002','wheel','{}','',0,'f1000000000000000000000000000001','a1000000000000000000000000000001',0);
CREATE TABLE `project_tag` (`project_id` varchar(64),`name` varchar(255));
INSERT INTO `project_tag` VALUES ('a1000000000000000000000000000001','old');
CREATE TABLE `user` (`id` varchar(64),`extra` text,`enabled` tinyint(1),`default_project_id` varchar(64),`created_at` datetime,`last_active_at` date,`domain_id` varchar(64));
INSERT INTO `user` VALUES ('b1000000000000000000000000000001','{"email": "ann@example.org", "description": "x"}',1,'a1000000000000000000000000000001','2016-01-02 03:04:05',NULL,'f1000000000000000000000000000001'),
('b1000000000000000000000000000002','{}',0,NULL,'2016-01-02 03:04:05',NULL,'f1000000000000000000000000000001'),
('b1000000000000000000000000000003','{}',1,NULL,NULL,NULL,'f1000000000000000000000000000001');
CREATE TABLE `local_user` (`id` int(11),`domain_id` varchar(64),`user_id` varchar(64),`name` varchar(255),`failed_auth_count` int(11),`failed_auth_at` datetime);
INSERT INTO `local_user` VALUES (1,'f1000000000000000000000000000001','b1000000000000000000000000000001','ann',0,NULL),
(2,'f1000000000000000000000000000001','b1000000000000000000000000000002','bob',NULL,NULL);
CREATE TABLE `password` (`id` int(11),`local_user_id` int(11),`self_service` tinyint(1),`password_hash` varchar(255),`created_at_int` bigint(20),`expires_at_int` bigint(20),`created_at` datetime,`expires_at` datetime);
INSERT INTO `password` VALUES (2,1,1,'$HASH',1600000000000000,NULL,'2020-09-13 12:26:40',NULL),
(1,1,0,'$2b$04$eh1XhXol63y8bDVpllPTfO.mebiz1cP.yTUMm.n1GLwawfHOeYMZi',1500000000000000,1600000000000000,'2017-07-14 02:40:00',NULL),
(3,2,0,'$6$rounds=1000$salt$digest',1600000000000000,NULL,'2020-09-13 12:26:40',NULL);
CREATE TABLE `user_option` (`user_id` varchar(64),`option_id` varchar(4),`option_value` text);
INSERT INTO `user_option` VALUES ('b1000000000000000000000000000001','1003','true'),('b1000000000000000000000000000001','ABCD','1');
CREATE TABLE `group` (`id` varchar(64),`domain_id` varchar(64),`name` varchar(64),`description` text,`extra` text);
INSERT INTO `group` VALUES ('c1000000000000000000000000000001','f1000000000000000000000000000001','crew','the crew','{}');
CREATE TABLE `user_group_membership` (`user_id` varchar(64),`group_id` varchar(64));
INSERT INTO `user_group_membership` VALUES ('b1000000000000000000000000000001','c1000000000000000000000000000001');
CREATE TABLE `role` (`id` varchar(64),`name` varchar(255),`extra` text,`domain_id` varchar(64),`description` varchar(255));
INSERT INTO `role` VALUES ('d1000000000000000000000000000001','member','{}','<<null>>',NULL),('d1000000000000000000000000000002','auditor','{}','<<null>>','looks'),('d1000000000000000000000000000003','local','{}','f1000000000000000000000000000001',NULL);
CREATE TABLE `implied_role` (`prior_role_id` varchar(64),`implied_role_id` varchar(64));
INSERT INTO `implied_role` VALUES ('d1000000000000000000000000000002','d1000000000000000000000000000001');
CREATE TABLE `assignment` (`type` enum('UserProject','GroupProject','UserDomain','GroupDomain'),`actor_id` varchar(64),`target_id` varchar(64),`role_id` varchar(64),`inherited` tinyint(1));
INSERT INTO `assignment` VALUES ('UserProject','b1000000000000000000000000000001','a1000000000000000000000000000001','d1000000000000000000000000000001',0),('GroupDomain','c1000000000000000000000000000001','f1000000000000000000000000000001','d1000000000000000000000000000002',1);
CREATE TABLE `system_assignment` (`type` varchar(64),`actor_id` varchar(64),`target_id` varchar(64),`role_id` varchar(64),`inherited` tinyint(1));
INSERT INTO `system_assignment` VALUES ('UserSystem','b1000000000000000000000000000001','system','d1000000000000000000000000000002',0);
"#;

fn dump() -> Snapshot {
    let hash = bcrypt::hash("old-secret", 4).unwrap();
    Snapshot::from_dump(&DUMP.replace("$HASH", &hash)).unwrap()
}

const ANN: &str = "b1000000000000000000000000000001";
const MILL: &str = "a1000000000000000000000000000001";

async fn people_come_over_with_their_passwords_and_roles(cloud: Cloud) {
    let snapshot = dump();
    let wanted = plan(&cloud.db, &snapshot, ImportOptions::default()).await.unwrap();
    assert_eq!(wanted.conflicts, Vec::<String>::new());
    let new: Vec<usize> = ["domain", "project", "user", "group", "role", "membership"]
        .iter()
        .map(|kind| wanted.new[kind])
        .collect();
    assert_eq!(new, [1, 2, 2, 1, 1, 1], "{wanted}");
    assert_eq!(wanted.there["role"], 1, "`member` is the same in every cloud");
    assert_eq!(wanted.new["assignment"], 3);
    let left_out = wanted.left_out.join("\n");
    for word in ["LDAP", "role local", "password of user bob"] {
        assert!(left_out.contains(word), "{left_out}");
    }
    let admin = cloud.admin().await;
    cloud.get(&admin, &format!("/v3/users/{ANN}")).await.expect(404);

    let done = apply(&cloud.db, snapshot.clone(), ImportOptions::default()).await.unwrap();
    assert_eq!(done, wanted);
    let shown = cloud.get(&admin, &format!("/v3/users/{ANN}")).await.expect(200).body;
    assert_eq!(shown["user"]["email"], "ann@example.org");
    assert_eq!(shown["user"]["description"], "x");
    assert_eq!(shown["user"]["options"], json!({"lock_password": true}));
    let shown = cloud.get(&admin, &format!("/v3/projects/{MILL}")).await.expect(200).body;
    assert_eq!(
        (&shown["project"]["tags"], &shown["project"]["colour"]),
        (&json!(["old"]), &json!("red"))
    );
    let wheel = cloud.get(&admin, "/v3/projects/a1000000000000000000000000000002").await;
    assert_eq!(wheel.expect(200).body["project"]["parent_id"], MILL);

    let auth = |password: &str, scope: Value| {
        json!({"auth": {"scope": scope, "identity": {
        "methods": ["password"], "password": {"user": {"name": "ann", "password": password,
        "domain": {"name": "firm"}}}}}})
    };
    let scope = json!({"project": {"id": MILL}});
    let path = "/v3/auth/tokens";
    cloud.call("", "POST", path, auth("older-secret", scope.clone())).await.expect(401);
    let token = cloud.call("", "POST", path, auth("old-secret", scope)).await.expect(201);
    let names: Vec<&str> = token.body["token"]["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"member") && names.contains(&"auditor"), "{names:?}");
    let system = json!({"system": {"all": true}});
    cloud.call("", "POST", path, auth("old-secret", system)).await.expect(201);

    let again = apply(&cloud.db, snapshot, ImportOptions::default()).await.unwrap();
    assert!(again.is_empty(), "{again}");
    cloud.admin().await;
}

async fn an_import_that_contradicts_what_is_here_changes_nothing(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"domain": {"name": "firm"}});
    let made = cloud.call(&admin, "POST", "/v3/domains", body).await.expect(201);
    let here = made.body["domain"]["id"].as_str().unwrap().to_owned();
    let refused = apply(&cloud.db, dump(), ImportOptions::default()).await.unwrap_err();
    let ImportError::Conflicts(refused) = refused else { panic!("{refused}") };
    assert_eq!(refused.conflicts.len(), 1, "{refused}");
    assert!(refused.conflicts[0].contains("firm") && refused.conflicts[0].contains(&here));
    cloud.get(&admin, &format!("/v3/projects/{MILL}")).await.expect(404);
    let roles = cloud.get(&admin, "/v3/roles?name=auditor").await.expect(200);
    assert_eq!(roles.body["roles"], json!([]));

    let same = ImportOptions { same_names: true };
    apply(&cloud.db, dump(), same).await.unwrap();
    let shown = cloud.get(&admin, &format!("/v3/users/{ANN}")).await.expect(200);
    assert_eq!(shown.body["user"]["domain_id"], here.as_str());
    assert!(apply(&cloud.db, dump(), same).await.unwrap().is_empty());
}

async fn the_lists_of_an_api_are_imported_without_passwords(cloud: Cloud) {
    let lists = Lists {
        domains: vec![json!({"id": "default", "name": "Default", "enabled": true})],
        projects: vec![json!({"id": MILL, "name": "mill", "domain_id": "default",
            "parent_id": "default", "enabled": true, "tags": ["t"], "is_domain": false})],
        users: vec![json!({"id": ANN, "name": "ann", "domain_id": "default", "enabled": true,
            "options": {"lock_password": true}, "email": "e", "links": {}})],
        groups: vec![json!({"id": "c1", "name": "crew", "domain_id": "default"})],
        members: vec![("c1".into(), vec![json!({"id": ANN})])],
        roles: vec![json!({"id": "r1", "name": "reader", "domain_id": null})],
        inferences: Vec::new(),
        assignments: vec![json!({"user": {"id": ANN}, "role": {"id": "r1"},
            "scope": {"project": {"id": MILL}}})],
    };
    let snapshot = lists.snapshot().unwrap();
    apply(&cloud.db, snapshot.clone(), ImportOptions::default()).await.unwrap();
    assert!(apply(&cloud.db, snapshot, ImportOptions::default()).await.unwrap().is_empty());
    let admin = cloud.admin().await;
    let path = format!("/v3/role_assignments?user.id={ANN}&include_names=True");
    let shown = cloud.get(&admin, &path).await.expect(200).body;
    assert_eq!(shown["role_assignments"][0]["role"]["name"], "reader");
    cloud.login("ann", "", Value::Null).await.expect(401);
    let body = json!({"user": {"password": "new"}});
    cloud.call(&admin, "PATCH", &format!("/v3/users/{ANN}"), body).await.expect(200);
    cloud.login("ann", "new", Value::Null).await.expect(201);
}

/// What `mariadb-dump` wrote of the tables of a Keystone 30.0 (2026.2) with sample people.
const REAL: &str = include_str!("keystone_30.sql");

#[tokio::test]
async fn a_real_keystones_people_log_in_with_the_passwords_that_they_had() {
    let cloud = Cloud::sqlite().await;
    let snapshot = Snapshot::from_dump(REAL).unwrap();
    let wanted = plan(&cloud.db, &snapshot, ImportOptions::default()).await.unwrap();
    let conflicts = wanted.conflicts.join("\n");
    assert_eq!(wanted.conflicts.len(), 2, "{conflicts}");
    for word in ["project admin", "user admin"] {
        assert!(conflicts.contains(word), "{conflicts}");
    }
    let same = ImportOptions { same_names: true };
    let done = apply(&cloud.db, snapshot.clone(), same).await.unwrap();
    assert_eq!((done.new["user"], done.new["project"], done.new["domain"]), (5, 2, 1), "{done}");
    assert!(apply(&cloud.db, snapshot, same).await.unwrap().is_empty());
    // bcrypt, bcrypt over SHA-256, scrypt, PBKDF2; the first was changed by its owner since.
    for (name, password, scope) in [
        (
            "bea",
            "sample-bea-2",
            json!({"project": {"name": "mill",
            "domain": {"name": "O'Reilly & Söhne"}}}),
        ),
        ("cid", "sample-cid", json!({"domain": {"name": "O'Reilly & Söhne"}})),
        (
            "sue",
            "sample-sue",
            json!({"project": {"name": "wheel",
            "domain": {"name": "O'Reilly & Söhne"}}}),
        ),
        ("pat", "sample-pat", json!({"system": {"all": true}})),
    ] {
        let auth = |password: &str| {
            json!({"auth": {"scope": scope, "identity": {
            "methods": ["password"], "password": {"user": {"name": name, "password": password,
            "domain": {"name": "O'Reilly & Söhne"}}}}}})
        };
        let path = "/v3/auth/tokens";
        cloud.call("", "POST", path, auth("sample-bea")).await.expect(401);
        cloud.call("", "POST", path, auth(password)).await.expect(201);
        let hashes = cloud.identity.passwords.computed();
        cloud.call("", "POST", path, auth(password)).await.expect(201);
        assert_eq!(cloud.identity.passwords.computed() - hashes, 1, "{name}: renewed by now");
    }
    // Whoever ran this cloud before runs it still.
    cloud.admin().await;
}
