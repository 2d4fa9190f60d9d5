//! Secrets that have to be kept are sealed where they are stored: of programs, directories and
//! OpenID clients. Keys that seal can be replaced under all of them.

use zeroize::Zeroizing;

use super::resources::{pair, signed};
use super::*;
use crate::domain_config;
use crate::federation::model::{Keep, Word};

on_both! {
    what_is_kept_secret_is_sealed_where_it_is_stored,
    what_an_earlier_release_kept_as_it_is_works_and_is_sealed,
    a_new_key_takes_over_all_that_older_ones_sealed,
    a_secret_whose_key_is_lost_can_be_set_again,
}

const CONFIG: &str = "/v3/domains/default/config";
const PROVIDER: &str = "/v3/OS-FEDERATION/identity_providers/corp";
const TABLES: [&str; 6] = [
    "identity_consumers",
    "identity_request_tokens",
    "identity_access_tokens",
    "identity_domain_config",
    "identity_federation_protocols",
    "identity_federated_sessions",
];

/// One secret in every place.
struct Kept {
    admin: String,
    /// A consumer, and a request token of it.
    consumer: (String, String),
    request: (String, String),
    access: (String, String),
    credential: String,
}

impl Kept {
    async fn on(cloud: &Cloud) -> Kept {
        // For clients of providers; each test is a process of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let admin = cloud.admin().await;
        let body = json!({"consumer": {"description": "a program"}});
        let made = cloud.call(&admin, "POST", "/v3/OS-OAUTH1/consumers", body).await.expect(201);
        let own = |name: &str| made.body["consumer"][name].as_str().unwrap().to_owned();
        let consumer = (own("id"), own("secret"));
        let access = Kept::authorised(cloud, &admin, &consumer).await;
        let request = Kept::asked(cloud, &consumer).await.unwrap();
        let config = json!({"config": {"identity": {"driver": "ldap"}, "ldap": {
            "url": "ldap://127.0.0.1:1", "user": "cn=reader", "password": "directory-secret"}}});
        cloud.call(&admin, "PUT", CONFIG, config).await.expect(201);
        let put = async |path: String, body: Value, status: u16| {
            cloud.call(&admin, "PUT", &path, body).await.expect(status);
        };
        let rules = json!([{"local": [{"user": {"name": "{0}"}}],
                            "remote": [{"type": "OIDC-sub"}]}]);
        let mapping = json!({"mapping": {"rules": rules}});
        put("/v3/OS-FEDERATION/mappings/people".into(), mapping, 201).await;
        let body = json!({"identity_provider": {"enabled": true}});
        put(PROVIDER.into(), body, 201).await;
        let protocol = format!("{PROVIDER}/protocols/openid");
        put(protocol.clone(), json!({"protocol": {"mapping_id": "people"}}), 201).await;
        let client = json!({"openid_client": {"issuer": "https://login.example.org",
            "client_id": "cloud", "client_secret": "client-secret"}});
        put(format!("{protocol}/openid_client"), client, 200).await;
        let entrance = cloud.identity.entrance("corp", "openid").await.unwrap();
        let word = Word {
            assertion: [("OIDC-sub".to_owned(), vec!["ada".to_owned()])].into(),
            subject: "ada".into(),
            provider_session: None,
            keep: Keep::Refresh(Zeroizing::new("refresh-secret".into())),
            ends_at: None,
        };
        cloud.identity.log_in_by(&entrance, word).await.unwrap();
        let body = json!({"credential": {"type": "cert", "blob": "blob-secret",
                                         "user_id": cloud.made.admin_user}});
        let made = cloud.call(&admin, "POST", "/v3/credentials", body).await.expect(201);
        let credential = made.body["credential"]["id"].as_str().unwrap().to_owned();
        Kept { admin, consumer, request, access, credential }
    }

    /// A request token.
    async fn asked(
        cloud: &Cloud,
        consumer: &(String, String),
    ) -> Result<(String, String), StatusCode> {
        let more = [("oauth_callback", "oob")];
        let path = "/v3/OS-OAUTH1/request_token";
        let mut ask = signed(path, &consumer.0, &consumer.1, None, &more);
        let project = cloud.made.admin_project.to_string();
        ask.headers_mut().insert("requested-project-id", project.parse().unwrap());
        pair(cloud, ask).await
    }

    /// An access token.
    async fn authorised(
        cloud: &Cloud,
        admin: &str,
        consumer: &(String, String),
    ) -> (String, String) {
        let request = Kept::asked(cloud, consumer).await.unwrap();
        Kept::exchanged(cloud, admin, consumer, &request).await
    }

