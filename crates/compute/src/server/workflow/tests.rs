//! Every workflow against failures, repeats and killed workers, from its own list of steps, on
//! simulated hosts.

use std::sync::Arc;

use cloud_types::{TestClock, WorkflowId};
use database::{BoxFuture, Database};
use serde_json::{Value, json};
use service_kit::Method;
use workflow_engine::test_support::World;
use workflow_engine::{find_by_owner, trio};

use super::*;
use crate::test_support::Cloud;

/// A cloud of two hosts and the server that the workflow works on.
struct Scene {
    cloud: Cloud,
    server: String,
}

impl Scene {
    /// A scene with a server that runs.
    async fn running() -> Self {
        let cloud = Cloud::new(2).await;
        let server = cloud.boot_settled("web").await;
        assert_eq!(cloud.server(&server).await["status"], "ACTIVE");
        Scene { cloud, server }
    }

    async fn stopped() -> Self {
        let scene = Scene::running().await;
        scene.cloud.act(&scene.server, json!({"os-stop": null})).await.expect(202);
        scene.cloud.settle().await;
        assert_eq!(scene.status().await, "SHUTOFF");
        scene
    }

    async fn status(&self) -> String {
        crate::test_support::text(&self.cloud.server(&self.server).await["status"])
    }

    /// The newest workflow of the server.
    async fn newest(&self, server: &str) -> WorkflowId {
        let server = server.to_owned();
        self.cloud
            .transact(move |tx| {
                let server = server.clone();
                Box::pin(async move {
                    let all = find_by_owner(tx, "server", &server).await?;
                    let live = all.into_iter().find(|view| !view.status.has_ended());
                    Ok(live.map(|view| view.id))
                })
            })
            .await
            .expect("a workflow under way")
    }

    async fn act(&self, body: Value) -> WorkflowId {
        self.cloud.act(&self.server, body).await.expect(202);
        self.newest(&self.server).await
    }

    /// Hosts look once, but only what workflows wait for is driven: whether ports come and go is
    /// not theirs to wait for.
    async fn drive(&self) {
        self.cloud.drive().await;
    }

    /// The server is as healthy as before: on one host, with one claim, nothing under way.
    async fn assert_healthy(&self, status: &str, power: &str) {
        let server = self.cloud.server(&self.server).await;
        assert_eq!(server["status"], status, "{server}");
        assert_eq!(server["OS-EXT-STS:task_state"], Value::Null, "{server}");
        let documents = self.cloud.server_documents(&self.server).await;
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0].1.spec["power"], power);
        assert!(!documents[0].1.tombstone);
        assert_eq!(self.cloud.claims().await, (1, Vec::new()));
    }
}

macro_rules! scene {
    ($name:ident, $workflow:ty, $make:expr, $create:expr, $begin:expr, $clean:expr, $done:expr) => {
        struct $name(Scene, tokio::sync::Mutex<String>);

        impl World for $name {
            type Workflow = $workflow;

            fn create() -> BoxFuture<'static, Self> {
                Box::pin(async { $name($create.await, tokio::sync::Mutex::default()) })
            }
            fn database(&self) -> &Database {
                &self.0.cloud.kit.db
            }
            fn clock(&self) -> &TestClock {
                &self.0.cloud.clock
            }
            fn workflow(&self) -> Arc<$workflow> {
                let make: fn(Core) -> $workflow = $make;
                Arc::new(make(self.0.cloud.compute.core().clone()))
            }
            fn begin(&self) -> BoxFuture<'_, WorkflowId> {
                Box::pin(async move {
                    let begin: for<'c> fn(&'c Scene) -> BoxFuture<'c, (String, WorkflowId)> =
                        $begin;
                    let (server, id) = begin(&self.0).await;
                    *self.1.lock().await = server;
                    id
                })
            }
            fn drive(&self) -> BoxFuture<'_, ()> {
                Box::pin(self.0.drive())
            }
            fn assert_clean(&self) -> BoxFuture<'_, ()> {
                Box::pin(async move {
                    self.0.cloud.settle().await;
                    let check: for<'c> fn(&'c Scene, String) -> BoxFuture<'c, ()> = $clean;
                    check(&self.0, self.1.lock().await.clone()).await;
                })
            }
            fn assert_done(&self) -> BoxFuture<'_, ()> {
                Box::pin(async move {
                    self.0.cloud.settle().await;
                    let check: for<'c> fn(&'c Scene, String) -> BoxFuture<'c, ()> = $done;
                    check(&self.0, self.1.lock().await.clone()).await;
                })
            }
        }
    };
}

