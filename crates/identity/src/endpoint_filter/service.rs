//! What can be done with endpoint groups and the endpoints of projects.

use cloud_types::{Fault, ProjectId};
use database::{BoxFuture, DatabaseError, JournalEntry, ObjectLock, Tx};
use serde_json::{Value, json};
use service_kit::{Ctx, Target};

use super::model::EndpointGroup;
use super::store::{self, Given};
use crate::catalog::model::Endpoint;
use crate::catalog::service::{Entry, Removed, Rules, existing};
use crate::project::model::Project;
use crate::{Identity, catalog, project, wire};

impl Entry for EndpointGroup {
    const KIND: &'static str = "endpoint_group";
    const PLURAL: &'static str = "endpoint_groups";
    const PREFIX: &'static str = "/OS-EP-FILTER";
    const FILTERS: &'static [&'static str] = &["name"];
    const RULES: Rules = Rules {
        get: "identity:get_endpoint_group",
        list: "identity:list_endpoint_groups",
        create: "identity:create_endpoint_group",
        update: "identity:update_endpoint_group",
        delete: "identity:delete_endpoint_group",
    };
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        EndpointGroup::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::group(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::groups(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, _new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::put_group(tx, self).await?) })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            store::delete_group(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}

async fn existing_project(tx: &mut Tx, id: &str) -> Result<Project, Fault> {
    let wanted: ProjectId = wire::id("project", id)?;
    project::store::get_any(tx, &wanted).await?.ok_or_else(|| wire::not_found("project", id))
}

async fn check_given(tx: &mut Tx, given: &Given) -> Result<(), Fault> {
    match given {
        Given::Endpoint(id) => existing::<Endpoint>(tx, id).await.map(|_| ()),
        Given::Group(id) => existing::<EndpointGroup>(tx, id).await.map(|_| ()),
    }
}

fn not_given(project: &str, given: &Given) -> Fault {
    Fault::not_found(match given {
        Given::Endpoint(id) => format!("Endpoint {id} not found in project {project}"),
        Given::Group(id) => format!("Project Endpoint Group {id} not found in project {project}"),
    })
}

fn journal(tx: &mut Tx, action: &'static str, project: &str, given: &Given) {
    let shown = Some(json!({"given": format!("{given:?}")}));
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "project_endpoint",
        id: project.to_owned(),
        project: project.parse().ok(),
        action,
        before,
        after,
    });
}

impl Identity {
    pub(crate) async fn give_endpoints(
        &self,
        ctx: &Ctx,
        rule: &str,
        project: &str,
        given: Given,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let project = project.to_owned();
        self.change(ctx, move |tx| {
            let (project, given) = (project.clone(), given.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("project", &project)]).await?;
                check_given(tx, &given).await?;
                existing_project(tx, &project).await?;
                if store::give(tx, &project, &given).await? {
                    journal(tx, "create", &project, &given);
                }
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn check_endpoints(
        &self,
        ctx: &Ctx,
        rule: &str,
        project: &str,
        given: Given,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let project = project.to_owned();
        self.look(move |tx| {
            let (project, given) = (project.clone(), given.clone());
            Box::pin(async move {
                check_given(tx, &given).await?;
                existing_project(tx, &project).await?;
                if store::projects_with(tx, &given).await?.contains(&project) {
                    return Ok(());
                }
                Err(not_given(&project, &given))
            })
        })
        .await
    }

    pub(crate) async fn take_endpoints(
        &self,
        ctx: &Ctx,
        rule: &str,
        project: &str,
        given: Given,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let project = project.to_owned();
        self.change(ctx, move |tx| {
            let (project, given) = (project.clone(), given.clone());
            Box::pin(async move {
                if !store::take(tx, &project, &given).await? {
                    return Err(not_given(&project, &given));
                }
                journal(tx, "delete", &project, &given);
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    /// The projects to which an endpoint or a group was given.
    pub(crate) async fn projects_given(
        &self,
        ctx: &Ctx,
        rule: &str,
        given: Given,
    ) -> Result<Vec<Project>, Fault> {
        ctx.authorise(rule, &Target::none())?;
        self.look(move |tx| {
            let given = given.clone();
            Box::pin(async move {
                check_given(tx, &given).await?;
                let mut projects = Vec::new();
                for id in store::projects_with(tx, &given).await? {
                    if let Ok(id) = id.parse::<ProjectId>() {
                        projects.extend(project::store::get_any(tx, &id).await?);
                    }
                }
                Ok(projects)
            })
        })
        .await
    }

    /// The endpoints that a project was given, by themselves and in groups.
    pub(crate) async fn endpoints_of_project(
        &self,
        ctx: &Ctx,
        project: &str,
    ) -> Result<Vec<Endpoint>, Fault> {
        ctx.authorise("identity:list_endpoints_for_project", &Target::none())?;
        let project = project.to_owned();
        self.look(move |tx| {
            let project = project.clone();
            Box::pin(async move {
                existing_project(tx, &project).await?;
                let filter = store::of_project(tx, &project).await?;
                let mut endpoints = catalog::store::endpoints(tx).await?;
                endpoints.retain(|endpoint| filter.includes(endpoint));
                Ok(endpoints)
            })
        })
        .await
    }

    /// The groups that a project was given.
    pub(crate) async fn endpoint_groups_of_project(
        &self,
        ctx: &Ctx,
        project: &str,
    ) -> Result<Vec<EndpointGroup>, Fault> {
        ctx.authorise("identity:list_endpoint_groups_for_project", &Target::none())?;
        let project = project.to_owned();
        self.look(move |tx| {
            let project = project.clone();
            Box::pin(async move {
                existing_project(tx, &project).await?;
                Ok(store::of_project(tx, &project).await?.groups)
            })
        })
        .await
    }

    /// The endpoints that a group chooses.
    pub(crate) async fn endpoints_of_group(
        &self,
        ctx: &Ctx,
        group: &str,
    ) -> Result<Vec<Endpoint>, Fault> {
        let rule = "identity:list_endpoints_associated_with_endpoint_group";
        ctx.authorise(rule, &Target::none())?;
        let group = group.to_owned();
        self.look(move |tx| {
            let group = group.clone();
            Box::pin(async move {
                let group = existing::<EndpointGroup>(tx, &group).await?;
                let mut endpoints = catalog::store::endpoints(tx).await?;
                endpoints.retain(|endpoint| group.includes(endpoint));
                Ok(endpoints)
            })
        })
        .await
    }
}