    async fn exchanged(
        cloud: &Cloud,
        admin: &str,
        consumer: &(String, String),
        request: &(String, String),
    ) -> (String, String) {
        let path = format!("/v3/OS-OAUTH1/authorize/{}", request.0);
        let roles = json!({"roles": [{"name": "member"}]});
        let answer = cloud.call(admin, "PUT", &path, roles).await.expect(200);
        let verifier = answer.body["token"]["oauth_verifier"].as_str().unwrap().to_owned();
        let (path, token) = ("/v3/OS-OAUTH1/access_token", (&*request.0, &*request.1));
        let more = [("oauth_verifier", verifier.as_str())];
        pair(cloud, signed(path, &consumer.0, &consumer.1, Some(token), &more)).await.unwrap()
    }

    /// Everything that was kept is still what it was.
    async fn check(&self, cloud: &Cloud) {
        let token = Kept::exchanged(cloud, &self.admin, &self.consumer, &self.request).await;
        assert_ne!(token, self.access);
        let user = cloud.made.admin_user.to_string();
        let path = format!("/v3/users/{user}/OS-OAUTH1/access_tokens/{}", self.access.0);
        cloud.get(&self.admin, &path).await.expect(200);
        let opened = cloud.identity.directory_of(&"default".parse().unwrap()).await.unwrap();
        assert_eq!(opened.unwrap().settings.password, "directory-secret");
        let speaking = cloud.identity.speaking("corp", "openid").await.unwrap();
        assert_eq!(speaking.secret.unwrap().as_str(), "client-secret");
        let path = format!("/v3/credentials/{}", self.credential);
        let shown = cloud.get(&self.admin, &path).await.expect(200);
        assert_eq!(shown.body["credential"]["blob"], "blob-secret");
        let sessions = cloud.db.read(|tx| {
            Box::pin(async move {
                crate::federation::store::sessions_of(tx, "corp", "openid", None, None).await
            })
        });
        let session = &sessions.await.unwrap()[0];
        let name = crate::federation::model::Session::seal_name(&session.chain);
        let vault = cloud.identity.tokens.vault();
        let word = vault.open_sealed(&name, session.word.as_ref().unwrap()).unwrap();
        assert_eq!(word.as_str(), "refresh-secret");
    }

    fn secrets(&self) -> Vec<String> {
        let known = ["directory-secret", "client-secret", "refresh-secret", "blob-secret"];
        let made = [&self.consumer.1, &self.request.1, &self.access.1];
        known.map(str::to_owned).into_iter().chain(made.into_iter().cloned()).collect()
    }
}

/// All that stands in the tables that have secrets, texts and bytes.
async fn stored(cloud: &Cloud) -> String {
    let read = cloud.db.read(|tx| {
        Box::pin(async move {
            let mut text = String::new();
            for table in TABLES.into_iter().chain(["identity_credentials"]) {
                let rows = tx.query_dynamic(format!("SELECT * FROM {table}"), &[]).await?;
                assert!(!rows.is_empty(), "nothing in {table}");
                text.push_str(&format!("{rows:?}"));
            }
            Ok::<_, database::DatabaseError>(text)
        })
    });
    read.await.unwrap()
}

async fn change(cloud: &Cloud, sql: &'static str) {
    let origin = database::Origin::system("test");
    let changed =
        cloud.db.transact(&origin, move |tx| Box::pin(async move { tx.execute(sql, &[]).await }));
    assert_eq!(changed.await.unwrap(), 1, "{sql}");
}

async fn what_is_kept_secret_is_sealed_where_it_is_stored(cloud: Cloud) {
    let kept = Kept::on(&cloud).await;
    let text = stored(&cloud).await;
    kept.check(&cloud).await;
    assert!(text.contains("ldap://127.0.0.1:1"), "what is no secret stands there as it is");
    for secret in kept.secrets() {
        let digits: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        assert!(!text.contains(&secret) && !text.contains(&digits.join(", ")), "{secret}");
    }
    // The API and the journal say of the directory's password that it is none of anybody's business.
    let shown = cloud.get(&kept.admin, CONFIG).await.expect(200);
    assert_eq!(shown.body["config"]["ldap"].get("password"), None);
    let one = cloud.get(&kept.admin, &format!("{CONFIG}/ldap/password")).await;
    assert_ne!(one.status, 200);
    // Another option changes, and the password stays.
    let body = json!({"config": {"ldap": {"user": "cn=other"}}});
    cloud.call(&kept.admin, "PATCH", CONFIG, body).await.expect(200);
    let body = json!({"password": "another"});
    let path = format!("{CONFIG}/ldap/password");
    cloud.call(&kept.admin, "PATCH", &path, json!({"config": body})).await.expect(200);
    let opened = cloud.db.read({
        let vault = cloud.identity.tokens.vault();
        move |tx| {
            let vault = vault.clone();
            Box::pin(async move { domain_config::store::opened(tx, &vault, "default").await })
        }
    });
    assert_eq!(opened.await.unwrap()["ldap"]["password"], "another");
}

