//! The machine's edges with kill points around every act, so that a test can end the agent's
//! process before and after each: `agent.ACT.before`, `agent.ACT.after`. Not used unless a test
//! looks; see the crate `kill_points`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use host_protocol::ImageSource;
use kill_points::point;
use tokio::sync::{broadcast, mpsc};

use super::shared::Edges;
use crate::BoxFuture;
use crate::edges::{LinkError, Links, NamespacePort, ResponderTables, Responders};
use crate::hypervisor::{
    Ending, GuestEvent, GuestSeen, Hypervisor, HypervisorError, HypervisorFacts, StartRequest,
    Started,
};
use crate::image_cache::{Cached, ImageError, Images};
use crate::pool::{DiskFile, DiskRequest, Pool, PoolError, PoolServer, PoolSpace};
use crate::switch::{
    Applied, Switch, SwitchError, SwitchEvent, SwitchPort, SwitchReady, SwitchSetup, TableRead,
    Verified,
};

/// The same edges, with points around what changes the machine.
pub(super) fn killable(edges: Edges) -> Edges {
    if !kill_points::watched() {
        return edges;
    }
    wrapped(Killable(edges, None))
}

/// What happens around each act of an agent upon its machine, in a simulation: it takes time, or the
/// agent dies there, which is never to return.
#[cfg(any(test, feature = "simulated"))]
pub trait Interlude: Send + Sync {
    /// Before and after the act of this name.
    fn pause(&self, act: &'static str) -> BoxFuture<'_, ()>;
}

#[cfg(not(any(test, feature = "simulated")))]
trait Interlude: Send + Sync {
    fn pause(&self, act: &'static str) -> BoxFuture<'_, ()>;
}

/// The same edges, with an interlude around what changes the machine.
#[cfg(any(test, feature = "simulated"))]
pub fn interposed(edges: Edges, interlude: Arc<dyn Interlude>) -> Edges {
    wrapped(Killable(edges, Some(interlude)))
}

fn wrapped(killable: Killable) -> Edges {
    let killable = Arc::new(killable);
    Edges {
        hypervisor: killable.clone(),
        switch: killable.clone(),
        pool: killable.clone(),
        links: killable.clone(),
        responders: killable.clone(),
        images: killable,
    }
}

struct Killable(Edges, Option<Arc<dyn Interlude>>);

impl Killable {
    fn around<'a, T: Send + 'a>(
        &'a self,
        act: &'static str,
        future: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move {
            point(format_args!("agent.{act}.before"));
            if let Some(interlude) = &self.1 {
                interlude.pause(act).await;
            }
            let result = future.await;
            if let Some(interlude) = &self.1 {
                interlude.pause(act).await;
            }
            point(format_args!("agent.{act}.after"));
            result
        })
    }
}

impl Hypervisor for Killable {
    fn describe(&self) -> BoxFuture<'_, Result<HypervisorFacts, HypervisorError>> {
        self.0.hypervisor.describe()
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<GuestSeen>, HypervisorError>> {
        self.0.hypervisor.adopt()
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, HypervisorError>> {
        self.around("start", async move { self.0.hypervisor.start(request).await })
    }

    fn power_button<'a>(
        &'a self,
        server_id: &'a str,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.around("power_button", async move { self.0.hypervisor.power_button(server_id).await })
    }

    fn resume<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.around("resume", async move { self.0.hypervisor.resume(server_id).await })
    }

    fn end<'a>(
        &'a self,
        server_id: &'a str,
        ending: Ending,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.around("end", async move { self.0.hypervisor.end(server_id, ending).await })
    }

    fn console_log<'a>(
        &'a self,
        server_id: &'a str,
        lines: Option<u32>,
    ) -> BoxFuture<'a, Result<String, HypervisorError>> {
        self.0.hypervisor.console_log(server_id, lines)
    }

    fn events(&self) -> Option<mpsc::UnboundedReceiver<GuestEvent>> {
        self.0.hypervisor.events()
    }
}

