//! What every day brings: start, stop, delete, restart of the agent, reboot of the machine.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_server_starts_once_its_port_is_there() {
    let world = World::new().await;
    world.server(1, |_| {});
    // It says what it waits for, and goes on by itself.
    let word = world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Failed).await;
    let error = word.error.unwrap();
    assert_eq!((error.code.as_str(), error.retrying), ("port_not_ready", true));
    assert!(error.message.contains(PORT));
    assert_eq!(world.starts(), 0);
    world.network_and_port();
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    assert_eq!(world.power(), PowerState::Running);
    let port = world.until_word(DocumentKind::Port, PORT, 1, ReportState::Done).await;
    let facts: PortFacts = serde_json::from_value(port.facts).unwrap();
    assert!(facts.bound && world.machine.state().devices.contains(&facts.device));
    assert!(!world.machine.state().flows.is_empty());
    assert_eq!(world.machine.state().tables.servers.len(), 1);
    let host = world.until_word(DocumentKind::Host, "host", 1, ReportState::Done).await;
    let facts: HostFacts = serde_json::from_value(host.facts).unwrap();
    assert_eq!((facts.disk_gib, facts.accelerator.as_str()), (1024, "tcg"));
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_leaves_nothing_and_nothing_else_deletes() {
    let world = World::running().await;
    world.send(DocumentKind::Port, PORT, 2, 0, true, &port());
    // Its flows go at once, its device only after the guest.
    world.until("flows gone", || world.machine.state().ports.is_empty()).await;
    assert!(!world.machine.state().devices.is_empty());
    assert_eq!(world.machine.state().guests.len(), 1);
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    world.send(DocumentKind::Network, NETWORK, 2, 0, true, &json!(null));
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    world.until_word(DocumentKind::Port, PORT, 2, ReportState::Gone).await;
    world.until_word(DocumentKind::Network, NETWORK, 2, ReportState::Gone).await;
    {
        let state = world.machine.state();
        assert!(state.guests.is_empty() && state.disks.is_empty() && state.devices.is_empty());
        assert_eq!(state.flushed, [1]);
    }
    let shared = Arc::clone(&world.agent.as_ref().unwrap().shared);
    world.until("forgotten", || lock(&shared.inboxes).is_empty()).await;
    let kinds: Vec<DocumentKind> = world
        .store
        .documents()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| stored.document.kind)
        .collect();
    assert_eq!(kinds, [DocumentKind::Host]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_takes_over_and_starts_nothing_twice() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.start_agent("one").await;
    world.server(2, |spec| spec.name = "renamed".to_owned());
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (1, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_kills_nothing_and_asks() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.store = DocumentStore::in_memory().unwrap();
    world.start_agent("one").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.machine.state().guests.len(), 1);
    assert_eq!(world.store.position().await.unwrap().1, 0);
    world.send(DocumentKind::Host, "host", 1, 0, false, &host());
    world.network_and_port();
    world.server(1, |_| {});
    world.until("reported", || world.word(DocumentKind::Server, SERVER).is_some()).await;
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (1, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_of_the_machine_what_should_run_is_started_without_the_region() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.machine.state().guests.clear();
    world.machine.state().devices.clear();
    world.start_agent("one").await;
    *world.region.sender.lock().unwrap() = None;
    world.until("started again", || world.machine.state().guests.len() == 1).await;
    assert_eq!(world.machine.state().starts[1], (SERVER.to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_switches_itself_off_stays_off() {
    let mut world = World::running().await;
    world.machine.happens(SERVER, GuestChange::PoweredOff);
    world.until("reported", || world.power() == PowerState::Shutdown).await;
    assert!(world.machine.state().guests.is_empty());
    world.kill_agent().await;
    world.start_agent("one").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.starts(), 1, "also over a restart");
    world.server(2, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (2, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_guest_that_listens_and_ends_one_that_does_not() {
    let world = World::running().await;
    world.machine.state().faults.deaf_guests = true;
    let begun = tokio::time::Instant::now();
    world.server(2, |spec| spec.power = DesiredPower::Stopped);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Working).await;
    assert_eq!(world.power(), PowerState::Running);
    world.machine.happens(SERVER, GuestChange::PoweredOff);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert!(begun.elapsed() < plan::GRACE);
    assert_eq!(world.power(), PowerState::Shutdown);
    world.server(3, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 3, ReportState::Done).await;
    assert_eq!(world.power(), PowerState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_no_longer_used_is_confirmed() {
    let world = World::running().await;
    let neighbour = |port_number| NeighbourSpec {
        port_id: "n".to_owned(),
        network_id: NETWORK.to_owned(),
        host_number: 8,
        port_number,
        mac: mac(),
        ips: Vec::new(),
        allowed_address_pairs: Vec::new(),
        security_groups: Vec::new(),
        hostname: "other".to_owned(),
        dns_domain: None,
    };
    world.send(DocumentKind::Neighbour, "n", 1, 0, false, &neighbour(4));
    world.until("flows", || world.machine.state().tables.neighbours.len() == 1).await;
    world.send(DocumentKind::Neighbour, "n", 2, 0, true, &neighbour(4));
    world.send(DocumentKind::Neighbour, "n", 3, 0, false, &neighbour(5));
    world.until_word(DocumentKind::Neighbour, "n", 3, ReportState::Done).await;
    let numbers: Vec<u32> =
        world.machine.state().tables.neighbours.iter().map(|n| n.port_number).collect();
    assert_eq!(numbers, [5]);
}
