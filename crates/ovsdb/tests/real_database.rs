//! The client against a real ovsdb-server and ovs-vswitchd.

mod support;

use std::time::{Duration, Instant};

use ovsdb::vswitch::DATABASE;
use ovsdb::{
    BridgeSpec, Condition, Connection, MonitorTable, Mutation, Mutator, Operation, Options, OvsDb,
    OvsdbError, PortSpec, PortStatus, Row, RowUpdate,
};
use support::{PATIENCE, TestSwitch};

fn bridge() -> BridgeSpec {
    BridgeSpec { name: "br0".into(), userspace: true }
}

async fn database(switch: &TestSwitch) -> OvsDb {
    OvsDb::connect(&switch.database_socket(), Options::default()).await.unwrap()
}

fn named<'a>(ports: &'a [PortStatus], name: &str) -> &'a PortStatus {
    ports.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("{name} not in {ports:?}"))
}

#[tokio::test]
async fn transactions_are_all_or_nothing_and_monitors_see_them() {
    let Some(switch) = TestSwitch::start() else { return };
    let connection =
        Connection::connect(&switch.database_socket(), Options::default()).await.unwrap();
    assert!(connection.databases().await.unwrap().contains(&DATABASE.to_owned()));
    let schema = connection.schema(DATABASE).await.unwrap();
    assert!(schema["tables"]["Interface"]["columns"]["ofport"].is_object());
    assert!(matches!(connection.schema("nonesuch").await, Err(OvsdbError::Rpc(_))));

    // Open_vSwitch is a root table, and so is SSL only by reference: a row of the former stays.
    let tables = [MonitorTable::new(DATABASE, &["next_cfg", "external_ids"])];
    let mut monitor = connection.monitor(DATABASE, &tables).await.unwrap();
    let existing = monitor.initial().values().map(|rows| rows.len()).sum::<usize>();
    let root = if existing == 0 {
        let row = Row::default().with("next_cfg", 5);
        let results = connection
            .transact(
                DATABASE,
                vec![Operation::comment("begin"), Operation::insert(DATABASE, None, row)],
            )
            .await
            .unwrap();
        let root = results[1].inserted().unwrap();
        let update = monitor.next().await.unwrap();
        let RowUpdate::Present(row) = &update[DATABASE][&root] else { panic!("{update:?}") };
        assert_eq!(row.integer("next_cfg"), Some(5));
        root
    } else {
        *monitor.initial()[DATABASE].keys().next().unwrap()
    };

    let here = [Condition::row(root)];
    let add = || Operation::mutate(DATABASE, &here, &[Mutation::new("next_cfg", Mutator::Add, 10)]);
    let results = connection
        .transact(
            DATABASE,
            vec![
                Operation::update(DATABASE, &here, Row::default().with("next_cfg", 1)),
                add(),
                Operation::select(DATABASE, &here, &["next_cfg"]),
            ],
        )
        .await
        .unwrap();
    assert_eq!((results[0].count(), results[1].count()), (1, 1));
    assert_eq!(results[2].rows()[0].integer("next_cfg"), Some(11));

    // A compare that fails takes everything else back.
    let expect = |n| {
        let rows = vec![Row::default().with("next_cfg", n)];
        Operation::expect(DATABASE, &here, &["next_cfg"], rows)
    };
    let error = connection.transact(DATABASE, vec![add(), expect(11)]).await.unwrap_err();
    assert!(matches!(error, OvsdbError::Transaction { index: 1, .. }), "{error}");
    let error = connection.transact(DATABASE, vec![add(), Operation::abort()]).await.unwrap_err();
    assert!(error.to_string().contains("aborted"), "{error}");
    connection.transact(DATABASE, vec![expect(11), add()]).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let update =
            tokio::time::timeout_at(deadline.into(), monitor.next()).await.unwrap().unwrap();
        let RowUpdate::Present(row) = &update[DATABASE][&root] else { continue };
        if row.integer("next_cfg") == Some(21) {
            break;
        }
    }
}

