//! Accepting servers: one transaction from the request to the workflow.

use std::collections::BTreeSet;

use cloud_types::{Fault, FaultKind, ServerId};
use database::Tx;
use host_documents::hosts;
use host_protocol::{DesiredPower, ImageFormat};
use network::{NicRequest, ServerOwner};
use service_kit::quota::{self, UNLIMITED};
use service_kit::{Ctx, Target};
use storage::image::{BootImage, DiskFormat, ImageStatus, Images};
use workflow_engine::Start;

use super::super::model::{
    CreateRequest, Fixed, FlavorSnapshot, ImageFacts, ImageSnapshot, KeySnapshot, Networks, Nic,
    Power, Server, State, check_image, hostname_of,
};
use super::super::reconcile::random_uuid;
use super::super::store;
use super::super::workflow::{CreateState, ServerCreate};
use crate::Compute;
use crate::flavor;
use crate::keypair;
use crate::quota::model::MAX_METADATA;

/// What a request for servers came to.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The first server.
    pub server: Server,
    /// The id that all servers of the request share.
    pub reservation_id: String,
}

/// What the servers of a request have in common, looked up once.
struct Common {
    flavor: FlavorSnapshot,
    image: ImageSnapshot,
    key: Option<KeySnapshot>,
    nics: Vec<NicRequest>,
    reservation_id: String,
}

impl Compute {
    /// Accepts servers: quota, ports, rows and workflows in one transaction.
    ///
    /// # Errors
    /// 400 for what does not fit together, 403 over a quota or without the right, 409 for
    /// ambiguous networks or ports in use.
    pub async fn create_servers(&self, ctx: &Ctx, wish: CreateRequest) -> Result<Accepted, Fault> {
        let project = ctx.project()?;
        let target = Target::project(&project);
        ctx.authorise("compute:servers:create", &target)?;
        if wish.host.is_some() {
            ctx.authorise("compute:servers:create:forced_host", &target)?;
        }
        if wish.metadata.len() > MAX_METADATA {
            return Err(Fault::forbidden(format!(
                "Maximum number of metadata items exceeds {MAX_METADATA}"
            )));
        }
        let (compute, caller) = (self.clone(), ctx.clone());
        self.kit()
            .transact(ctx, move |tx| {
                let (compute, ctx, wish) = (compute.clone(), caller.clone(), wish.clone());
                Box::pin(async move { compute.accept(tx, &ctx, &wish).await })
            })
            .await
    }

    async fn accept(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        wish: &CreateRequest,
    ) -> Result<Accepted, Fault> {
        let common = self.look_up(tx, ctx, wish).await?;
        let count = take_quota(tx, ctx, wish, &common.flavor).await?;
        let mut first = None;
        for index in 0..count {
            let server = self.accept_one(tx, ctx, wish, &common, index, count).await?;
            first.get_or_insert(server);
        }
        let server = first.ok_or_else(|| Fault::internal("No server was asked for."))?;
        Ok(Accepted { server, reservation_id: common.reservation_id })
    }

    async fn look_up(&self, tx: &mut Tx, ctx: &Ctx, wish: &CreateRequest) -> Result<Common, Fault> {
        let flavor = flavor::service::visible(tx, ctx, &wish.flavor)
            .await
            .map_err(|fault| as_bad_request(fault, FaultKind::NotFound))?
            .snapshot();
        let zero_disk = "compute:servers:create:zero_disk_flavor";
        if flavor.disk_gib == 0 && !ctx.may(zero_disk, &Target::none()) {
            return Err(Fault::forbidden(
                "Only volume-backed servers are allowed for flavors with zero disk.",
            ));
        }
        check_place(tx, wish).await?;
        let key = match &wish.key_name {
            Some(name) => Some(keypair::service::snapshot(tx, &ctx.user()?, name).await?),
            None => None,
        };
        let image =
            self.images().get_for_boot(tx, ctx, &wish.image).await.map_err(
                |fault| match fault.kind {
                    FaultKind::NotFound => Fault::bad_request("Can not find requested image"),
                    FaultKind::Conflict | FaultKind::Forbidden => Fault::bad_request(fault.message),
                    _ => fault,
                },
            )?;
        let image = image_facts(image)?;
        check_image(&flavor, &image)?;
        let nics = self.nics(tx, ctx, wish).await?;
        Ok(Common { flavor, image: image.snapshot, key, nics, reservation_id: reservation_id(tx) })
    }

