//! Quotas: how much of each resource a project may have. Usage changes in the resource's own
//! transaction, so it is never wrong and never counted later.
//!
//! One row for each project and resource holds the usage, and the one statement that raises it
//! also checks the limit; the row is its own lock, so contenders queue on it and none is counted
//! twice. A limit of −1 is none. Lowering usage always succeeds and never goes below zero: a
//! negative sum would be a bug that the auditor reports, and refusing the delete would not help.

mod store;

use cloud_types::{Fault, FaultKind, ProjectId};
use database::{DatabaseError, Tx};

/// No limit.
pub const UNLIMITED: i64 = -1;

/// A resource that a service counts, with the limit that holds until somebody sets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaDefault {
    /// The resource's name on the wire: `cores`, `network`, `security_group`.
    pub resource: &'static str,
    /// The limit for each project; [`UNLIMITED`] for none.
    pub limit: i64,
}

/// A project's standing with one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The resource.
    pub resource: String,
    /// The limit in force; [`UNLIMITED`] for none.
    pub limit: i64,
    /// How much there is.
    pub in_use: i64,
}

/// A request for more than the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// The resource.
    pub resource: String,
    /// The limit in force.
    pub limit: i64,
    /// How much there is.
    pub in_use: i64,
    /// How much more was asked for.
    pub requested: i64,
}

impl OverQuota {
    /// 403 in Nova's words.
    pub fn compute_fault(&self) -> Fault {
        let OverQuota { resource, limit, in_use, requested } = self;
        Fault::forbidden(format!(
            "Quota exceeded for {resource}: Requested {requested}, but already used {in_use} of \
             {limit} {resource}"
        ))
    }

    /// 409 `OverQuota` in Neutron's words.
    pub fn network_fault(&self) -> Fault {
        Fault::conflict(format!("Quota exceeded for resources: ['{}'].", self.resource))
            .named("OverQuota")
    }

    /// 413 in Glance's words.
    pub fn image_fault(&self) -> Fault {
        let OverQuota { resource, limit, in_use, requested } = self;
        Fault::new(
            FaultKind::TooLarge,
            format!(
                "Project is over its limit for {resource}: it has {in_use} of {limit} and asks \
                 for {requested} more"
            ),
        )
    }
}

/// Why usage was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QuotaError {
    /// It would exceed the limit.
    #[error("over the quota of {} for {}", .0.limit, .0.resource)]
    Over(OverQuota),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<QuotaError> for Fault {
    /// Nova's form; network and image map [`QuotaError::Over`] themselves.
    fn from(error: QuotaError) -> Fault {
        match error {
            QuotaError::Over(over) => over.compute_fault(),
            QuotaError::Database(error) => error.into(),
        }
    }
}

/// Makes a service's resources known; called at start-up. A limit that an operator changed stays.
///
/// # Errors
/// The database's.
pub async fn register(tx: &mut Tx, defaults: &[QuotaDefault]) -> Result<(), DatabaseError> {
    for default in defaults {
        store::add_default(tx, default).await?;
    }
    Ok(())
}

/// Whether some of the defaults are not registered yet. Reads only, so that a process starts on a
/// database that cannot be written.
pub async fn unregistered(tx: &mut Tx, defaults: &[QuotaDefault]) -> Result<bool, DatabaseError> {
    for default in defaults {
        if !store::has_default(tx, default.resource).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Changes what a project has of a resource by `delta`.
///
/// # Errors
/// [`QuotaError::Over`] when the sum would exceed the limit; the caller returns it, which ends
/// the transaction, so nothing of it remains.
pub async fn check_and_add(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &'static str,
    delta: i64,
) -> Result<(), QuotaError> {
    check_and_add_all(tx, project, &[(resource, delta)]).await
}

/// The same for several resources, in one order for everybody so that contenders queue and do not
/// collide.
///
/// # Errors
/// As [`check_and_add`], for the first resource that does not fit.
pub async fn check_and_add_all(
    tx: &mut Tx,
    project: &ProjectId,
    deltas: &[(&'static str, i64)],
) -> Result<(), QuotaError> {
    let mut deltas = deltas.to_vec();
    deltas.sort_unstable();
    for (resource, delta) in deltas {
        if delta <= 0 {
            store::lower(tx, project, resource, delta).await?;
        } else if !store::raise(tx, project, resource, delta).await? {
            let usage = one(tx, project, resource).await?;
            return Err(QuotaError::Over(OverQuota {
                resource: usage.resource,
                limit: usage.limit,
                in_use: usage.in_use,
                requested: delta,
            }));
        }
    }
    Ok(())
}

/// A project's standing with one resource.
///
/// # Errors
/// The database's.
pub async fn one(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &'static str,
) -> Result<QuotaUsage, DatabaseError> {
    store::usage(tx, project, resource).await
}

/// A project's standing with several resources, in the order asked for.
///
/// # Errors
/// The database's.
pub async fn usage(
    tx: &mut Tx,
    project: &ProjectId,
    resources: &[&'static str],
) -> Result<Vec<QuotaUsage>, DatabaseError> {
    let mut standing = Vec::with_capacity(resources.len());
    for resource in resources {
        standing.push(store::usage(tx, project, resource).await?);
    }
    Ok(standing)
}

/// Sets a project's own limit; `None` returns it to the default.
///
/// # Errors
/// The database's.
pub async fn set_limit(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &str,
    limit: Option<i64>,
) -> Result<(), DatabaseError> {
    match limit {
        Some(limit) => store::set_limit(tx, project, resource, limit).await,
        None => store::clear_limit(tx, project, resource).await,
    }
}

/// The projects that have a limit of their own for one of the resources, sorted.
///
/// # Errors
/// The database's.
pub async fn projects_with_limits(
    tx: &mut Tx,
    resources: &[&'static str],
) -> Result<Vec<ProjectId>, DatabaseError> {
    store::projects_with_limits(tx, resources).await
}

/// The limit for projects without one of their own.
///
/// # Errors
/// The database's.
pub async fn default_limit(tx: &mut Tx, resource: &str) -> Result<i64, DatabaseError> {
    store::default_limit(tx, resource).await
}

/// Changes the limit for projects without one of their own.
///
/// # Errors
/// The database's.
pub async fn set_default_limit(
    tx: &mut Tx,
    resource: &str,
    limit: i64,
) -> Result<(), DatabaseError> {
    store::set_default(tx, resource, limit).await
}

#[cfg(test)]
mod tests;