async fn what_an_earlier_release_kept_as_it_is_works_and_is_sealed(cloud: Cloud) {
    let kept = Kept::on(&cloud).await;
    // As they were: the secrets beside the sealed column, which is empty.
    for sql in [
        "UPDATE identity_consumers SET sealed = NULL, secret = 'old-consumer'",
        "UPDATE identity_access_tokens SET sealed = NULL, secret = 'old-access'",
        "UPDATE identity_request_tokens SET sealed = NULL, secret = 'old-request'",
        "UPDATE identity_domain_config SET sealed = NULL, option_value = '\"old-directory\"'
         WHERE option_group = 'ldap' AND option_name = 'password'",
    ] {
        change(&cloud, sql).await;
    }
    let consumer = (kept.consumer.0.clone(), "old-consumer".to_owned());
    let password = async || {
        let opened = cloud.identity.directory_of(&"default".parse().unwrap()).await.unwrap();
        opened.unwrap().settings.password.clone()
    };
    for round in 0..2 {
        let another = Kept::asked(&cloud, &consumer).await.unwrap();
        Kept::exchanged(&cloud, &kept.admin, &consumer, &another).await;
        assert_eq!(password().await, "old-directory");
        if round == 0 {
            let vault = cloud.identity.tokens.vault();
            assert_eq!(crate::vault::seal_plain(&cloud.db, &vault).await.unwrap(), 4);
            assert_eq!(crate::vault::seal_plain(&cloud.db, &vault).await.unwrap(), 0);
            let text = stored(&cloud).await;
            assert!(!text.contains("old-"), "{text}");
        }
    }
    let old = (kept.request.0.clone(), "old-request".to_owned());
    Kept::exchanged(&cloud, &kept.admin, &consumer, &old).await;
}

async fn a_new_key_takes_over_all_that_older_ones_sealed(cloud: Cloud) {
    let kept = Kept::on(&cloud).await;
    let KeySource::Directory(directory) = cloud.keys.clone() else { unreachable!() };
    let now = cloud.db.clock().now();
    crate::rotate_credential_keys(&directory, now, Duration::from_secs(60)).unwrap();
    cloud.clock.advance(Duration::from_secs(121));
    let done = crate::reseal(&cloud.db, &directory).await.unwrap();
    assert_eq!((done.secrets, done.removed), (7, vec![1]));
    let again = crate::reseal(&cloud.db, &directory).await.unwrap();
    assert_eq!(again, crate::Resealed::default());
    // A process that knows the new key only.
    let tokens = Tokens::open(&cloud.db, &cloud.keys).await.unwrap();
    let policy = Policy::new(&[POLICY]).unwrap();
    let kit = Kit::new(cloud.db.clone(), policy, tokens.clone(), KitConfig::default());
    let settings = IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
    let identity = Identity::new(kit.clone(), tokens, settings);
    let app = App::new(kit, vec![routes(identity.clone())]).unwrap();
    kept.check(&Cloud { app, identity, ..cloud }).await;
}

async fn a_secret_whose_key_is_lost_can_be_set_again(cloud: Cloud) {
    Kept::on(&cloud).await;
    let cloud = cloud.restarted(|_| {}).await;
    let admin = cloud.admin().await;
    let lost = cloud.identity.directory_of(&"default".parse().unwrap()).await;
    assert_eq!(lost.map(|_| ()).unwrap_err().status(), 500);
    // What is no secret is seen, and all can be written anew.
    let shown = cloud.get(&admin, CONFIG).await.expect(200);
    assert_eq!(shown.body["config"]["ldap"]["user"], "cn=reader");
    let path = format!("{CONFIG}/ldap/password");
    let body = json!({"config": {"password": "found-again"}});
    cloud.call(&admin, "PATCH", &path, body).await.expect(200);
    let opened = cloud.identity.directory_of(&"default".parse().unwrap()).await.unwrap();
    assert_eq!(opened.unwrap().settings.password, "found-again");
    let path = format!("{PROVIDER}/protocols/openid/openid_client");
    let client = json!({"openid_client": {"issuer": "https://login.example.org",
        "client_id": "cloud", "client_secret": "found-again"}});
    cloud.call(&admin, "PUT", &path, client).await.expect(200);
    assert!(cloud.identity.speaking("corp", "openid").await.is_ok());
    let consumers = cloud.get(&admin, "/v3/OS-OAUTH1/consumers").await.expect(200);
    let id = consumers.body["consumers"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v3/OS-OAUTH1/consumers/{id}");
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
}