    async fn nics(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        wish: &CreateRequest,
    ) -> Result<Vec<NicRequest>, Fault> {
        let nics = match &wish.networks {
            Networks::None => Vec::new(),
            Networks::Auto { asked } => {
                let found = self.core().network.auto_networks(tx, ctx).await?;
                if *asked && found.is_empty() {
                    return Err(Fault::bad_request(
                        "Unable to automatically allocate a network for project: it has none. \
                         Create a network with a subnet first.",
                    ));
                }
                found
            }
            Networks::Some(nics) => nics
                .iter()
                .map(|nic| NicRequest {
                    network: nic.network,
                    port: nic.port,
                    fixed_ip: nic.fixed_ip,
                    tag: nic.tag.clone(),
                })
                .collect(),
        };
        if wish.max_count > 1 {
            if nics.iter().any(|nic| nic.port.is_some()) {
                return Err(Fault::bad_request(
                    "Failed to launch multiple instances with a port: a port can be attached to \
                     one server only.",
                ));
            }
            if nics.iter().any(|nic| nic.fixed_ip.is_some()) {
                return Err(Fault::bad_request(
                    "Invalid fixed IP address request: max_count must be equal to 1 if a specific \
                     fixed IP is requested.",
                ));
            }
        }
        Ok(nics)
    }

    async fn accept_one(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        wish: &CreateRequest,
        common: &Common,
        index: u32,
        count: u32,
    ) -> Result<Server, Fault> {
        let id = ServerId::from(random_uuid(tx));
        let name =
            if count == 1 { wish.name.clone() } else { format!("{}-{}", wish.name, index + 1) };
        let hostname = wish.hostname.clone().unwrap_or_else(|| hostname_of(&name, &id.to_string()));
        let owner = ServerOwner {
            server_id: id,
            // A name in DNS is one label; a longer host name is the guest's own affair.
            hostname: hostname.split('.').next().unwrap_or_default().to_owned(),
            zone: wish.zone.clone(),
        };
        let groups = wish.security_groups.clone().unwrap_or_default();
        let ports =
            self.core().network.prepare_ports(tx, ctx, &owner, &common.nics, &groups).await?;
        let now = tx.now();
        let mut server = Server {
            id,
            project: ctx.project()?,
            user: ctx.user()?,
            name,
            hostname,
            description: wish.description.clone(),
            state: State::NEW,
            power: Power::NoState,
            desired: DesiredPower::Running,
            progress: 0,
            host: None,
            epoch: 0,
            zone: wish.zone.clone().unwrap_or_default(),
            requested_zone: wish.zone.clone(),
            reservation_id: common.reservation_id.clone(),
            launch_index: index,
            locked_by: None,
            locked_reason: None,
            access_ipv4: wish.access_ipv4,
            access_ipv6: wish.access_ipv6,
            disk_config: wish.disk_config,
            config_drive: wish.config_drive,
            metadata: wish.metadata.clone(),
            security_groups: wish
                .security_groups
                .clone()
                .unwrap_or_else(|| vec!["default".to_owned()]),
            fixed: Fixed {
                flavor: common.flavor.clone(),
                image: Some(common.image.clone()),
                key: common.key.clone(),
                nics: ports
                    .iter()
                    .map(|port| Nic { port_id: port.id, mac: port.mac, mtu: port.mtu })
                    .collect(),
                scheduler_hints: wish.scheduler_hints.clone(),
                forced_host: wish.host.clone(),
                trusted_certificates: None,
            },
            fault: None,
            created_at: now,
            updated_at: now,
            launched_at: None,
            terminated_at: None,
            deleted_at: None,
            generation: 0,
        };
        store::insert(tx, &mut server, &wish.payload, &wish.tags).await?;
        store::begin_action(tx, id, "create").await?;
        let request_id = tx.origin().request_id.clone();
        store::begin_event(tx, id, &request_id, "server_create", 0, None).await?;
        // The build that is accepted here must not fail because the image is deleted before a host
        // has fetched it.
        Images::hold(tx, &common.image.id, &id.to_string()).await?;
        let workflow = ServerCreate(self.core().clone());
        let start = Start {
            state: CreateState::new(id),
            owner_kind: store::KIND,
            owner_id: id.to_string(),
            project: Some(server.project.clone()),
            request_id,
        };
        workflow_engine::start(tx, &workflow, start).await?;
        Ok(server)
    }
}

