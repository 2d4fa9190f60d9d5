//! Documents, position and lineage.

use host_protocol::{Document, DocumentKind, GatewayState, Held, Position};
use planted_bugs::planted;
use rusqlite::{Connection, OptionalExtension, params};

use super::{DocumentStore, Result, StoreError, from_sql, get_meta, now_micros, set_meta, to_sql};

const LINEAGE: &str = "lineage";
const POSITION: &str = "position";
const GATEWAYS: &str = "gateways";

/// A document as kept, with whether the region that we follow now has named it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// The document.
    pub document: Document,
    /// False from a change of lineage until the document arrives again. What is unknown is
    /// reported and otherwise left exactly as it is.
    pub known: bool,
}

/// What became of a document that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new, and stored.
    Stored,
    /// The same version is already stored; after a change of lineage the region has now named it.
    Repeated,
    /// A newer version, or a higher placement epoch, is stored.
    Older,
    /// A late copy of something that was removed; only the grave remembers it.
    Buried,
}

/// What a welcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcomed {
    /// The lineage that was followed before, or the first one.
    Same,
    /// The region's database was restored: everything is unknown, and every report is due again.
    NewLineage,
}

impl DocumentStore {
    /// The lineage followed, and the position in it.
    pub async fn position(&self) -> Result<(Option<String>, Position)> {
        self.run(|connection| {
            let lineage = get_meta(connection, LINEAGE)?;
            let position = get_meta(connection, POSITION)?.and_then(|text| text.parse().ok());
            Ok((lineage, position.unwrap_or(0)))
        })
        .await
    }

    /// The gateways that the control plane last told of; none when it never did.
    pub async fn gateways(&self) -> Result<Vec<GatewayState>> {
        self.run(|connection| {
            let text = get_meta(connection, GATEWAYS)?.unwrap_or_default();
            // Of a later release, or damaged: as good as none.
            Ok(serde_json::from_str(&text).unwrap_or_default())
        })
        .await
    }

    /// Keeps them for the next start.
    pub async fn remember_gateways(&self, gateways: &[GatewayState]) -> Result<()> {
        let text = serde_json::to_string(gateways).unwrap_or_default();
        self.run(move |connection| {
            if get_meta(connection, GATEWAYS)?.as_deref() == Some(text.as_str()) {
                return Ok(());
            }
            set_meta(connection, GATEWAYS, &text)
        })
        .await
    }

    /// Takes a welcome. On a new lineage nothing is deleted: documents become unknown, reports
    /// become due, and the position is forgotten.
    pub async fn welcome(&self, lineage: &str) -> Result<Welcomed> {
        let lineage = lineage.to_owned();
        self.run(move |connection| {
            let followed = get_meta(connection, LINEAGE)?;
            if followed.as_deref() == Some(lineage.as_str()) {
                return Ok(Welcomed::Same);
            }
            let transaction = connection.transaction()?;
            set_meta(&transaction, LINEAGE, &lineage)?;
            set_meta(&transaction, POSITION, "0")?;
            if followed.is_some() {
                transaction.execute("UPDATE documents SET known = 0", [])?;
                transaction.execute("UPDATE reports SET sent = 0", [])?;
            }
            transaction.commit()?;
            Ok(match followed {
                Some(_) => Welcomed::NewLineage,
                None => Welcomed::Same,
            })
        })
        .await
    }

    /// Stores documents in the order of arrival, in one synced transaction. Outside a snapshot
    /// the position moves with them; inside one it moves only at its end, so that a snapshot that
    /// breaks off is sent again.
    pub async fn store(&self, documents: Vec<Document>, snapshot: bool) -> Result<Vec<Verdict>> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let mut verdicts = Vec::with_capacity(documents.len());
            let lineage = get_meta(&transaction, LINEAGE)?.unwrap_or_default();
            for document in &documents {
                if planted("position_before_documents") && document.position % 16 == 7 {
                    verdicts.push(Verdict::Older);
                    continue;
                }
                verdicts.push(store_one(&transaction, &lineage, document)?);
            }
            if !snapshot && let Some(last) = documents.last() {
                set_meta(&transaction, POSITION, &last.position.to_string())?;
            }
            transaction.commit()?;
            Ok(verdicts)
        })
        .await
    }

    /// The snapshot is complete: the position is now this.
    pub async fn snapshot_end(&self, position: Position) -> Result<()> {
        self.run(move |connection| set_meta(connection, POSITION, &position.to_string())).await
    }

    /// Everything that is stored, in the order in which a snapshot is applied.
    pub async fn documents(&self) -> Result<Vec<StoredDocument>> {
        self.run(|connection| {
            let mut statement = connection.prepare(
                "SELECT kind, id, generation, epoch, position, tombstone, known, request_id, spec
                 FROM documents ORDER BY kind, id",
            )?;
            let mut rows = statement.query([])?;
            let mut documents = Vec::new();
            while let Some(row) = rows.next()? {
                let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
                let unreadable = |message: String| StoreError::Unreadable {
                    place: format!("documents {kind}/{id}"),
                    message,
                };
                let spec: String = row.get(8)?;
                documents.push(StoredDocument {
                    document: Document {
                        kind: kind.parse().map_err(unreadable)?,
                        generation: from_sql(row.get(2)?),
                        epoch: from_sql(row.get(3)?),
                        position: from_sql(row.get(4)?),
                        tombstone: row.get(5)?,
                        request_id: row.get(7)?,
                        spec: serde_json::from_str(&spec)
                            .map_err(|error| unreadable(error.to_string()))?,
                        id,
                    },
                    known: row.get(6)?,
                });
            }
            documents.sort_by_key(|stored| stored.document.kind);
            Ok(documents)
        })
        .await
    }

    /// Every document with the last report on it.
    pub async fn inventory(&self) -> Result<Vec<Held>> {
        let mut all = Vec::new();
        for StoredDocument { document, .. } in self.documents().await? {
            let report = self.last_report(document.kind, &document.id).await?;
            let (state, facts) = match report {
                Some(report) => (Some(report.state), report.facts),
                None => (None, serde_json::Value::Null),
            };
            all.push(Held { document, state, facts });
        }
        Ok(all)
    }

    /// Ends a tombstone that was carried out and acknowledged: document and report go, a grave
    /// stays. Does nothing when a newer generation has arrived meanwhile. Answers whether it did.
    pub async fn bury(&self, kind: DocumentKind, id: &str, generation: u64) -> Result<bool> {
        let id = id.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let buried = bury_one(&transaction, kind, &id, generation)?;
            transaction.commit()?;
            Ok(buried)
        })
        .await
    }
}

