//! What a mapping is among the simple objects of the cloud. A mapping that a protocol uses may be
//! changed: it holds from the next login on.

use cloud_types::Fault;
use database::{BoxFuture, DatabaseError, Tx};
use serde_json::Value;
use service_kit::Ctx;

use super::model::Mapping;
use super::store;
use crate::catalog::service::{Entry, Removed, Rules};
use crate::wire;

impl Entry for Mapping {
    const KIND: &'static str = "mapping";
    const PLURAL: &'static str = "mappings";
    const PREFIX: &'static str = "/OS-FEDERATION";
    const FILTERS: &'static [&'static str] = &[];
    const RULES: Rules = Rules {
        get: "identity:get_mapping",
        list: "identity:list_mappings",
        create: "identity:create_mapping",
        update: "identity:update_mapping",
        delete: "identity:delete_mapping",
    };
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        Mapping::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::get(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::all(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            if !new {
                return Ok(store::update(tx, self).await?);
            }
            if !store::insert(tx, self).await? {
                return Err(wire::duplicate_id(Self::KIND, &self.id));
            }
            Ok(())
        })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            store::delete(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}
