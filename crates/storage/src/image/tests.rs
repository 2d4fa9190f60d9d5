//! Images through their service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloud_types::{Fault, ImageId, ProjectId, TestClock, Timestamp};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, Origin, Tx};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Filters, FixedTokens, Kit, KitConfig, Policy, Service, Token};
use sha2::Digest;

use super::files::FileStore;
use super::model::{Image, ImageStatus, Visibility};
use super::service::Images;

/// A queued image.
pub fn image() -> Image {
    Image {
        id: ImageId::random(),
        owner: "p1".parse().unwrap(),
        name: Some("old".into()),
        status: ImageStatus::Queued,
        visibility: Visibility::Shared,
        disk_format: None,
        container_format: None,
        size: None,
        virtual_size: None,
        checksum: None,
        sha512: None,
        sha256: None,
        min_disk: 0,
        min_ram: 0,
        protected: false,
        hidden: false,
        properties: BTreeMap::new(),
        tags: Vec::new(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        generation: 1,
    }
}

/// A service over an empty database and a directory of its own.
struct World {
    db: Database,
    images: Images,
    policy: Arc<Policy>,
    directory: tempfile::TempDir,
    clock: TestClock,
    _test: TestDatabase,
}

impl World {
    async fn on_sqlite() -> Self {
        Self::on(TestDatabase::sqlite(&[service_kit::MIGRATIONS, crate::MIGRATIONS]).await)
    }

    async fn on_postgres() -> Self {
        Self::on(TestDatabase::postgres(&[service_kit::MIGRATIONS, crate::MIGRATIONS]).await)
    }

    fn on(test: TestDatabase) -> Self {
        let (db, clock) = (test.db.clone(), test.clock.clone());
        let policy = Policy::new(&[super::POLICY]).unwrap();
        let verifier = Arc::new(FixedTokens::default());
        let kit = Kit::new(db.clone(), policy, verifier, KitConfig::default());
        let directory = tempfile::tempdir().unwrap();
        let files = FileStore::open(directory.path()).unwrap();
        let policy = kit.policy.clone();
        World {
            db,
            images: Images::new(kit, Arc::new(files)),
            policy,
            directory,
            clock,
            _test: test,
        }
    }

    fn ctx(&self, project: &str, role: &str) -> Ctx {
        Ctx::internal(Service::Image, "req-test", self.policy.clone())
            .with_token(Arc::new(Token::for_test("someone", Some(project), &[role])))
    }

    async fn create(&self, project: &str, attributes: Value) -> Image {
        let attributes = attributes.as_object().unwrap().clone();
        self.images.create(&self.ctx(project, "member"), attributes).await.unwrap()
    }

    async fn upload(&self, image: &Image, bytes: &'static [u8]) -> Result<(), Fault> {
        let body = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(bytes))]);
        let ctx = self.ctx(image.owner.as_str(), "member");
        self.images.upload(&ctx, image.id, body).await
    }

    /// Runs a closure in a transaction of its own.
    async fn transact<F>(&self, closure: F) -> Result<(), Fault>
    where
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<(), Fault>> + Send + Sync + 'static,
    {
        self.db.transact(&Origin::system("test"), closure).await
    }

    async fn status(&self, image: &Image) -> ImageStatus {
        let ctx = self.ctx(image.owner.as_str(), "member");
        self.images.get(&ctx, image.id).await.unwrap().status
    }

    /// Names of all files that the store holds.
    fn files(&self) -> Vec<String> {
        ["incoming", "images"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(self.directory.path().join(folder)).unwrap())
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn raw() -> Value {
    json!({"name": "disk", "disk_format": "raw", "container_format": "bare"})
}

/// Makes each test two: on a SQLite file, and on PostgreSQL.
macro_rules! on_both {
    ($(async fn $name:ident($world:ident: World) $body:block)*) => {
        $(async fn $name($world: World) $body)*
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::World::on_postgres().await).await;
            })*
        }
    };
}

