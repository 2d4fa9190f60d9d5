//! SQL of images and their members.

pub mod listing;

use std::collections::BTreeMap;

use cloud_types::{ImageId, ProjectId, Timestamp};
use database::{Backend, DatabaseError, Row, Tx, Value, params};

use super::model::Image;
use listing::Query;

const COLUMNS: &str = "id, owner, name, status, visibility, disk_format, container_format, size, \
     virtual_size, checksum, sha512, sha256, min_disk, min_ram, protected, hidden, properties, \
     tags, created_at, updated_at, generation";

fn read(row: &Row) -> Result<Image, DatabaseError> {
    let count = |column| {
        row.opt_int(column).map(|number| number.and_then(|number| u64::try_from(number).ok()))
    };
    let format = row.opt_text("disk_format")?;
    Ok(Image {
        id: row.parse("id")?,
        owner: row.parse("owner")?,
        name: row.opt_text("name")?,
        status: row.parse("status")?,
        visibility: row.parse("visibility")?,
        disk_format: format.and_then(|text| text.parse().ok()),
        container_format: row.opt_text("container_format")?,
        size: count("size")?,
        virtual_size: count("virtual_size")?,
        checksum: row.opt_text("checksum")?,
        sha512: row.opt_text("sha512")?,
        sha256: row.opt_text("sha256")?,
        min_disk: count("min_disk")?.unwrap_or_default(),
        min_ram: count("min_ram")?.unwrap_or_default(),
        protected: row.bool("protected")?,
        hidden: row.bool("hidden")?,
        properties: row.json::<BTreeMap<String, String>>("properties")?,
        tags: row.json("tags")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
        generation: row.int("generation")?,
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub async fn insert(tx: &mut Tx, image: &Image) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO images (id, owner, name, status, visibility, disk_format, container_format,
             min_disk, min_ram, protected, hidden, properties, tags, created_at, updated_at,
             generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, 1)",
        &params![
            image.id,
            image.owner,
            image.name,
            image.status.as_str(),
            image.visibility.as_str(),
            image.disk_format.map(|format| format.as_str()),
            image.container_format,
            image.min_disk,
            image.min_ram,
            image.protected,
            image.hidden,
            json(&image.properties),
            json(&image.tags),
            image.created_at
        ],
    )
    .await?;
    Ok(())
}

/// Stores what a caller may change, and the status; names the generation that was read.
pub async fn update(tx: &mut Tx, image: &Image) -> Result<(), DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE images SET name = $1, status = $2, visibility = $3, disk_format = $4,
                 container_format = $5, min_disk = $6, min_ram = $7, protected = $8, hidden = $9,
                 properties = $10, tags = $11, updated_at = $12, owner = $15,
                 generation = generation + 1
             WHERE id = $13 AND generation = $14",
            &params![
                image.name,
                image.status.as_str(),
                image.visibility.as_str(),
                image.disk_format.map(|format| format.as_str()),
                image.container_format,
                image.min_disk,
                image.min_ram,
                image.protected,
                image.hidden,
                json(&image.properties),
                json(&image.tags),
                tx.now(),
                image.id,
                image.generation,
                image.owner
            ],
        )
        .await?;
    tx.expect_one(rows, "image", image.id)
}

pub async fn get(tx: &mut Tx, id: &ImageId) -> Result<Option<Image>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM images WHERE id = $1 AND status <> 'deleted'");
    tx.query_dynamic(sql, &params![id]).await?.first().map(read).transpose()
}

pub async fn list(tx: &mut Tx, query: &Query) -> Result<Vec<Image>, DatabaseError> {
    let (condition, mut values) = query.condition();
    values.push(Value::from(query.rows));
    let sql = format!(
        "SELECT {COLUMNS} FROM images WHERE {condition} ORDER BY {} LIMIT ${}",
        query.order(),
        values.len()
    );
    tx.query_dynamic(sql, &values).await?.iter().map(read).collect()
}

/// Gives a queued image to an upload. False when it is not queued.
pub async fn begin_upload(tx: &mut Tx, id: &ImageId, upload: &str) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE images SET status = 'saving', upload_id = $1, upload_seen = $2,
                 updated_at = $2, generation = generation + 1
             WHERE id = $3 AND status = 'queued'",
            &params![upload, tx.now(), id],
        )
        .await?;
    Ok(rows == 1)
}

