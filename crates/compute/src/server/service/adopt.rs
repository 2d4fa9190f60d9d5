//! Servers after the database was restored: what a host has wins over what rows say, because it is
//! newer; what no host has is in error, and its owner decides.

use cloud_types::{Fault, HostId, ServerId, UserId};
use database::Tx;
use host_documents::{Host, documents};
use host_protocol::{
    DesiredPower, DiskSpec, Document, DocumentKind, PowerState, ServerFacts, ServerSpec,
};
use service_kit::quota;

use super::super::model::{
    DiskConfig, Fixed, FlavorSnapshot, HostRef, ImageSnapshot, KeySnapshot, Nic, Payload, Power,
    Server, ServerFault, State, VmState,
};
use super::super::store;
use super::create::quota_of;
use crate::Compute;
use crate::host::store::{self as hosts, Allocation};
use crate::scheduler::Resources;

const MIB_OF_GIB: u64 = 1024;

/// A server as a host has it.
#[derive(Clone, Debug)]
pub struct HeldServer {
    /// The document that the host follows.
    pub document: Document,
    /// What the host last saw of it.
    pub facts: serde_json::Value,
}

impl Compute {
    /// Takes a server as a host has it: makes its row, or brings the row to what the host says,
    /// and takes over the document in the host's version, so that nothing changes there. What was
    /// under way for it before the restore is over. Its ports come first.
    ///
    /// # Errors
    /// 400 for a description that is no server's, 403 when its project's quota has no room for it.
    pub async fn adopt(tx: &mut Tx, host: &Host, held: &HeldServer) -> Result<(), Fault> {
        let unreadable = || {
            Fault::bad_request(format!(
                "Server {} of host {} cannot be read.",
                held.document.id, host.name
            ))
        };
        let spec: ServerSpec = held.document.read().map_err(|_| unreadable())?;
        let id: ServerId = spec.server_id.parse().map_err(|_| unreadable())?;
        let known = store::get_locked(tx, id).await?;
        workflow_engine::abandon(tx, store::KIND, &id.to_string()).await?;
        let user = match &known {
            Some(known) => known.user.clone(),
            None => someone_of(tx, &spec).await?,
        };
        let mut server = from_host(tx, host, held, &spec, user).ok_or_else(unreadable)?;
        let live = known.as_ref().is_some_and(|known| known.deleted_at.is_none());
        if !live {
            quota::check_and_add_all(tx, &server.project, &quota_of(&server.fixed.flavor)).await?;
        }
        match &known {
            None => {
                let payload = Payload {
                    user_data: spec.metadata.user_data.clone(),
                    personality: spec.metadata.personality.clone(),
                };
                store::insert(tx, &mut server, &payload, &Default::default()).await?;
            }
            Some(before) => {
                let mut after = before.clone();
                after.name.clone_from(&server.name);
                after.hostname.clone_from(&server.hostname);
                after.state = server.state;
                after.power = server.power;
                after.desired = server.desired;
                after.progress = 100;
                after.host = server.host.clone();
                after.epoch = server.epoch;
                after.zone.clone_from(&server.zone);
                after.metadata.clone_from(&server.metadata);
                after.fault = None;
                after.launched_at = before.launched_at.or(server.launched_at);
                after.terminated_at = None;
                after.deleted_at = None;
                if before.fixed.nics != server.fixed.nics {
                    after.fixed.nics.clone_from(&server.fixed.nics);
                    store::set_fixed(tx, id, &after.fixed).await?;
                }
                store::save(tx, before, &mut after).await?;
            }
        }
        claim(tx, &id, host.id, &server).await?;
        for holder in documents::holders(tx, DocumentKind::Server, &held.document.id).await? {
            if holder != host.id {
                documents::remove(tx, &holder, DocumentKind::Server, &held.document.id).await?;
            }
        }
        documents::adopt(tx, &host.id, &held.document).await?;
        Ok(())
    }

    /// Every server that is not deleted, with its name and its host.
    ///
    /// # Errors
    /// The database's.
    pub async fn placements(tx: &mut Tx) -> Result<Vec<(ServerId, String, Option<HostId>)>, Fault> {
        Ok(store::placements(tx).await?)
    }

