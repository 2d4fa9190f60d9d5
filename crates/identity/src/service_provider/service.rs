//! What a service provider is among the simple objects of the cloud.

use cloud_types::Fault;
use database::{BoxFuture, DatabaseError, Tx};
use serde_json::Value;
use service_kit::Ctx;

use super::model::ServiceProvider;
use super::store;
use crate::catalog::service::{Entry, Removed, Rules};
use crate::wire;

impl Entry for ServiceProvider {
    const KIND: &'static str = "service_provider";
    const PLURAL: &'static str = "service_providers";
    const PREFIX: &'static str = "/OS-FEDERATION";
    const FILTERS: &'static [&'static str] = &["id", "enabled"];
    const RULES: Rules = Rules {
        get: "identity:get_service_provider",
        list: "identity:list_service_providers",
        create: "identity:create_service_provider",
        update: "identity:update_service_provider",
        delete: "identity:delete_service_provider",
    };
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        ServiceProvider::view(self, ctx)
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
