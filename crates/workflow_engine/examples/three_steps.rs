//! A whole workflow: a lamp gets a socket, is wired by an electrician, and is switched on.
//! Run with `cargo run -p workflow_engine --example three_steps`; its fault tests stand below.

use std::{sync::Arc, time::Duration};

use cloud_types::{Fault, SystemClock};
use database::{BoxFuture, Database, DatabaseConfig, Origin, Tx, params};
use serde::{Deserialize, Serialize};
use workflow_engine::{End, Engine, EngineConfig, EventKey, Outcome, Start, Step, Workflow};

/// Puts up one lamp.
struct LampInstall;

#[derive(Clone, Serialize, Deserialize)]
struct Lamp {
    id: String,
}

impl Workflow for LampInstall {
    const KIND: &'static str = "lamp_install";
    const VERSION: u32 = 1;
    type State = Lamp;

    fn steps(&self) -> Vec<Step<Self>> {
        vec![
            Step::<Self>::new("take_socket", 10, "Finding a free socket")
                .forward(|_, c, lamp| {
                    Box::pin(async move {
                        // Looks first: the step may have run before.
                        let taken = "UPDATE sockets SET lamp = $1 WHERE id = (SELECT MIN(id) FROM
                         sockets WHERE lamp IS NULL OR lamp = $1)";
                        match c.tx.execute(taken, &params![lamp.id]).await? {
                            0 => Err(Fault::conflict("No socket is free. Remove a lamp first.")),
                            _ => Ok(Outcome::Done),
                        }
                    })
                })
                .undo(|_, c, lamp| {
                    Box::pin(async move {
                        let free = "UPDATE sockets SET lamp = NULL, wired = 0 WHERE lamp = $1";
                        c.tx.execute(free, &params![lamp.id]).await?;
                        Ok(Outcome::Done)
                    })
                }),
            Step::<Self>::new("wire", 40, "Waiting for the electrician").forward(|_, c, lamp| {
                Box::pin(async move {
                    let wired = "SELECT wired FROM sockets WHERE lamp = $1";
                    if c.tx.query_one(wired, &params![lamp.id]).await?.bool("wired")? {
                        return Ok(Outcome::Done);
                    }
                    let event = EventKey::new("lamp", &lamp.id);
                    Ok(Outcome::Wait { event, timeout: Duration::from_secs(600) })
                })
            }),
            Step::<Self>::new("switch_on", 90, "Switching on").forward(|_, c, lamp| {
                Box::pin(async move {
                    let on = "INSERT INTO lit (lamp) VALUES ($1) ON CONFLICT DO NOTHING";
                    c.tx.execute(on, &params![lamp.id]).await?;
                    Ok(Outcome::Done)
                })
            }),
        ]
    }

    fn point_of_no_return(&self) -> Option<&'static str> {
        Some("switch_on")
    }

    fn deadline(&self) -> (Duration, &'static str) {
        (Duration::from_secs(3600), "an electrician comes within the hour")
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        lamp: &'c Lamp,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            let status = if *end == End::Succeeded { "on" } else { "failed" };
            let set = "UPDATE lamps SET status = $1 WHERE id = $2";
            tx.execute(set, &params![status, lamp.id]).await?;
            Ok(())
        })
    }
}

async fn accept(db: &Database, workflow: Arc<LampInstall>) -> cloud_types::WorkflowId {
    db.transact(&Origin::system("example"), move |tx| {
        let workflow = workflow.clone();
        Box::pin(async move {
            tx.execute("INSERT INTO lamps VALUES ('l1', 'building')", &[]).await?;
            let (state, request_id) = (Lamp { id: "l1".into() }, "req-1".to_owned());
            let (owner_kind, owner_id, project) = ("lamp", "l1".into(), None);
            let start = Start { state, owner_kind, owner_id, project, request_id };
            workflow_engine::start(tx, workflow.as_ref(), start).await
        })
    })
    .await
    .unwrap()
}

/// What the outside does: the electrician wires whatever is plugged in.
async fn electrician(db: &Database) {
    db.transact(&Origin::system("electrician"), |tx| {
        Box::pin(async move {
            tx.execute("UPDATE sockets SET wired = 1 WHERE lamp IS NOT NULL", &[]).await?;
            workflow_engine::wake(tx, &EventKey::new("lamp", "l1")).await
        })
    })
    .await
    .unwrap();
}

const TABLES: database::MigrationSet = database::MigrationSet {
    service: "lamps",
    migrations: &[database::Migration {
        number: 1,
        name: "lamps",
        sql: "CREATE TABLE lamps (id TEXT PRIMARY KEY, status TEXT);
              CREATE TABLE lit (lamp TEXT PRIMARY KEY);
              CREATE TABLE sockets (id BIGINT PRIMARY KEY, lamp TEXT, wired BIGINT);
              INSERT INTO sockets VALUES (1, NULL, 0); INSERT INTO sockets VALUES (2, NULL, 0)",
    }],
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[workflow_engine::MIGRATIONS, TABLES]).await.unwrap();
    let (engine, workflow) =
        (Engine::new(db.clone(), EngineConfig::default()), Arc::new(LampInstall));
    engine.register(workflow.clone());
    let id = accept(&db, workflow).await;
    engine.run_until_idle().await.unwrap();
    electrician(&db).await;
    engine.run_until_idle().await.unwrap();
    let end = db.read(move |tx| Box::pin(async move { workflow_engine::get(tx, &id).await })).await;
    println!("{:?}", end.unwrap().unwrap().status);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud_types::{TestClock, WorkflowId};
    use workflow_engine::test_support::{self, World};

    struct Room(Database, TestClock);

    impl Room {
        /// (lamps taking a socket, lamps lit, status of the lamp)
        async fn look(&self) -> (i64, i64, String) {
            let look = "SELECT (SELECT COUNT(*) FROM sockets WHERE lamp IS NOT NULL) AS taken,
                 (SELECT COUNT(*) FROM lit) AS lit, status FROM lamps";
            let row = self.0.read(move |tx| Box::pin(async move { tx.query_one(look, &[]).await }));
            let row = row.await.unwrap();
            (row.int("taken").unwrap(), row.int("lit").unwrap(), row.text("status").unwrap())
        }
    }

    impl World for Room {
        type Workflow = LampInstall;
        fn create() -> BoxFuture<'static, Self> {
            Box::pin(async {
                let (db, clock) = test_support::database(&[TABLES]).await;
                Room(db, clock)
            })
        }
        fn database(&self) -> &Database {
            &self.0
        }
        fn clock(&self) -> &TestClock {
            &self.1
        }
        fn workflow(&self) -> Arc<LampInstall> {
            Arc::new(LampInstall)
        }
        fn begin(&self) -> BoxFuture<'_, WorkflowId> {
            Box::pin(accept(&self.0, self.workflow()))
        }
        fn drive(&self) -> BoxFuture<'_, ()> {
            Box::pin(electrician(&self.0))
        }
        fn assert_clean(&self) -> BoxFuture<'_, ()> {
            Box::pin(async { assert_eq!(self.look().await, (0, 0, "failed".to_owned())) })
        }
        fn assert_done(&self) -> BoxFuture<'_, ()> {
            Box::pin(async { assert_eq!(self.look().await, (1, 1, "on".to_owned())) })
        }
    }

    workflow_engine::trio!(lamp_install, Room);
}
