//! The audit over a real schema, on both databases. What each check finds is tested beside the
//! check; here it is that the queries hand the checks the right rows.

use database::test_support::{TestDatabase, databases};
use database::{DatabaseError, MigrationSet, Origin, params};

use crate::{Finding, Kind, Options, audit};

/// The columns that the auditor reads, of everybody's tables.
const TABLES: MigrationSet = MigrationSet {
    service: "audited",
    migrations: &[database::Migration {
        number: 1,
        name: "tables",
        sql: include_str!("tests.sql"),
    }],
};

async fn worlds() -> Vec<TestDatabase> {
    databases(&[TABLES, crate::MIGRATIONS]).await
}

async fn write(world: &TestDatabase, statements: &'static [&'static str]) {
    world
        .db
        .transact(&Origin::system("test"), move |tx| {
            Box::pin(async move {
                for sql in statements {
                    tx.execute(sql, &params![]).await?;
                }
                Ok::<_, DatabaseError>(())
            })
        })
        .await
        .unwrap();
}

async fn look(world: &TestDatabase, repair: bool) -> Vec<Finding> {
    let options =
        Options { percent: [1600, 100, 100], journal_after: 0, journal_page: 5000, repair };
    audit(&world.db, &options).await.unwrap().findings
}

fn kinds(findings: &[Finding]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = findings.iter().map(|finding| finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

const SERVER: &[&str] = &[
    "INSERT INTO hosts (id, facts) VALUES ('h1', '{\"vcpus\": 4, \"memory_mib\": 4096, \"disk_gib\": 40}')",
    "INSERT INTO servers (id, project_id, host_id, placement_epoch, vm_state, power_state,
         desired_power, fixed)
     VALUES ('s1', 'p', 'h1', 1, 'active', 1, 'running', '{\"flavor\": {\"vcpus\": 1, \"memory_mib\": 64}}')",
    "INSERT INTO allocations (server_id, host_id, epoch, vcpus, memory_mib, disk_gib)
     VALUES ('s1', 'h1', 1, 1, 64, 1)",
    "INSERT INTO compute_hosts (host_id, vcpus, memory_mib, disk_gib, servers)
     VALUES ('h1', 1, 64, 1, 1)",
    "INSERT INTO quota_usage VALUES ('p', 'instances', 1)",
    "INSERT INTO quota_usage VALUES ('p', 'cores', 1)",
    "INSERT INTO quota_usage VALUES ('p', 'ram', 64)",
    "INSERT INTO host_documents (host_id, kind, id, generation, epoch, tombstone, spec)
     VALUES ('h1', 'server', 's1', 1, 1, 0, '{\"power\": \"running\"}')",
    "INSERT INTO host_reports (host_id, kind, id, generation, state, facts, reported_at)
     VALUES ('h1', 'server', 's1', 1, 'done', '{\"power_state\": \"running\"}', 5)",
];

#[tokio::test]
async fn a_cloud_in_which_all_agrees_has_no_findings() {
    for world in worlds().await {
        assert_eq!(look(&world, false).await, []);
        write(&world, SERVER).await;
        assert_eq!(look(&world, false).await, []);
    }
}

#[tokio::test]
async fn what_disagrees_is_found_in_the_rows() {
    const FAULTS: &[(&[&str], &[Kind])] = &[
        (&["UPDATE servers SET power_state = 4"], &[Kind::Report]),
        (&["UPDATE servers SET desired_power = 'stopped'"], &[Kind::Document]),
        (&["UPDATE host_documents SET generation = 2"], &[Kind::HostBehind]),
        (&["UPDATE servers SET host_id = 'h2'"], &[Kind::Placement, Kind::Document]),
        (&["UPDATE servers SET task_state = 'rebooting'"], &[Kind::Stuck]),
        (&["UPDATE hosts SET facts = '{\"vcpus\": 4, \"memory_mib\": 8, \"disk_gib\": 40}'"],
            &[Kind::Overcommitted]),
        (&["DELETE FROM host_documents"], &[Kind::Document, Kind::Report]),
        (&["INSERT INTO workflows (id, kind, owner_kind, owner_id, status, step, due_at, deadline,
             updated_at, lease_epoch) VALUES ('w', 'k', 'server', 's1', 'waiting', 'x', 1, 1, 1, 1)"],
            &[Kind::Overdue]),
        (&["INSERT INTO workflows (id, kind, owner_kind, owner_id, status, step, due_at, deadline,
             updated_at, lease_epoch, lease_worker)
            VALUES ('w', 'k', 'server', 's2', 'succeeded', 'x', 1, 1, 9000000000000000, 2, 'b')",
           "INSERT INTO workflow_steps VALUES ('w', 'forward', 0, 2, 'a')"], &[Kind::LostLease]),
        (&["INSERT INTO ip_allocations VALUES ('n', 'k', '10.0.0.1', 'p1', 'net')"], &[Kind::Address]),
        (&["INSERT INTO released_addresses VALUES ('n', 'k', 'p1')"],
            &[Kind::Address, Kind::Orphan]),
        (&["INSERT INTO locator_numbers VALUES ('h1', 7, 'p1', 1)"], &[Kind::Number]),
        (&["INSERT INTO locator_waits VALUES ('h1', 'port', 'p1', 'h1', 7)"], &[Kind::Number]),
        (&["INSERT INTO subnets (id, network_id, project_id) VALUES ('n', 'gone', 'p')",
           "INSERT INTO quota_usage VALUES ('p', 'subnet', 1)"], &[Kind::Orphan]),
        (&["INSERT INTO networks VALUES ('net', 'p')",
           "INSERT INTO subnets VALUES ('n', 'net', 'p', 'gone')",
           "INSERT INTO quota_usage VALUES ('p', 'network', 1)",
           "INSERT INTO quota_usage VALUES ('p', 'subnet', 1)"], &[Kind::Orphan]),
        (&["INSERT INTO subnet_pools VALUES ('s', 'p', 'gone')",
           "INSERT INTO quota_usage VALUES ('p', 'subnetpool', 1)"], &[Kind::Orphan]),
        (&["INSERT INTO address_groups VALUES ('a', 'p')"], &[Kind::Quota]),
        (&["INSERT INTO rbac_policies VALUES ('r', 'p', 'network', 'gone', 1)"], &[Kind::Orphan]),
        (&["INSERT INTO ports (id, project_id, network_id, device_id, device_owner)
            VALUES ('p1', 'p', 'gone', '', '')",
           "INSERT INTO quota_usage VALUES ('p', 'port', 1)"], &[Kind::Orphan]),
        (&["INSERT INTO journal (era, transaction_id, time, request_id, kind, object_id, action)
            VALUES (1, 1, 1, 'r', 'network', 'gone', 'create')"], &[Kind::Journal]),
    ];
    for (statements, expected) in FAULTS {
        for world in worlds().await {
            write(&world, SERVER).await;
            write(&world, statements).await;
            let found = look(&world, false).await;
            assert_eq!(kinds(&found), *expected, "{statements:?}: {found:?}");
        }
    }
}

#[tokio::test]
async fn what_is_proven_wrong_is_put_right_and_nothing_else() {
    const WRONG: &[&str] = &[
        "UPDATE quota_usage SET in_use = 3 WHERE resource = 'instances'",
        "DELETE FROM quota_usage WHERE resource = 'ram'",
        "UPDATE compute_hosts SET servers = 2, vcpus = 0",
        "INSERT INTO host_reports (host_id, kind, id, generation, state, facts, reported_at)
         VALUES ('h1', 'port', 'gone', 1, 'done', 'null', 5)",
        "INSERT INTO server_tags VALUES ('gone', 'tag')",
        "UPDATE servers SET power_state = 4",
    ];
    for world in worlds().await {
        write(&world, SERVER).await;
        write(&world, WRONG).await;
        let found = kinds(&look(&world, true).await);
        assert_eq!(found, [Kind::HostSums, Kind::Quota, Kind::Report, Kind::Orphan]);
        assert_eq!(kinds(&look(&world, true).await), [Kind::Report], "the row is not touched");
    }
}