/// The upload lives. False when the image is no longer its own.
pub async fn upload_lives(tx: &mut Tx, id: &ImageId, upload: &str) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE images SET upload_seen = $1
             WHERE id = $2 AND status = 'saving' AND upload_id = $3",
            &params![tx.now(), id, upload],
        )
        .await?;
    Ok(rows == 1)
}

/// What a finished upload found out.
#[derive(Clone, Debug)]
pub struct Uploaded {
    pub size: u64,
    pub virtual_size: u64,
    pub md5: String,
    pub sha512: String,
    pub sha256: String,
}

/// The file is in its place. False when the image is no longer this upload's.
pub async fn finish_upload(
    tx: &mut Tx,
    id: &ImageId,
    upload: &str,
    found: &Uploaded,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE images SET status = 'active', size = $1, virtual_size = $2, checksum = $3,
                 sha512 = $4, sha256 = $5, file = upload_id, upload_id = NULL,
                 upload_seen = NULL, updated_at = $6,
                 generation = generation + 1
             WHERE id = $7 AND status = 'saving' AND upload_id = $8",
            &params![
                found.size,
                found.virtual_size,
                found.md5,
                found.sha512,
                found.sha256,
                tx.now(),
                id,
                upload
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// The upload failed: the image may be uploaded again, and what was written is a leftover.
pub async fn fail_upload(tx: &mut Tx, id: &ImageId, upload: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE images SET status = 'queued', upload_id = NULL, upload_seen = NULL,
             updated_at = $1, generation = generation + 1
         WHERE id = $2 AND status = 'saving' AND upload_id = $3",
        &params![tx.now(), id, upload],
    )
    .await?;
    add_leftover(tx, upload).await
}

/// Returns images whose upload died to `queued`; what was written of them is a leftover. From here
/// on the dead upload, should it come back, finds that the image is not its own.
pub async fn requeue_silent(tx: &mut Tx, before: Timestamp) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO image_leftovers (file) SELECT upload_id FROM images
         WHERE status = 'saving' AND upload_seen < $1 ON CONFLICT (file) DO NOTHING",
        &params![before],
    )
    .await?;
    tx.execute(
        "UPDATE images SET status = 'queued', upload_id = NULL, upload_seen = NULL,
             updated_at = $1, generation = generation + 1
         WHERE status = 'saving' AND upload_seen < $2",
        &params![tx.now(), before],
    )
    .await?;
    Ok(())
}

/// A file that no row stands for any more.
pub async fn add_leftover(tx: &mut Tx, file: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO image_leftovers (file) VALUES ($1) ON CONFLICT (file) DO NOTHING",
        &params![file],
    )
    .await?;
    Ok(())
}

/// Files to remove: nothing stands for them, and no server that is being built waits for them.
pub async fn leftovers(tx: &mut Tx) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT l.file AS file FROM image_leftovers l WHERE NOT EXISTS (
                 SELECT 1 FROM image_holds h WHERE h.file = l.file)
             ORDER BY l.file LIMIT 1000",
            &[],
        )
        .await?;
    rows.iter().map(|row| row.text("file")).collect()
}

/// The file is gone.
pub async fn forget_leftover(tx: &mut Tx, file: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM image_leftovers WHERE file = $1", &params![file]).await?;
    Ok(())
}

/// The name of a whole image's file. Each upload writes a file of its own name, so that one that
/// was thought dead and comes back can never write over its successor's.
pub async fn file_of(tx: &mut Tx, id: &ImageId) -> Result<Option<String>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT COALESCE(file, id) AS file FROM images
             WHERE id = $1 AND status IN ('active', 'deactivated')",
            &params![id],
        )
        .await?;
    row.map(|row| row.text("file")).transpose()
}

