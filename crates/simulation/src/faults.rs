//! What goes wrong, and when: a seeded schedule of troubles, each of which passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host_agent::hypervisor::{GuestChange, HypervisorError};
use host_agent::pool::PoolError;

use crate::host::{self, SimulatedHost};
use crate::network::Dice;
use crate::replica;
use crate::world::Region;

/// Makes trouble.
pub struct Troubles {
    region: Region,
    hosts: Arc<Vec<Arc<SimulatedHost>>>,
    dice: Dice,
    /// What this seed has more of than of others: two troubles that must meet, meet sooner.
    favourite: usize,
}

/// Kinds of trouble, each as many times as it is frequent.
const KINDS: usize = 26;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

impl Troubles {
    /// Troubles for this region and these hosts.
    pub fn new(region: Region, hosts: Arc<Vec<Arc<SimulatedHost>>>, dice: Dice) -> Troubles {
        let favourite = dice.below(KINDS);
        Troubles { region, hosts, dice, favourite }
    }

    /// Makes one trouble after the other until it is enough; `mean` is the time between them.
    pub async fn run(self: Arc<Self>, mean: Duration) {
        loop {
            tokio::time::sleep(self.dice.around(mean)).await;
            if self.region.is_quiet() {
                return;
            }
            let me = self.clone();
            tokio::spawn(async move { me.one().await });
        }
    }

    async fn one(&self) {
        let Some(host) = self.dice.pick(&self.hosts).cloned() else { return };
        let number = self.dice.below(self.region.count());
        let kind = if self.dice.chance(250) { self.favourite } else { self.dice.below(KINDS) };
        match kind {
            0..=4 => self.crash_agent(&host).await,
            5..=7 => self.crash_replica(number).await,
            8..=9 => self.cut_host(&host).await,
            10..=11 => self.cut_replica(number).await,
            12 => self.stall(number).await,
            13..=14 => self.slow_disk(&host).await,
            15 => self.skew(number).await,
            16..=18 => self.guest(&host),
            19..=21 => self.starts_fail(&host).await,
            22 => self.disk_full(&host).await,
            23 => self.switch(&host).await,
            24 => self.queries_lost(&host).await,
            _ => self.restore().await,
        }
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.region.trace.say(format_args!("trouble: {what}"));
    }

    async fn crash_agent(&self, host: &Arc<SimulatedHost>) {
        if !host.is_up() {
            return;
        }
        self.say(format_args!("the agent of {} is killed", host.name));
        host.crash();
        tokio::time::sleep(self.dice.up_to(seconds(90))).await;
        if !host.is_up() {
            self.say(format_args!("the agent of {} starts", host.name));
            host.start();
        }
    }

    async fn crash_replica(&self, number: usize) {
        if !self.region.crash(number) {
            return;
        }
        self.say(format_args!("replica {number} is killed"));
        tokio::time::sleep(self.dice.up_to(seconds(60))).await;
        self.region.restart(number).await;
    }

    async fn cut_host(&self, host: &Arc<SimulatedHost>) {
        self.say(format_args!("{} is cut off", host.name));
        for number in 0..self.region.count() {
            self.region.partitions.cut(&host.name, &format!("replica-{number}"));
        }
        tokio::time::sleep(self.dice.up_to(seconds(120))).await;
        for number in 0..self.region.count() {
            self.region.partitions.heal(&host.name, &format!("replica-{number}"));
        }
        self.say(format_args!("{} is reached again", host.name));
    }

    async fn cut_replica(&self, number: usize) {
        let name = format!("replica-{number}");
        let alone = self.dice.chance(500);
        self.say(format_args!(
            "{name} is cut off from {}",
            if alone { "hosts" } else { "the database" }
        ));
        if alone {
            self.hosts.iter().for_each(|host| self.region.partitions.cut(&host.name, &name));
        } else {
            self.region.partitions.cut(&name, "database");
        }
        tokio::time::sleep(self.dice.up_to(seconds(60))).await;
        self.hosts.iter().for_each(|host| self.region.partitions.heal(&host.name, &name));
        self.region.partitions.heal(&name, "database");
        self.say(format_args!("{name} is whole again"));
    }

    /// The process stands still for longer than its leases, between any two of its steps.
    async fn stall(&self, number: usize) {
        let Some(replica) = self.region.replica(number) else { return };
        if self.dice.chance(500) {
            self.say(format_args!("{} stands still", replica.name));
            replica.life.stand_still(true);
        } else {
            self.say(format_args!("to {} the database is slow", replica.name));
            replica.slowest_millis.store(90_000, Ordering::SeqCst);
        }
        tokio::time::sleep(self.dice.up_to(seconds(100))).await;
        replica.slowest_millis.store(replica::USUAL_MILLIS, Ordering::SeqCst);
        replica.life.stand_still(false);
        self.say(format_args!("{} goes on", replica.name));
    }