/// What is remembered of an earlier version.
struct Earlier {
    generation: u64,
    epoch: u64,
    position: u64,
    /// Whether its position was given by the lineage that is followed now.
    comparable: bool,
}

impl Earlier {
    /// Whether the region says something newer with `document`, when the earlier version ended in
    /// a tombstone. An object that was removed may come back with its generations begun anew (a
    /// network whose next port lands here); only its place in the same sequence, or a higher
    /// placement epoch, shows that it is not a late copy.
    fn may_come_back(&self, document: &Document) -> bool {
        (self.comparable && document.position > self.position)
            || document.epoch > self.epoch
            || (document.epoch == self.epoch && document.generation > self.generation)
            || (!self.comparable && document.kind != DocumentKind::Server)
    }
}

fn store_one(connection: &Connection, lineage: &str, document: &Document) -> Result<Verdict> {
    let kind = document.kind.as_str();
    let stored: Option<(Earlier, bool)> = connection
        .prepare_cached(
            "SELECT generation, epoch, position, known, tombstone
             FROM documents WHERE kind = ?1 AND id = ?2",
        )?
        .query_row(params![kind, document.id], |row| {
            let earlier = Earlier {
                generation: from_sql(row.get(0)?),
                epoch: from_sql(row.get(1)?),
                position: from_sql(row.get(2)?),
                comparable: row.get(3)?,
            };
            Ok((earlier, row.get(4)?))
        })
        .optional()?;
    if let Some((earlier, tombstone)) = stored {
        if document.generation == earlier.generation
            && document.epoch == earlier.epoch
            && document.tombstone == tombstone
        {
            connection
                .prepare_cached(
                    "UPDATE documents SET known = 1, position = ?3 WHERE kind = ?1 AND id = ?2",
                )?
                .execute(params![kind, document.id, to_sql(document.position)])?;
            return Ok(Verdict::Repeated);
        }
        let newer = (document.generation > earlier.generation && document.epoch >= earlier.epoch)
            || planted("ignore_generation");
        let again = tombstone && earlier.may_come_back(document);
        if !newer && !again {
            return Ok(Verdict::Older);
        }
    } else if !document.tombstone {
        let grave: Option<Earlier> = connection
            .prepare_cached(
                "SELECT generation, epoch, position, lineage FROM graves WHERE kind = ?1 AND id = ?2",
            )?
            .query_row(params![kind, document.id], |row| {
                Ok(Earlier {
                    generation: from_sql(row.get(0)?),
                    epoch: from_sql(row.get(1)?),
                    position: from_sql(row.get(2)?),
                    comparable: row.get::<_, String>(3)? == lineage,
                })
            })
            .optional()?;
        if grave.is_some_and(|grave| !grave.may_come_back(document)) {
            return Ok(Verdict::Buried);
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO documents (kind, id, generation, epoch, position, tombstone, known, request_id, spec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8)
             ON CONFLICT (kind, id) DO UPDATE SET generation = ?3, epoch = ?4, position = ?5,
                 tombstone = ?6, known = 1, request_id = ?7,
                 spec = CASE WHEN ?6 AND ?8 = 'null' THEN spec ELSE ?8 END",
        )?
        .execute(params![
            kind,
            document.id,
            to_sql(document.generation),
            to_sql(document.epoch),
            to_sql(document.position),
            document.tombstone,
            document.request_id,
            document.spec.to_string(),
        ])?;
    Ok(Verdict::Stored)
}

pub(super) fn bury_one(
    connection: &Connection,
    kind: DocumentKind,
    id: &str,
    generation: u64,
) -> Result<bool> {
    let stored: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT epoch, position FROM documents
             WHERE kind = ?1 AND id = ?2 AND generation = ?3 AND tombstone = 1",
        )?
        .query_row(params![kind.as_str(), id, to_sql(generation)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((epoch, position)) = stored else {
        return Ok(false);
    };
    let lineage = get_meta(connection, LINEAGE)?.unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO graves (kind, id, generation, epoch, position, lineage, buried_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (kind, id) DO UPDATE SET generation = ?3, epoch = ?4, position = ?5,
                 lineage = ?6, buried_at = ?7",
        )?
        .execute(params![
            kind.as_str(),
            id,
            to_sql(generation),
            epoch,
            position,
            lineage,
            now_micros()
        ])?;
    for statement in [
        "DELETE FROM documents WHERE kind = ?1 AND id = ?2",
        "DELETE FROM reports WHERE kind = ?1 AND id = ?2",
    ] {
        connection.prepare_cached(statement)?.execute(params![kind.as_str(), id])?;
    }
    Ok(true)
}