/// Keeps an active image's file until the holder lets go; `false` when there is no such image (any
/// more).
pub async fn hold(tx: &mut Tx, id: &ImageId, holder: &str) -> Result<bool, DatabaseError> {
    // A deletion waits for this transaction, or this one for the deletion; other holders do not
    // wait. SQLite has one writer at a time.
    let file = match tx.backend() {
        Backend::Postgres => {
            "SELECT COALESCE(file, id) AS file FROM images WHERE id = $1 AND status = 'active'
             FOR KEY SHARE"
        }
        Backend::Sqlite => {
            "SELECT COALESCE(file, id) AS file FROM images WHERE id = $1 AND status = 'active'"
        }
    };
    let Some(row) = tx.query_opt(file, &params![id]).await? else { return Ok(false) };
    tx.execute(
        "INSERT INTO image_holds (holder, image_id, file) VALUES ($1, $2, $3)
         ON CONFLICT (holder) DO NOTHING",
        &params![holder, id, row.text("file")?],
    )
    .await?;
    Ok(true)
}

/// The holder needs its image's file no longer.
pub async fn let_go(tx: &mut Tx, holder: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM image_holds WHERE holder = $1", &params![holder]).await?;
    Ok(())
}

/// The file of an image that is deleted, while somebody holds it.
pub async fn held_file(tx: &mut Tx, id: &ImageId) -> Result<Option<String>, DatabaseError> {
    let row = tx
        .query_opt("SELECT file FROM image_holds WHERE image_id = $1 LIMIT 1", &params![id])
        .await?;
    row.map(|row| row.text("file")).transpose()
}

/// Uploads under way.
pub async fn live_uploads(tx: &mut Tx) -> Result<Vec<String>, DatabaseError> {
    let rows = tx.query("SELECT upload_id FROM images WHERE status = 'saving'", &[]).await?;
    rows.iter().map(|row| row.text("upload_id")).collect()
}

/// Removes an image with its members; its file, if it has one, is a leftover. An upload that is
/// under way finds that the image is gone.
pub async fn delete(tx: &mut Tx, image: &Image) -> Result<(), DatabaseError> {
    if let Some(file) = file_of(tx, &image.id).await? {
        add_leftover(tx, &file).await?;
    }
    tx.execute("DELETE FROM image_members WHERE image_id = $1", &params![image.id]).await?;
    let rows = tx
        .execute(
            "DELETE FROM images WHERE id = $1 AND generation = $2",
            &params![image.id, image.generation],
        )
        .await?;
    tx.expect_one(rows, "image", image.id)
}

/// A project that an image is shared with.
#[derive(Clone, Debug)]
pub struct Member {
    pub image: ImageId,
    pub member: ProjectId,
    pub status: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn read_member(row: &Row) -> Result<Member, DatabaseError> {
    Ok(Member {
        image: row.parse("image_id")?,
        member: row.parse("member")?,
        status: row.text("status")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

pub async fn members(tx: &mut Tx, image: &ImageId) -> Result<Vec<Member>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT image_id, member, status, created_at, updated_at
             FROM image_members WHERE image_id = $1 ORDER BY created_at, member",
            &params![image],
        )
        .await?;
    rows.iter().map(read_member).collect()
}

pub async fn member(
    tx: &mut Tx,
    image: &ImageId,
    member: &ProjectId,
) -> Result<Option<Member>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT image_id, member, status, created_at, updated_at
             FROM image_members WHERE image_id = $1 AND member = $2",
            &params![image, member],
        )
        .await?;
    row.as_ref().map(read_member).transpose()
}

/// False when the project is a member already.
pub async fn add_member(
    tx: &mut Tx,
    image: &ImageId,
    member: &ProjectId,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "INSERT INTO image_members (image_id, member, status, created_at, updated_at)
             VALUES ($1, $2, 'pending', $3, $3) ON CONFLICT (image_id, member) DO NOTHING",
            &params![image, member, tx.now()],
        )
        .await?;
    Ok(rows == 1)
}

pub async fn set_member_status(
    tx: &mut Tx,
    image: &ImageId,
    member: &ProjectId,
    status: &str,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE image_members SET status = $1, updated_at = $2
             WHERE image_id = $3 AND member = $4",
            &params![status, tx.now(), image, member],
        )
        .await?;
    Ok(rows == 1)
}

pub async fn remove_member(
    tx: &mut Tx,
    image: &ImageId,
    member: &ProjectId,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "DELETE FROM image_members WHERE image_id = $1 AND member = $2",
            &params![image, member],
        )
        .await?;
    Ok(rows == 1)
}
