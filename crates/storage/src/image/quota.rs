//! How many images, and how much of the zone's disk, a project may have. Names and units are
//! Glance's; usage changes in the image's own transaction.

use cloud_types::{Fault, ProjectId};
use database::Tx;
use service_kit::quota::{
    self, QuotaDefault, QuotaError, QuotaUsage, UNLIMITED, check_and_add_all, register,
};

/// Number of images.
const COUNT: &str = "image_count_total";
/// Size of all images' files, in MiB.
const SIZE: &str = "image_size_total";
const MIB: u64 = 1 << 20;

/// Limits for each project until somebody sets others: 1,000 images, 1 TiB.
pub const DEFAULTS: &[QuotaDefault] = &[
    QuotaDefault { resource: COUNT, limit: 1000 },
    QuotaDefault { resource: SIZE, limit: 1 << 20 },
];

fn mebibytes(bytes: u64) -> i64 {
    i64::try_from(bytes.div_ceil(MIB)).unwrap_or(i64::MAX)
}

/// Counts images and bytes that a project gets.
///
/// # Errors
/// 413 when they do not fit.
pub async fn add(tx: &mut Tx, project: &ProjectId, images: i64, bytes: u64) -> Result<(), Fault> {
    // Images are rare; that the limits are known is worth two statements.
    register(tx, DEFAULTS).await?;
    let deltas = [(COUNT, images), (SIZE, mebibytes(bytes))];
    check_and_add_all(tx, project, &deltas).await.map_err(|error| match error {
        QuotaError::Over(over) => over.image_fault(),
        QuotaError::Database(error) => error.into(),
    })
}

/// Counts images and bytes that a project no longer has.
///
/// # Errors
/// The database's.
pub async fn remove(
    tx: &mut Tx,
    project: &ProjectId,
    images: i64,
    bytes: u64,
) -> Result<(), Fault> {
    let deltas = [(COUNT, -images), (SIZE, -mebibytes(bytes))];
    Ok(check_and_add_all(tx, project, &deltas).await?)
}

/// How many bytes a project has room for.
///
/// # Errors
/// The database's; 413 when there is none at all.
pub async fn room(tx: &mut Tx, project: &ProjectId) -> Result<u64, Fault> {
    register(tx, DEFAULTS).await?;
    let standing = quota::one(tx, project, SIZE).await?;
    if standing.limit == UNLIMITED {
        return Ok(u64::MAX);
    }
    let left = u64::try_from(standing.limit.saturating_sub(standing.in_use)).unwrap_or(0);
    if left == 0 {
        return Err(quota::OverQuota {
            resource: SIZE.to_owned(),
            limit: standing.limit,
            in_use: standing.in_use,
            requested: 1,
        }
        .image_fault());
    }
    Ok(left.saturating_mul(MIB))
}

/// A project's limits and usage.
///
/// # Errors
/// The database's.
pub async fn standing(tx: &mut Tx, project: &ProjectId) -> Result<Vec<QuotaUsage>, Fault> {
    Ok(quota::usage(tx, project, &[COUNT, SIZE]).await?)
}