scene!(
    Creating,
    ServerCreate,
    ServerCreate,
    async { Scene { cloud: Cloud::new(2).await, server: String::new() } },
    |scene| Box::pin(async move {
        let id = scene.cloud.boot("web").await;
        let workflow = scene.newest(&id).await;
        (id, workflow)
    }),
    |scene, id| Box::pin(async move {
        let server = scene.cloud.server(&id).await;
        assert_eq!(server["status"], "ERROR", "{server}");
        assert!(server["fault"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(server["OS-EXT-STS:task_state"], Value::Null);
        assert_eq!(scene.cloud.leftovers().await, []);
        assert_eq!(scene.cloud.claims().await, (0, Vec::new()));
    }),
    |scene, id| Box::pin(async move {
        let server = scene.cloud.server(&id).await;
        assert_eq!(server["status"], "ACTIVE", "{server}");
        assert_eq!(scene.cloud.server_documents(&id).await.len(), 1);
        assert_eq!(scene.cloud.claims().await, (1, Vec::new()));
        assert_eq!(scene.cloud.ports().await, 1);
    })
);
trio!(server_create_faults, Creating);

scene!(
    Deleting,
    ServerDelete,
    ServerDelete,
    Scene::running(),
    |scene| Box::pin(async move {
        let path = format!("/compute/v2.1/servers/{}", scene.server);
        scene.cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
        (scene.server.clone(), scene.newest(&scene.server).await)
    }),
    |_, _| Box::pin(async { unreachable!("a delete is never undone") }),
    |scene, id| Box::pin(async move {
        let path = format!("/compute/v2.1/servers/{id}");
        scene.cloud.call(Method::GET, &path, Value::Null, "member").await.expect(404);
        assert_eq!(scene.cloud.leftovers().await, []);
        assert_eq!(scene.cloud.claims().await, (0, Vec::new()));
        assert_eq!((scene.cloud.ports().await, scene.cloud.used("instances").await), (0, 0));
    })
);
trio!(server_delete_faults, Deleting);

scene!(
    Stopping,
    ServerStop,
    |_| ServerStop,
    Scene::running(),
    |scene| Box::pin(
        async move { (scene.server.clone(), scene.act(json!({"os-stop": null})).await) }
    ),
    |scene, _| Box::pin(scene.assert_healthy("ACTIVE", "running")),
    |scene, _| Box::pin(scene.assert_healthy("SHUTOFF", "stopped"))
);
trio!(server_stop_faults, Stopping);

scene!(
    Starting,
    ServerStart,
    |_| ServerStart,
    Scene::stopped(),
    |scene| Box::pin(
        async move { (scene.server.clone(), scene.act(json!({"os-start": null})).await) }
    ),
    |scene, _| Box::pin(scene.assert_healthy("SHUTOFF", "stopped")),
    |scene, _| Box::pin(scene.assert_healthy("ACTIVE", "running"))
);
trio!(server_start_faults, Starting);

scene!(
    Rebooting,
    ServerReboot,
    |_| ServerReboot,
    Scene::running(),
    |scene| Box::pin(async move {
        (scene.server.clone(), scene.act(json!({"reboot": {"type": "HARD"}})).await)
    }),
    |scene, _| Box::pin(scene.assert_healthy("ACTIVE", "running")),
    |scene, _| Box::pin(async move {
        scene.assert_healthy("ACTIVE", "running").await;
        assert_eq!(scene.cloud.operations().len(), 1, "restarted once");
    })
);
trio!(server_reboot_faults, Rebooting);

scene!(
    RebootingStopped,
    ServerReboot,
    |_| ServerReboot,
    Scene::stopped(),
    |scene| Box::pin(async move {
        (scene.server.clone(), scene.act(json!({"reboot": {"type": "HARD"}})).await)
    }),
    |scene, _| Box::pin(scene.assert_healthy("SHUTOFF", "stopped")),
    |scene, _| Box::pin(scene.assert_healthy("ACTIVE", "running"))
);
trio!(server_reboot_from_stopped_faults, RebootingStopped);
