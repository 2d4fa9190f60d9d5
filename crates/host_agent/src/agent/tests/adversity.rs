//! What goes wrong: crashes, failures, late messages, a lost switch, a restored region.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_crashes_is_started_again_until_it_is_hopeless() {
    let world = World::running().await;
    let crash = || GuestChange::Exited { detail: "signal 11".to_owned() };
    world.machine.happens(SERVER, crash());
    world.until("reported", || world.power() == PowerState::Crashed).await;
    let error = world.word(DocumentKind::Server, SERVER).unwrap().error.unwrap();
    assert!(error.message.contains("signal 11") && error.retrying);
    world.until("started again", || world.power() == PowerState::Running).await;
    for _ in 0..5 {
        world.machine.happens(SERVER, crash());
        world.until("crash seen", || world.power() == PowerState::Crashed).await;
        let hopeless = || {
            let word = world.word(DocumentKind::Server, SERVER).unwrap();
            word.error.is_some_and(|error| !error.retrying)
        };
        world.until("decided", || world.power() == PowerState::Running || hopeless()).await;
    }
    assert_eq!(world.starts(), 6, "the sixth crash in ten minutes is the last");
    world.reboot(1, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!(world.starts(), 7, "somebody asked");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_the_same_way_is_given_up_with_the_reason() {
    let world = World::new().await;
    let dead = HypervisorError::Exited("QEMU ended (exit status 1): no such CPU".to_owned());
    world.machine.state().faults.starts = vec![dead; 3].into();
    world.network_and_port();
    world.server(1, |_| {});
    world
        .until("given up", || {
            world
                .word(DocumentKind::Server, SERVER)
                .and_then(|word| word.error)
                .is_some_and(|error| !error.retrying && error.message.contains("no such CPU"))
        })
        .await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.starts(), 0);
    world.server(2, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let world = World::new().await;
    world.machine.state().faults.disks = vec![PoolError::Full("full".to_owned()); 20].into();
    world.network_and_port();
    world.server(1, |_| {});
    let word = world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Failed).await;
    assert_eq!(word.error.unwrap().code, "disk_full");
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_does_not_wait_for_a_download() {
    let world = World::new().await;
    world.machine.state().faults.images_hang = true;
    world.network_and_port();
    world.server(1, |spec| {
        spec.disks = vec![DiskSpec {
            name: "root".to_owned(),
            size_mib: 1,
            image: Some(ImageSource {
                image_id: "i".to_owned(),
                format: ImageFormat::Raw,
                size_bytes: 1,
                sha256: String::new(),
            }),
        }];
    });
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Working).await;
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    assert_eq!(world.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_comes_during_the_start_removes_what_was_started() {
    let world = World::new().await;
    world.machine.state().faults.starts_hang = true;
    world.network_and_port();
    world.server(1, |_| {});
    world.until("disks", || !world.machine.state().disks.is_empty()).await;
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.machine.release();
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    assert!(world.machine.state().guests.is_empty() && world.machine.state().disks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_done_once_and_never_after_its_undo() {
    let mut world = World::running().await;
    world.reboot(1, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!(world.starts(), 2);
    world.reboot(2, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 2, ReportState::Done).await;
    assert_eq!(world.starts(), 2, "the same answer, not the same act");
    world.reboot(3, true, OperationDirection::Undo);
    world.until_word(DocumentKind::Operation, "w/reboot", 3, ReportState::Done).await;
    world.kill_agent().await;
    world.start_agent("one").await;
    world.reboot(4, true, OperationDirection::Forward);
    let word = world.until_word(DocumentKind::Operation, "w/reboot", 4, ReportState::Failed).await;
    assert_eq!(word.error.unwrap().code, "undone");
    assert_eq!(world.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_soft_reboot_asks_and_one_of_a_stopped_server_fails() {
    let world = World::running().await;
    world.reboot(1, false, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (2, PowerState::Running));
    world.server(2, |spec| spec.power = DesiredPower::Stopped);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    let spec = OperationSpec {
        workflow: "v".to_owned(),
        step: "reboot".to_owned(),
        direction: OperationDirection::Forward,
        attempt: 1,
        worker_epoch: 1,
        action: OperationAction::Reboot { server_id: SERVER.to_owned(), hard: false },
    };
    world.send(DocumentKind::Operation, "v/reboot", 1, 0, false, &spec);
    let word = world.until_word(DocumentKind::Operation, "v/reboot", 1, ReportState::Failed).await;
    assert!(word.error.unwrap().message.contains("stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_switch_gets_everything_again() {
    let world = World::running().await;
    let flows = world.machine.state().flows.clone();
    world.machine.state().faults.switch_down = true;
    world.send(DocumentKind::Port, PORT, 2, 0, false, &port());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.state().guests.len(), 1);
    world.machine.restart_switch();
    world.until_word(DocumentKind::Port, PORT, 2, ReportState::Done).await;
    assert_eq!(world.machine.state().flows, flows);
    assert_eq!(world.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restored_region_deletes_and_changes_nothing_that_it_does_not_name() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.region.words.lock().unwrap().clear();
    world.start_agent("two").await;
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    // Unknown, so a guest that ends is left as it is.
    world.machine.happens(SERVER, GuestChange::Exited { detail: "gone".to_owned() });
    world.until("reported", || world.power() == PowerState::Crashed).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.starts(), 1);
    assert!(!world.machine.state().disks.is_empty());
    world.server(2, |_| {});
    world.until("named again", || world.power() == PowerState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_down_ends_its_guests_and_brings_them_back() {
    let mut world = World::running().await;
    let word = world.word(DocumentKind::Server, SERVER);
    world.agent.as_ref().unwrap().end_guests().await;
    assert!(world.machine.state().guests.is_empty());
    world.kill_agent().await;
    assert_eq!(world.word(DocumentKind::Server, SERVER), word, "nothing is said of it");
    world.start_agent("one").await;
    world.until("back", || world.machine.state().guests.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_console_is_read_by_query() {
    let world = World::running().await;
    for server in [SERVER, "not-here"] {
        let query = HostQuery::ConsoleLog { server_id: server.to_owned(), lines: None };
        let frame = Frame::Query { id: "q".to_owned(), query };
        world.region.sender.lock().unwrap().as_ref().unwrap().send(frame).unwrap();
    }
    world.until("answers", || world.region.answers.lock().unwrap().len() == 2).await;
    let answers = world.region.answers.lock().unwrap().clone();
    assert!(answers.contains(&HostAnswer::ConsoleLog { output: format!("console of {SERVER}\n") }));
    assert!(
        answers.iter().any(|answer| matches!(answer, HostAnswer::Failed { not_found: true, .. }))
    );
}
