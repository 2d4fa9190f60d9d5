//! Quotas on a real database.

use database::test_support::{TestDatabase, databases};
use database::{Database, Origin};

use super::*;

const RESOURCES: &[QuotaDefault] = &[
    QuotaDefault { resource: "cores", limit: 20 },
    QuotaDefault { resource: "instances", limit: 3 },
];

/// Both databases, with the resources registered.
async fn places() -> Vec<TestDatabase> {
    let places = databases(&[crate::MIGRATIONS]).await;
    for place in &places {
        place
            .db
            .transact(&Origin::system("test"), |tx| {
                Box::pin(async move { register(tx, RESOURCES).await })
            })
            .await
            .unwrap();
    }
    places
}

async fn add(
    db: &Database,
    project: &str,
    deltas: &'static [(&'static str, i64)],
) -> Result<(), QuotaError> {
    let project: ProjectId = project.parse().unwrap();
    db.transact(&Origin::system("test"), move |tx| {
        let project = project.clone();
        Box::pin(async move { check_and_add_all(tx, &project, deltas).await })
    })
    .await
}

async fn in_use(db: &Database, project: &str) -> Vec<i64> {
    let project: ProjectId = project.parse().unwrap();
    db.read(move |tx| {
        let project = project.clone();
        Box::pin(async move { usage(tx, &project, &["cores", "instances"]).await })
    })
    .await
    .unwrap()
    .into_iter()
    .map(|usage: QuotaUsage| usage.in_use)
    .collect()
}

#[tokio::test]
async fn what_does_not_fit_leaves_nothing_behind() {
    for TestDatabase { db, .. } in &places().await {
        add(db, "p", &[("cores", 18), ("instances", 1)]).await.unwrap();
        let Err(QuotaError::Over(over)) = add(db, "p", &[("instances", 1), ("cores", 4)]).await
        else {
            panic!("22 cores of 20 were accepted");
        };
        assert_eq!(
            over,
            OverQuota { resource: "cores".into(), limit: 20, in_use: 18, requested: 4 }
        );
        assert_eq!(in_use(db, "p").await, [18, 1]);
        assert_eq!(in_use(db, "q").await, [0, 0]);
        add(db, "p", &[("cores", -18), ("instances", -1)]).await.unwrap();
        assert_eq!(in_use(db, "p").await, [0, 0]);
    }
}

#[tokio::test]
async fn an_unregistered_resource_has_no_room() {
    for TestDatabase { db, .. } in &places().await {
        assert!(matches!(add(db, "p", &[("coers", 1)]).await, Err(QuotaError::Over(_))));
    }
}

#[tokio::test]
async fn limits_of_a_project_win_over_defaults() {
    for TestDatabase { db, .. } in &places().await {
        db.transact(&Origin::system("test"), |tx| {
            Box::pin(async move {
                let project: ProjectId = "p".parse().unwrap();
                set_limit(tx, &project, "instances", Some(UNLIMITED)).await?;
                set_limit(tx, &project, "cores", Some(0)).await
            })
        })
        .await
        .unwrap();
        add(db, "p", &[("instances", 1000)]).await.unwrap();
        assert!(add(db, "p", &[("cores", 1)]).await.is_err());
        db.transact(&Origin::system("test"), |tx| {
            Box::pin(async move {
                set_limit(tx, &"p".parse().unwrap(), "cores", None).await?;
                register(tx, RESOURCES).await
            })
        })
        .await
        .unwrap();
        add(db, "p", &[("cores", 20)]).await.unwrap();
    }
}

#[tokio::test]
async fn contenders_fill_the_quota_exactly() {
    for TestDatabase { db, .. } in &places().await {
        let attempts = (0..50).map(|_| add(db, "p", &[("cores", 1)]));
        let results = futures::future::join_all(attempts).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
        assert_eq!(in_use(db, "p").await, [20, 0]);
    }
}