/// `r-` and eight letters and digits, as Nova makes them.
fn reservation_id(tx: &Tx) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = tx.random_u64();
    let mut id = String::from("r-");
    for _ in 0..8 {
        let index = usize::try_from(random % 36).unwrap_or(0);
        id.push(char::from(LETTERS[index]));
        random /= 36;
    }
    id
}

fn as_bad_request(fault: Fault, kind: FaultKind) -> Fault {
    if fault.kind == kind { Fault::bad_request(fault.message) } else { fault }
}

/// The zone, or the host, that was asked for must exist.
async fn check_place(tx: &mut Tx, wish: &CreateRequest) -> Result<(), Fault> {
    if let Some(name) = &wish.host
        && hosts::get_by_name(tx, name).await?.is_none()
    {
        return Err(Fault::bad_request(format!("Compute host {name} could not be found.")));
    }
    if let Some(zone) = &wish.zone {
        let zones: BTreeSet<String> =
            hosts::list(tx).await?.into_iter().map(|host| host.zone).collect();
        if !zones.contains(zone) {
            return Err(Fault::bad_request("The requested availability zone is not available"));
        }
    }
    Ok(())
}

fn image_facts(image: BootImage) -> Result<ImageFacts, Fault> {
    let format = match image.format {
        DiskFormat::Raw => ImageFormat::Raw,
        DiskFormat::Qcow2 => ImageFormat::Qcow2,
        #[allow(unreachable_patterns)] // formats that images may have one day and guests not boot
        other => {
            return Err(Fault::bad_request(format!(
                "Image {} is of the format {other}; a server boots from raw or qcow2.",
                image.id
            )));
        }
    };
    Ok(ImageFacts {
        active: image.status == ImageStatus::Active,
        min_disk_gib: image.min_disk,
        min_ram_mib: image.min_ram,
        snapshot: ImageSnapshot {
            id: image.id,
            format,
            size_bytes: image.size_bytes,
            sha256: image.sha256,
            virtual_size: Some(image.virtual_size),
            architecture: image
                .properties
                .get("hw_architecture")
                .or_else(|| image.properties.get("architecture"))
                .cloned(),
        },
    })
}

/// Takes the quota for as many servers as fit, at least `min_count`.
async fn take_quota(
    tx: &mut Tx,
    ctx: &Ctx,
    wish: &CreateRequest,
    flavor: &FlavorSnapshot,
) -> Result<u32, Fault> {
    let project = ctx.project()?;
    let per_server = quota_of(flavor);
    let mut count = wish.max_count;
    if wish.max_count > wish.min_count {
        let names: Vec<&'static str> = per_server.iter().map(|(name, _)| *name).collect();
        for (usage, (_, each)) in quota::usage(tx, &project, &names).await?.iter().zip(per_server) {
            if usage.limit != UNLIMITED && each > 0 {
                let room = (usage.limit - usage.in_use).max(0) / each;
                count = count.min(u32::try_from(room).unwrap_or(u32::MAX));
            }
        }
        count = count.max(wish.min_count);
    }
    let deltas = per_server.map(|(name, each)| (name, each.saturating_mul(i64::from(count))));
    quota::check_and_add_all(tx, &project, &deltas).await?;
    Ok(count)
}

/// What one server of the flavor takes of its project's quota.
pub(super) fn quota_of(flavor: &FlavorSnapshot) -> [(&'static str, i64); 3] {
    [
        ("instances", 1),
        ("cores", i64::from(flavor.vcpus)),
        ("ram", i64::try_from(flavor.memory_mib).unwrap_or(i64::MAX)),
    ]
}