on_both! {
async fn a_file_is_taken_in_whole_and_read_back(world: World) {
    let image = world.create("p1", raw()).await;
    world.upload(&image, b"bytes of a disk").await.unwrap();
    let ctx = world.ctx("p1", "member");
    let (image, file) = world.images.download(&ctx, image.id).await.unwrap().unwrap();
    let read: Vec<Bytes> = file.stream.try_collect().await.unwrap();
    assert_eq!(read.concat(), b"bytes of a disk");
    assert_eq!(image.size, Some(15));
    assert_eq!(image.sha256.unwrap(), hex::encode(sha2::Sha256::digest(b"bytes of a disk")));
}

async fn a_file_of_another_format_leaves_the_image_queued_and_nothing_behind(world: World) {
    let image = world.create("p1", raw()).await;
    let fault = world.upload(&image, b"QFI\xfb and so on").await.unwrap_err();
    assert_eq!(fault.status(), 400);
    assert!(fault.message.contains("qcow2"), "{fault}");
    assert_eq!(world.status(&image).await, ImageStatus::Queued);
    assert!(world.files().is_empty());
    world.upload(&image, b"a real one").await.unwrap();
    assert_eq!(world.upload(&image, b"again").await.unwrap_err().status(), 409);
}

async fn an_upload_that_stops_half_way_can_be_made_again(world: World) {
    let image = world.create("p1", raw()).await;
    let body = futures::stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err(std::io::Error::other("the connection was reset")),
    ]);
    let fault = world.images.upload(&world.ctx("p1", "member"), image.id, body).await.unwrap_err();
    assert!(fault.message.contains("stopped before its end"), "{fault}");
    assert_eq!(world.status(&image).await, ImageStatus::Queued);
    assert!(world.files().is_empty());
}

async fn an_upload_whose_process_died_is_swept_up(world: World) {
    let image = world.create("p1", raw()).await;
    // A body that never ends, dropped in the middle: no code of the upload runs after it.
    let ctx = world.ctx("p1", "member");
    let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"half"))]);
    let dying = world.images.upload(&ctx, image.id, first.chain(futures::stream::pending()));
    tokio::select! {
        ended = dying => panic!("it should not end: {ended:?}"),
        () = async {
            while world.status(&image).await != ImageStatus::Saving || world.files().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    world.images.sweep().await.unwrap();
    assert_eq!(world.status(&image).await, ImageStatus::Saving, "it may still live");
    assert_eq!(world.files().len(), 1);
    world.clock.advance(super::model::UPLOAD_SILENCE + Duration::from_secs(1));
    world.images.sweep().await.unwrap();
    assert_eq!(world.status(&image).await, ImageStatus::Queued);
    assert!(world.files().is_empty());
}

async fn others_see_only_what_they_may(world: World) {
    let private = world.create("p1", json!({"visibility": "private"})).await;
    let community = world.create("p1", json!({"visibility": "community"})).await;
    let shared = world.create("p1", json!({})).await;
    let other = world.ctx("p2", "member");
    let admin = world.ctx("p3", "admin");
    let listed = async |ctx: &Ctx, query: &str| -> Vec<ImageId> {
        let filters = Filters::parse(query).unwrap();
        let (found, _) = world.images.list(ctx, &filters).await.unwrap();
        found.into_iter().map(|image| image.id).collect()
    };
    assert!(listed(&other, "").await.is_empty());
    assert_eq!(listed(&other, "visibility=community").await, [community.id]);
    assert_eq!(world.images.get(&other, private.id).await.unwrap_err().status(), 404);
    assert!(world.images.get(&other, community.id).await.is_ok());
    assert_eq!(listed(&admin, "").await.len(), 3);

    let owner = world.ctx("p1", "member");
    let member: ProjectId = "p2".parse().unwrap();
    world.images.set_member(&owner, shared.id, member.clone(), true).await.unwrap();
    assert!(listed(&other, "").await.is_empty(), "not accepted yet");
    assert_eq!(listed(&other, "member_status=pending").await, [shared.id]);
    world.images.answer_member(&other, shared.id, member, "accepted".into()).await.unwrap();
    assert_eq!(listed(&other, "").await, [shared.id]);
    assert_eq!(world.images.delete(&other, shared.id).await.unwrap_err().status(), 403);
}

async fn only_an_administrator_makes_an_image_public(world: World) {
    let attributes = json!({"visibility": "public"}).as_object().unwrap().clone();
    let member = world.ctx("p1", "member");
    let fault = world.images.create(&member, attributes.clone()).await.unwrap_err();
    assert_eq!(fault.status(), 403);
    let reader = world.ctx("p1", "reader");
    assert_eq!(world.images.create(&reader, Map::new()).await.unwrap_err().status(), 403);
    assert!(world.images.create(&world.ctx("p1", "admin"), attributes).await.is_ok());
}

async fn pages_follow_one_another_without_gap_or_repetition(world: World) {
    for number in 0..7 {
        world.create("p1", json!({"name": format!("n{}", number % 3)})).await;
    }
    let ctx = world.ctx("p1", "member");
    let (mut seen, mut marker) = (Vec::new(), String::new());
    loop {
        let filters = Filters::parse(&format!("limit=2&sort=name:asc{marker}")).unwrap();
        let (page, next) = world.images.list(&ctx, &filters).await.unwrap();
        seen.extend(page.into_iter().map(|image| (image.name.unwrap_or_default(), image.id)));
        match next {
            Some(id) => marker = format!("&marker={id}"),
            None => break,
        }
    }
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["n0", "n0", "n0", "n1", "n1", "n2", "n2"]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7);
}