#[tokio::test]
async fn ports_get_their_numbers_and_only_what_is_asked_changes() {
    let Some(switch) = TestSwitch::start() else { return };
    let database = database(&switch).await;
    database.set_system_id("host-1").await.unwrap();
    database.ensure_bridge(&bridge()).await.unwrap();
    assert!(switch.management_socket("br0").exists(), "the switch has made the bridge");

    switch.run("ip", &["link", "add", "va", "type", "veth", "peer", "name", "vb"]);
    let wanted = [
        PortSpec { ofport_request: Some(40), ..PortSpec::system("va") }.note("iface-id", "port-1"),
        PortSpec::internal("inner"),
        PortSpec::vxlan("tunnel"),
        PortSpec::system("missing").note("iface-id", "port-2"),
    ];
    let ports = database.set_ports("br0", &wanted, &[]).await.unwrap();
    assert_eq!(
        ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["va", "inner", "tunnel", "missing"]
    );
    assert_eq!(ports[0].ofport, Some(40));
    assert_eq!(ports[0].external_ids["iface-id"], "port-1");
    assert!(ports[1].ofport.is_some() && ports[2].ofport.is_some(), "{ports:?}");
    assert_eq!(ports[3].ofport, None);
    assert!(ports[3].error.as_deref().is_some_and(|e| e.contains("missing")), "{ports:?}");

    // The device comes later: asked again, the switch takes it.
    switch.run("ip", &["tuntap", "add", "missing", "mode", "tap"]);
    let ports = database.set_ports("br0", &wanted, &[]).await.unwrap();
    assert!(ports[3].ofport.is_some() && ports[3].error.is_none(), "{ports:?}");
    assert_eq!(ports[0].ofport, Some(40), "the others keep their numbers");

    // A port that somebody else added stays, and so do others' notes.
    let remote = format!("--db=unix:{}", switch.database_socket().display());
    switch.run(
        "ovs-vsctl",
        &[
            &remote,
            "-t",
            "60",
            "add-port",
            "br0",
            "foreign",
            "--",
            "set",
            "interface",
            "foreign",
            "type=internal",
        ],
    );
    switch.run("ovs-vsctl", &[&remote, "-t", "60", "set", "port", "va", "external_ids:theirs=1"]);
    // What others do reaches us a moment later.
    let mut changes = database.changes();
    while !changes.ports("br0").iter().any(|p| p.external_ids.contains_key("theirs")) {
        assert!(changes.next().await);
    }
    let wanted =
        [PortSpec { ofport_request: Some(40), ..PortSpec::system("va") }
            .note("iface-id", "port-9")];
    let remove = ["inner".to_owned(), "missing".to_owned(), "nonesuch".to_owned()];
    let ports = database.set_ports("br0", &wanted, &remove).await.unwrap();
    assert_eq!(
        (ports[0].external_ids["iface-id"].as_str(), ports[0].external_ids["theirs"].as_str()),
        ("port-9", "1")
    );
    let all = database.ports("br0");
    assert_eq!(
        all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["br0", "foreign", "tunnel", "va"]
    );
    assert_eq!(named(&all, "tunnel").options["remote_ip"], "flow");

    // Nothing to do is no transaction.
    let before = switch.run("ovs-vsctl", &[&remote, "get", "open_vswitch", ".", "next_cfg"]);
    database.set_ports("br0", &wanted, &remove).await.unwrap();
    database.ensure_bridge(&bridge()).await.unwrap();
    assert_eq!(switch.run("ovs-vsctl", &[&remote, "get", "open_vswitch", ".", "next_cfg"]), before);

    // A bridge that somebody bent is straightened.
    switch.run(
        "ovs-vsctl",
        &[
            &remote,
            "-t",
            "60",
            "set",
            "bridge",
            "br0",
            "fail_mode=standalone",
            "other_config:mine=1",
        ],
    );
    let deadline = Instant::now() + PATIENCE;
    while switch.run("ovs-vsctl", &[&remote, "get-fail-mode", "br0"]).trim() != "secure" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
        database.ensure_bridge(&bridge()).await.unwrap();
    }
    assert!(
        switch
            .run("ovs-vsctl", &[&remote, "get", "bridge", "br0", "other_config"])
            .contains("mine")
    );

    assert!(matches!(database.set_ports("br9", &wanted, &[]).await, Err(OvsdbError::Missing(_))));
    database.remove_bridge("br0").await.unwrap();
    assert!(!database.has_bridge("br0") && database.ports("br0").is_empty());
    assert_eq!(database.system_id().as_deref(), Some("host-1"));
}

#[tokio::test]
async fn many_ports_are_one_transaction() {
    let Some(switch) = TestSwitch::start() else { return };
    let database = database(&switch).await;
    database.ensure_bridge(&bridge()).await.unwrap();
    let wanted: Vec<PortSpec> =
        (0..50).map(|n| PortSpec::vxlan(&format!("t{n}")).note("n", &n.to_string())).collect();
    // Fifty tunnels of one key and address cannot all be set up: each says so for itself.
    let begin = Instant::now();
    let ports = database.set_ports("br0", &wanted, &[]).await.unwrap();
    println!("50 ports in {:?}", begin.elapsed());
    assert_eq!(ports.len(), 50);
    assert!(ports.iter().all(|p| p.ofport.is_some() != p.error.is_some()), "{ports:?}");
    assert!(ports.iter().any(|p| p.ofport.is_some()));
}

#[tokio::test]
async fn the_end_of_the_server_is_noticed_and_what_was_committed_is_kept() {
    let Some(switch) = TestSwitch::start() else { return };
    let first = database(&switch).await;
    first.ensure_bridge(&bridge()).await.unwrap();
    let mut changes = first.changes();
    first.set_ports("br0", &[PortSpec::internal("a")], &[]).await.unwrap();
    assert!(changes.next().await);
    assert_eq!(changes.ports("br0").len(), 2);

    switch.stop_database();
    tokio::time::timeout(PATIENCE, first.closed()).await.unwrap();
    let error =
        first.ensure_bridge(&BridgeSpec { name: "br1".into(), userspace: true }).await.unwrap_err();
    assert!(error.is_disconnected(), "{error}");
    let ended = async { while changes.next().await {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let error = OvsDb::connect(&switch.database_socket(), Options::default()).await.unwrap_err();
    assert!(error.is_disconnected() && error.to_string().contains("ovsdb-server"), "{error}");

    switch.start_database();
    let second = database(&switch).await;
    assert_eq!(named(&second.ports("br0"), "a").kind, "internal");
    // ovs-vswitchd comes back to the new server by itself.
    second.set_ports("br0", &[PortSpec::internal("b")], &[]).await.unwrap();
    assert!(named(&second.ports("br0"), "b").ofport.is_some());
}

#[tokio::test]
async fn a_switch_that_is_gone_is_told_from_a_database_that_is_gone() {
    let Some(switch) = TestSwitch::start() else { return };
    let database = database(&switch).await;
    database.ensure_bridge(&bridge()).await.unwrap();
    switch.kill_vswitchd();
    let wanted = [PortSpec::internal("late")];
    let change = database.set_ports("br0", &wanted, &[]);
    // Not applied while the switch is away, and applied when it comes.
    let started = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        switch.start_vswitchd();
    };
    let (ports, ()) = tokio::join!(change, started);
    assert!(ports.unwrap()[0].ofport.is_some());
}