impl Pool for Killable {
    fn space(&self) -> BoxFuture<'_, Result<PoolSpace, PoolError>> {
        self.0.pool.space()
    }

    fn ensure_disks(
        &self,
        request: DiskRequest,
    ) -> BoxFuture<'_, Result<Vec<DiskFile>, PoolError>> {
        self.around("ensure_disks", async move { self.0.pool.ensure_disks(request).await })
    }

    fn write_config_drive<'a>(
        &'a self,
        server_id: &'a str,
        uid: u32,
        image: Vec<u8>,
    ) -> BoxFuture<'a, Result<PathBuf, PoolError>> {
        self.around("write_config_drive", async move {
            self.0.pool.write_config_drive(server_id, uid, image).await
        })
    }

    fn remove<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), PoolError>> {
        self.around("remove_disks", async move { self.0.pool.remove(server_id).await })
    }

    fn servers(&self) -> BoxFuture<'_, Result<Vec<PoolServer>, PoolError>> {
        self.0.pool.servers()
    }

    fn images_in_use(&self) -> BoxFuture<'_, Result<Vec<(String, String)>, PoolError>> {
        self.0.pool.images_in_use()
    }
}

impl Links for Killable {
    fn ensure_tap<'a>(&'a self, device: &'a str, mtu: u16) -> BoxFuture<'a, Result<(), LinkError>> {
        self.around("ensure_tap", async move { self.0.links.ensure_tap(device, mtu).await })
    }

    fn open_tap<'a>(
        &'a self,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<OwnedFd>, LinkError>> {
        self.around("open_tap", async move { self.0.links.open_tap(device).await })
    }

    fn ensure_namespace_port<'a>(
        &'a self,
        device: &'a str,
        port: &'a NamespacePort,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        self.around("ensure_namespace_port", async move {
            self.0.links.ensure_namespace_port(device, port).await
        })
    }

    fn remove<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        self.around("remove_device", async move { self.0.links.remove(device).await })
    }

    fn ensure_responder_link(&self) -> BoxFuture<'_, Result<String, LinkError>> {
        self.0.links.ensure_responder_link()
    }
}

impl Switch for Killable {
    fn ensure_ready<'a>(
        &'a self,
        setup: &'a SwitchSetup,
    ) -> BoxFuture<'a, Result<SwitchReady, SwitchError>> {
        self.0.switch.ensure_ready(setup)
    }

    fn set_ports<'a>(
        &'a self,
        ports: &'a [SwitchPort],
    ) -> BoxFuture<'a, Result<BTreeMap<String, u32>, SwitchError>> {
        self.around("set_ports", async move { self.0.switch.set_ports(ports).await })
    }

    fn apply(&self, flows: Vec<openflow::Flow>) -> BoxFuture<'_, Result<Applied, SwitchError>> {
        self.around("apply_flows", async move { self.0.switch.apply(flows).await })
    }

    fn verify(&self) -> BoxFuture<'_, Result<Verified, SwitchError>> {
        self.0.switch.verify()
    }

    fn read(&self) -> BoxFuture<'_, Result<TableRead, SwitchError>> {
        self.0.switch.read()
    }

    fn announce(
        &self,
        ofport: u32,
        frames: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), SwitchError>> {
        self.0.switch.announce(ofport, frames)
    }

    fn flush_zone(&self, zone: u16) -> BoxFuture<'_, Result<(), SwitchError>> {
        self.around("flush_zone", async move { self.0.switch.flush_zone(zone).await })
    }

    fn events(&self) -> broadcast::Receiver<SwitchEvent> {
        self.0.switch.events()
    }
}

impl Responders for Killable {
    fn update(&self, tables: ResponderTables) {
        point(format_args!("agent.responders.before"));
        self.0.responders.update(tables);
        point(format_args!("agent.responders.after"));
    }
}

impl Images for Killable {
    fn has(&self, source: &ImageSource) -> bool {
        self.0.images.has(source)
    }

    fn get<'a>(&'a self, source: &'a ImageSource) -> BoxFuture<'a, Result<Cached, ImageError>> {
        self.around("get_image", async move { self.0.images.get(source).await })
    }

    fn evict(&self, in_use: Vec<(String, String)>) -> BoxFuture<'_, Result<usize, ImageError>> {
        self.0.images.evict(in_use)
    }
}