    async fn slow_disk(&self, host: &Arc<SimulatedHost>) {
        self.say(format_args!("the disk of {} is slow", host.name));
        host.slowest_millis.store(8_000, Ordering::SeqCst);
        tokio::time::sleep(self.dice.up_to(seconds(90))).await;
        host.slowest_millis.store(host::USUAL_MILLIS, Ordering::SeqCst);
    }

    async fn skew(&self, number: usize) {
        let Some(replica) = self.region.replica(number) else { return };
        let micros = i64::try_from(self.dice.below(3_000_000)).unwrap_or(0) - 1_500_000;
        self.say(format_args!("the clock of {} is wrong by {micros} microseconds", replica.name));
        replica.clock.skew(micros);
        tokio::time::sleep(self.dice.up_to(seconds(600))).await;
        replica.clock.skew(0);
    }

    fn guest(&self, host: &Arc<SimulatedHost>) {
        let guests: Vec<String> = host.machine.state().guests.keys().cloned().collect();
        let Some(server) = self.dice.pick(&guests) else { return };
        let crashes = self.dice.chance(500);
        self.say(format_args!(
            "the guest of {server} on {} {}",
            host.name,
            if crashes { "crashes" } else { "powers itself off" }
        ));
        let what = match crashes {
            true => GuestChange::Exited { detail: "killed by a trouble".to_owned() },
            false => GuestChange::PoweredOff,
        };
        host.machine.happens(server, what);
    }

    async fn starts_fail(&self, host: &Arc<SimulatedHost>) {
        let long = self.dice.chance(500);
        self.say(format_args!(
            "starts fail on {}{}",
            host.name,
            if long { ", for long" } else { "" }
        ));
        let error = || HypervisorError::Exited("no memory, says a trouble".to_owned());
        let times = if long { 500 } else { 1 + self.dice.below(4) };
        host.machine.state().faults.starts.extend((0..times).map(|_| error()));
        let most = if long { 240 } else { 60 };
        tokio::time::sleep(self.dice.up_to(seconds(most))).await;
        host.machine.state().faults.starts.clear();
    }

    async fn disk_full(&self, host: &Arc<SimulatedHost>) {
        self.say(format_args!("the disk of {} is full", host.name));
        let error = || PoolError::Full("says a trouble".to_owned());
        host.machine.state().faults.disks.extend((0..500).map(|_| error()));
        tokio::time::sleep(self.dice.up_to(seconds(150))).await;
        host.machine.state().faults.disks.clear();
    }

    async fn switch(&self, host: &Arc<SimulatedHost>) {
        self.say(format_args!("the switch of {} is down", host.name));
        host.machine.state().faults.switch_down = true;
        tokio::time::sleep(self.dice.up_to(seconds(60))).await;
        host.machine.restart_switch();
        self.say(format_args!("the switch of {} has started anew", host.name));
    }

    async fn queries_lost(&self, host: &Arc<SimulatedHost>) {
        self.say(format_args!("guests of {} are deaf", host.name));
        host.machine.state().faults.deaf_guests = true;
        tokio::time::sleep(self.dice.up_to(seconds(200))).await;
        host.machine.state().faults.deaf_guests = false;
    }

    /// The database is restored, from a backup that was made just now: nothing is lost, but hosts
    /// must notice.
    async fn restore(&self) {
        if !self.dice.chance(300) {
            return;
        }
        self.say("the database is restored, and has a new lineage");
        for number in 0..self.region.count() {
            self.region.crash(number);
        }
        if let Err(error) = self.region.common.db.renew_lineage().await {
            tracing::error!(%error, "a lineage could not be renewed");
        }
        for number in 0..self.region.count() {
            self.region.restart(number).await;
        }
    }

    /// Ends all troubles.
    pub async fn end(&self) {
        self.region.partitions.heal_all();
        for number in 0..self.region.count() {
            self.region.restart(number).await;
            if let Some(replica) = self.region.replica(number) {
                replica.clock.skew(0);
                replica.life.stand_still(false);
                replica.slowest_millis.store(replica::USUAL_MILLIS, Ordering::SeqCst);
            }
        }
        for host in self.hosts.iter() {
            {
                let mut state = host.machine.state();
                state.faults.starts.clear();
                state.faults.disks.clear();
                state.faults.deaf_guests = false;
            }
            let down = host.machine.state().faults.switch_down;
            if down {
                host.machine.restart_switch();
            }
            host.slowest_millis.store(host::USUAL_MILLIS, Ordering::SeqCst);
            if !host.is_up() {
                host.start();
            }
        }
    }
}