async fn deleting_removes_row_and_file_unless_protected(world: World) {
    let image = world.create("p1", raw()).await;
    world.upload(&image, b"bytes").await.unwrap();
    let ctx = world.ctx("p1", "member");
    let protect = |on: bool| {
        serde_json::from_value(json!([{"op": "replace", "path": "/protected", "value": on}]))
            .unwrap()
    };
    world.images.update(&ctx, image.id, protect(true)).await.unwrap();
    assert_eq!(world.images.delete(&ctx, image.id).await.unwrap_err().status(), 403);
    world.images.update(&ctx, image.id, protect(false)).await.unwrap();
    world.images.delete(&ctx, image.id).await.unwrap();
    assert_eq!(world.images.get(&ctx, image.id).await.unwrap_err().status(), 404);
    assert!(world.files().is_empty());
}

async fn a_deleted_images_file_stays_for_the_builds_that_hold_it(world: World) {
    let image = world.create("p1", raw()).await;
    world.upload(&image, b"bytes").await.unwrap();
    let id = image.id;
    let hold = |holder: &'static str| {
        world.transact(move |tx| Box::pin(async move { Images::hold(tx, &id, holder).await }))
    };
    let let_go = |holder: &'static str| {
        world.transact(move |tx| Box::pin(async move { Images::let_go(tx, holder).await }))
    };
    hold("one").await.unwrap();
    hold("two").await.unwrap();
    world.images.delete(&world.ctx("p1", "member"), id).await.unwrap();
    assert_eq!(hold("three").await.unwrap_err().status(), 400);
    for holder in ["one", "two"] {
        world.images.sweep().await.unwrap();
        assert_eq!(world.images.open_file(id).await.unwrap().size_bytes, 5, "{holder} needs it");
        let_go(holder).await.unwrap();
    }
    world.images.sweep().await.unwrap();
    assert_eq!(world.images.open_file(id).await.err().unwrap().status(), 404);
    assert!(world.files().is_empty());
}