    /// A server that rows speak of, and that its host, or every host, has been heard not to have:
    /// it is in error. Its ports and addresses stay its own until its owner deletes it.
    ///
    /// # Errors
    /// The database's.
    pub async fn adopt_missing(tx: &mut Tx, id: ServerId) -> Result<(), Fault> {
        let Some(before) = store::get_locked(tx, id).await? else { return Ok(()) };
        workflow_engine::abandon(tx, store::KIND, &id.to_string()).await?;
        let mut after = before.clone();
        after.state = State::settled(VmState::Error);
        after.power = Power::NoState;
        after.desired = DesiredPower::Stopped;
        after.fault = Some(ServerFault {
            code: 500,
            message: "The cloud's database was restored from a backup in which this server still \
                      was; no host has it any more. Delete it."
                .to_owned(),
            details: None,
            created: tx.now(),
        });
        store::save(tx, &before, &mut after).await?;
        if let Some(host) = &before.host {
            documents::remove(tx, &host.id, DocumentKind::Server, &id.to_string()).await?;
        }
        Ok(())
    }
}

/// Hosts do not know who made a server: somebody who made one in the project stands for it, or a
/// name that says how it came.
async fn someone_of(tx: &mut Tx, spec: &ServerSpec) -> Result<UserId, Fault> {
    match store::user_of_project(tx, &spec.project_id).await? {
        Some(user) => Ok(user),
        None => "adopted".parse().map_err(|_| Fault::internal("A user's id cannot be made.")),
    }
}

async fn claim(tx: &mut Tx, id: &ServerId, host: HostId, server: &Server) -> Result<(), Fault> {
    hosts::release(tx, id).await?;
    let most = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
    // It runs there already, whatever the host has room for.
    let allowed = Resources { vcpus: most, memory_mib: most, disk_gib: most };
    let claim = Allocation { host, epoch: server.epoch, resources: server.fixed.resources() };
    hosts::claim(tx, id, &claim, allowed).await?;
    Ok(())
}

/// The record that gives the host's document.
fn from_host(
    tx: &Tx,
    host: &Host,
    held: &HeldServer,
    spec: &ServerSpec,
    user: UserId,
) -> Option<Server> {
    let disk = |name: &str| spec.disks.iter().find(|disk| disk.name == name);
    let size = |disk: Option<&DiskSpec>| disk.map_or(0, |disk| disk.size_mib);
    let image = match disk("root").and_then(|root| root.image.as_ref()) {
        None => None,
        Some(image) => Some(ImageSnapshot {
            id: image.image_id.parse().ok()?,
            format: image.format,
            size_bytes: image.size_bytes,
            sha256: image.sha256.clone(),
            virtual_size: None,
            architecture: None,
        }),
    };
    let nics = spec
        .nics
        .iter()
        .map(|nic| Some(Nic { port_id: nic.port_id.parse().ok()?, mac: nic.mac, mtu: nic.mtu }))
        .collect::<Option<Vec<Nic>>>()?;
    let key = spec.metadata.public_keys.first().map(|(name, public_key)| KeySnapshot {
        name: name.clone(),
        public_key: public_key.clone(),
    });
    let facts: Option<ServerFacts> = serde_json::from_value(held.facts.clone()).ok();
    let power = facts.map_or(PowerState::Shutdown, |facts| facts.power_state);
    let vm = match spec.power {
        DesiredPower::Running => VmState::Active,
        DesiredPower::Stopped => VmState::Stopped,
    };
    let created_at = cloud_types::Timestamp(spec.metadata.created_at);
    Some(Server {
        id: spec.server_id.parse().ok()?,
        project: spec.project_id.parse().ok()?,
        user,
        name: spec.name.clone(),
        hostname: spec.metadata.hostname.clone(),
        description: None,
        state: State::settled(vm),
        power: power.into(),
        desired: spec.power,
        progress: 100,
        host: Some(HostRef { id: host.id, name: host.name.clone() }),
        epoch: held.document.epoch,
        zone: spec.metadata.availability_zone.clone(),
        requested_zone: None,
        reservation_id: format!("r-{}", &held.document.id.get(..8)?),
        launch_index: spec.metadata.launch_index,
        locked_by: None,
        locked_reason: None,
        access_ipv4: None,
        access_ipv6: None,
        disk_config: DiskConfig::default(),
        config_drive: spec.config_drive,
        metadata: spec.metadata.meta.clone(),
        security_groups: spec.metadata.security_groups.clone(),
        fixed: Fixed {
            flavor: FlavorSnapshot {
                id: spec.metadata.flavor.clone(),
                name: spec.metadata.flavor.clone(),
                vcpus: spec.vcpus,
                memory_mib: spec.memory_mib,
                disk_gib: size(disk("root")) / MIB_OF_GIB,
                ephemeral_gib: size(disk("ephemeral0")) / MIB_OF_GIB,
                swap_mib: size(disk("swap")),
                extra_specs: Default::default(),
            },
            image,
            key,
            nics,
            ..Fixed::default()
        },
        fault: None,
        created_at,
        updated_at: tx.now(),
        launched_at: Some(created_at),
        terminated_at: None,
        deleted_at: None,
        generation: 0,
    })
}