async fn an_upload_that_comes_back_from_the_dead_cannot_write_over_its_successor(world: World) {
    let image = world.create("p1", raw()).await;
    let ctx = world.ctx("p1", "member");
    let (send, receive) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    send.unbounded_send(Ok(Bytes::from_static(b"the first"))).unwrap();
    let stalled = world.images.upload(&ctx, image.id, receive);
    futures::pin_mut!(stalled);
    tokio::select! {
        ended = &mut stalled => panic!("it should not end: {ended:?}"),
        () = async {
            while world.status(&image).await != ImageStatus::Saving || world.files().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    world.clock.advance(super::model::UPLOAD_SILENCE + Duration::from_secs(1));
    // As after a sweep that could not remove the file: the stalled upload still has it open.
    world.images.sweep().await.unwrap();
    world.upload(&image, b"the second").await.unwrap();
    drop(send);
    assert!(stalled.await.is_err());
    let (shown, file) = world.images.download(&ctx, image.id).await.unwrap().unwrap();
    let read: Vec<Bytes> = file.stream.try_collect().await.unwrap();
    assert_eq!(read.concat(), b"the second");
    assert_eq!(shown.sha256.unwrap(), hex::encode(sha2::Sha256::digest(b"the second")));
    assert_eq!(world.files().len(), 1, "and left nothing behind");
}

async fn a_project_has_room_for_so_many_images_and_bytes(world: World) {
    let project: ProjectId = "p1".parse().unwrap();
    let limit = async |resource: &'static str, limit: i64| {
        let project = project.clone();
        world
            .db
            .transact(&database::Origin::system("test"), move |tx| {
                let project = project.clone();
                Box::pin(async move {
                    service_kit::quota::set_limit(tx, &project, resource, Some(limit)).await
                })
            })
            .await
            .unwrap();
    };
    limit("image_count_total", 2).await;
    limit("image_size_total", 1).await;
    let image = world.create("p1", raw()).await;
    let second = world.create("p1", raw()).await;
    let ctx = world.ctx("p1", "member");
    let third = world.images.create(&ctx, raw().as_object().unwrap().clone()).await;
    assert_eq!(third.unwrap_err().status(), 413);
    const LARGE: &[u8] = &[7; (1 << 20) + 1];
    assert_eq!(world.upload(&image, LARGE).await.unwrap_err().status(), 413);
    assert_eq!(world.status(&image).await, ImageStatus::Queued);
    assert!(world.files().is_empty());
    world.upload(&image, b"small").await.unwrap();
    assert_eq!(world.upload(&second, b"small").await.unwrap_err().status(), 413);
    world.images.delete(&ctx, image.id).await.unwrap();
    world.upload(&second, b"small").await.unwrap();
    let usage = world.images.usage(&ctx).await.unwrap();
    assert_eq!(usage.iter().map(|one| one.in_use).collect::<Vec<_>>(), [1, 1]);
}

async fn an_administrator_gives_an_image_away(world: World) {
    let image = world.create("p1", raw()).await;
    let give = |to: &str| {
        serde_json::from_value(json!([{"op": "replace", "path": "/owner", "value": to}])).unwrap()
    };
    let owner = world.ctx("p1", "member");
    let fault = world.images.update(&owner, image.id, give("p2")).await.unwrap_err();
    assert_eq!(fault.status(), 403);
    let admin = world.ctx("p3", "admin");
    let given = world.images.update(&admin, image.id, give("p2")).await.unwrap();
    assert_eq!(given.owner.as_str(), "p2");
    assert_eq!(world.images.get(&owner, image.id).await.unwrap_err().status(), 404);
    let usage = world.images.usage(&owner).await.unwrap();
    assert_eq!(usage[0].in_use, 0);
}

async fn names_that_the_service_keeps_are_refused(world: World) {
    let ctx = world.ctx("p1", "member");
    let attributes = json!({"os_glance_x": "y"}).as_object().unwrap().clone();
    assert_eq!(world.images.create(&ctx, attributes).await.unwrap_err().status(), 403);
    let image = world.create("p1", raw()).await;
    let patch = json!([{"op": "add", "path": "/os_glance_x", "value": "y"}]);
    let patch = serde_json::from_value(patch).unwrap();
    assert_eq!(world.images.update(&ctx, image.id, patch).await.unwrap_err().status(), 403);
}
}
