//! What ends which tokens. One row for each thing that must end tokens; each is brought about in a
//! world of its own, in which there is a token of every kind, and then every token must be dead or
//! alive as the row says, here and in a process that starts afterwards. The clock stands still all
//! the while: a token that is got in the same instant, after what ended others, is good.
//!
//! A kind of token is added to `KINDS` and `World::token`; a row to `ROWS` and `World::bring_about`.

use cloud_types::UserId;

use super::*;
use crate::federation;
use crate::federation::model::{Keep, Word};
use crate::token::totp;

on_both!(every_cause_ends_its_tokens_and_no_others);

/// How a token was got, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unscoped,
    Project,
    Domain,
    System,
    /// For the project, from an unscoped token.
    Rescoped,
    /// For the project, with a code besides the password.
    Totp,
    ApplicationCredential,
    Ec2,
    /// The trustee in the trustor's name.
    Impersonated,
    /// The trustee in their own name.
    Trusted,
    /// Fay's, by her provider's word.
    Federated,
    /// For the project, from such a one.
    FederatedProject,
    /// By an application credential that Fay made, while the provider's word keeps her in the group.
    FederatedCredential,
}

use Kind::{
    ApplicationCredential, Domain, Ec2, Federated, FederatedCredential, FederatedProject,
    Impersonated, Project, Rescoped, System, Totp, Trusted, Unscoped,
};

const KINDS: [Kind; 13] = [
    Unscoped,
    Project,
    Domain,
    System,
    Rescoped,
    Totp,
    ApplicationCredential,
    Ec2,
    Impersonated,
    Trusted,
    Federated,
    FederatedProject,
    FederatedCredential,
];

/// All that rest on Ann.
const ANNS: &[Kind] = &[
    Unscoped,
    Project,
    Domain,
    System,
    Rescoped,
    Totp,
    ApplicationCredential,
    Ec2,
    Impersonated,
    Trusted,
];

/// All that rest on Fay.
const FAYS: &[Kind] = &[Federated, FederatedProject, FederatedCredential];

/// All that rest on something that Ann has in the project.
const ON_PROJECT: &[Kind] =
    &[Project, Rescoped, Totp, ApplicationCredential, Ec2, Impersonated, Trusted];

/// All that are for the project.
const FOR_PROJECT: &[Kind] = &[
    Project,
    Rescoped,
    Totp,
    ApplicationCredential,
    Ec2,
    Impersonated,
    Trusted,
    FederatedProject,
    FederatedCredential,
];

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Nothing,
    TokenRevoked,
    PasswordReset,
    PasswordChanged,
    UserDisabled,
    UserDeleted,
    UsersDomainDisabled,
    ProjectDisabled,
    ProjectDeleted,
    UsersRoleRemoved,
    GroupsRoleRemoved,
    InheritedRoleRemoved,
    GroupsInheritedRoleRemoved,
    ImplicationEnded,
    DomainRoleRemoved,
    SystemRoleRemoved,
    RoleDeleted,
    MembershipEnded,
    GroupDeleted,
    ApplicationCredentialDeleted,
    TrustDeleted,
    Ec2KeyDeleted,
    Ec2KeyChanged,
    TrusteeDisabled,
    TrusteeDeleted,
    TrusteesPasswordReset,
    ProviderDisabled,
    ProviderDeleted,
    /// The provider names the group no more when Fay comes again.
    ProvidersGroupEnded,
    /// The provider says that Fay logged out, or grants nothing any more.
    ProvidersLoginEnded,
    FederatedUserDisabled,
    FederatedUserDeleted,
}

/// Which tokens end.
const ROWS: [(Cause, &[Kind]); 32] = [
    (Cause::Nothing, &[]),
    (Cause::TokenRevoked, &[Project]),
    (Cause::PasswordReset, ANNS),
    (Cause::PasswordChanged, ANNS),
    (Cause::UserDisabled, ANNS),
    (Cause::UserDeleted, ANNS),
    (Cause::UsersDomainDisabled, &KINDS),
    (Cause::ProjectDisabled, FOR_PROJECT),
    (Cause::ProjectDeleted, FOR_PROJECT),
    (Cause::UsersRoleRemoved, ON_PROJECT),
    // Whoever had a role by a group or from above loses all tokens, also those that did not rest on
    // it: to find out which did would take a look at each.
    (Cause::GroupsRoleRemoved, &KINDS),
    (Cause::InheritedRoleRemoved, ANNS),
    (Cause::GroupsInheritedRoleRemoved, &KINDS),
    // Most only lose the role; those that name it end.
    (Cause::ImplicationEnded, &[ApplicationCredential]),
    (Cause::DomainRoleRemoved, &[Domain]),
    (Cause::SystemRoleRemoved, &[System]),
    (Cause::RoleDeleted, ANNS),
    (Cause::MembershipEnded, ANNS),
    (Cause::GroupDeleted, &KINDS),
    (Cause::ApplicationCredentialDeleted, &[ApplicationCredential]),
    (Cause::TrustDeleted, &[Impersonated]),
    (Cause::Ec2KeyDeleted, &[Ec2]),
    (Cause::Ec2KeyChanged, &[Ec2]),
    (Cause::TrusteeDisabled, &[Impersonated, Trusted]),
    (Cause::TrusteeDeleted, &[Impersonated, Trusted]),
    (Cause::TrusteesPasswordReset, &[Impersonated, Trusted]),
    (Cause::ProviderDisabled, FAYS),
    (Cause::ProviderDeleted, FAYS),
    (Cause::ProvidersGroupEnded, FAYS),
    (Cause::ProvidersLoginEnded, &[Federated, FederatedProject]),
    (Cause::FederatedUserDisabled, FAYS),
    (Cause::FederatedUserDeleted, FAYS),
];

/// Ann, in a domain of her own, with roles by every way there is; Bob, whom she trusts; and Fay, of
/// whom an identity provider of the domain says that she is in Ann's group.
struct World<'c> {
    cloud: &'c Cloud,
    admin: String,
    domain: String,
    project: String,
    ann: String,
    bob: String,
    group: String,
    /// On the project: by herself, by the group, from the domain, by the group from the domain; on
    /// the domain; on the system; and what the first implies.
    roles: [String; 7],
    credential: (String, String),
    key: (String, String),
    trusts: [String; 2],
    provider: String,
    fay: String,
    fays_credential: (String, String),
}

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

impl<'c> World<'c> {
    async fn new(cloud: &'c Cloud, name: &str) -> World<'c> {
        let admin = cloud.admin().await;
        let make = async |kind: &str, path: &str, attributes: Value| {
            let body = json!({kind: attributes});
            let made = cloud.call(&admin, "POST", path, body).await.expect(201);
            made.body[kind]["id"].as_str().unwrap().to_owned()
        };
        let domain = make("domain", "/v3/domains", json!({"name": name})).await;
        let project = json!({"name": name, "domain_id": domain});
        let project = make("project", "/v3/projects", project).await;
        let ann = json!({"name": "ann", "domain_id": domain, "password": "ann-secret"});
        let ann = make("user", "/v3/users", ann).await;
        let bob = json!({"name": format!("bob-{name}"), "password": "bob-secret"});
        let bob = make("user", "/v3/users", bob).await;
        let group = json!({"name": "crew", "domain_id": domain});
        let group = make("group", "/v3/groups", group).await;
        let mut roles = Vec::new();
        for way in ["own", "group", "handed", "groups-handed", "domain", "system", "implied"] {
            roles.push(make("role", "/v3/roles", json!({"name": format!("{name}-{way}")})).await);
        }
        let roles: [String; 7] = roles.try_into().unwrap();
        let [own, by_group, handed, groups_handed, on_domain, on_system, implied] = &roles;
        let inherited = "inherited_to_projects";
        for (path, status) in [
            (format!("/v3/roles/{own}/implies/{implied}"), 201),
            (format!("/v3/groups/{group}/users/{ann}"), 204),
            (format!("/v3/projects/{project}/users/{ann}/roles/{own}"), 204),
            (format!("/v3/projects/{project}/groups/{group}/roles/{by_group}"), 204),
            (
                format!("/v3/OS-INHERIT/domains/{domain}/users/{ann}/roles/{handed}/{inherited}"),
                204,
            ),
            (
                format!(
                    "/v3/OS-INHERIT/domains/{domain}/groups/{group}/roles/{groups_handed}/\
                     {inherited}"
                ),
                204,
            ),
            (format!("/v3/domains/{domain}/users/{ann}/roles/{on_domain}"), 204),
            (format!("/v3/system/users/{ann}/roles/{on_system}"), 204),
        ] {
            cloud.call(&admin, "PUT", &path, Value::Null).await.expect(status);
        }
        let seed = json!({"credential": {"type": "totp", "blob": SEED, "user_id": ann}});
        cloud.call(&admin, "POST", "/v3/credentials", seed).await.expect(201);
        let mut world = World {
            cloud,
            admin,
            domain,
            project,
            ann,
            bob,
            group,
            roles,
            credential: Default::default(),
            key: Default::default(),
            trusts: Default::default(),
            provider: name.to_owned(),
            fay: String::new(),
            fays_credential: Default::default(),
        };
        world.delegate().await;
        world.federate().await;
        world
    }

    /// Sets the provider up. What its word gives is kept for ten minutes.
    async fn federate(&mut self) {
        let World { cloud, admin, domain, provider, .. } = &*self;
        let put = async |path: String, body: Value| {
            let path = format!("/v3/OS-FEDERATION/{path}");
            cloud.call(admin, "PUT", &path, body).await.expect(201);
        };
        let rules = json!([{
            "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": domain}}],
            "remote": [{"type": "OIDC-sub"}, {"type": "OIDC-groups"}]}]);
        put(format!("mappings/{provider}"), json!({"mapping": {"rules": rules}})).await;
        let body = json!({"identity_provider": {
            "enabled": true, "domain_id": domain, "authorization_ttl": 10}});
        put(format!("identity_providers/{provider}"), body).await;
        let body = json!({"protocol": {"mapping_id": provider}});
        put(format!("identity_providers/{provider}/protocols/openid"), body).await;
        let token = self.token(FederatedProject).await;
        let shown = cloud.about(&token, "GET", &token).await.expect(200);
        let fay = text(&shown.body["token"]["user"]["id"]);
        let path = format!("/v3/users/{fay}/application_credentials");
        let body = json!({"application_credential": {"name": "robot"}});
        let made = cloud.call(&token, "POST", &path, body).await.expect(201).body;
        let made = &made["application_credential"];
        self.fays_credential = (text(&made["id"]), text(&made["secret"]));
        self.fay = fay;
    }

    /// Fay comes by her provider's word.
    async fn come(&self, groups: &[&str]) -> Answer {
        let several = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        let login = async {
            let entrance = self.cloud.identity.entrance(&self.provider, "openid").await?;
            let word = Word {
                assertion: [
                    ("OIDC-sub".to_owned(), several(&["fay"])),
                    ("OIDC-groups".to_owned(), several(groups)),
                ]
                .into(),
                subject: "fay".to_owned(),
                provider_session: None,
                keep: Keep::Nothing,
                ends_at: None,
            };
            self.cloud.identity.log_in_by(&entrance, word).await
        };
        let mut headers = HeaderMap::new();
        match login.await {
            Ok(issued) => {
                headers.insert("x-subject-token", issued.text.parse().unwrap());
                Answer { status: StatusCode::CREATED, headers, body: issued.body }
            }
            Err(fault) => {
                let status = StatusCode::from_u16(fault.status()).unwrap();
                Answer { status, headers, body: json!(fault.message) }
            }
        }
    }

    /// What Ann makes with a token for the project.
    async fn delegate(&mut self) {
        let token = self.token(Project).await;
        let post = async |path: &str, body: Value| {
            self.cloud.call(&token, "POST", path, body).await.expect(201).body
        };
        let path = format!("/v3/users/{}/application_credentials", self.ann);
        let made = post(&path, json!({"application_credential": {"name": "robot"}})).await;
        let made = &made["application_credential"];
        let credential = (text(&made["id"]), text(&made["secret"]));
        let path = format!("/v3/users/{}/credentials/OS-EC2", self.ann);
        let body = json!({"tenant_id": self.project});
        let made = self.cloud.call(&self.admin, "POST", &path, body).await.expect(201).body;
        let made = &made["credential"];
        let key = (text(&made["access"]), text(&made["secret"]));
        let mut trusts = [String::new(), String::new()];
        for (trust, impersonation) in trusts.iter_mut().zip([true, false]) {
            let body = json!({"trust": {
                "trustor_user_id": self.ann, "trustee_user_id": self.bob,
                "project_id": self.project, "impersonation": impersonation,
                "roles": [{"id": self.roles[0]}]}});
            *trust = text(&post("/v3/OS-TRUST/trusts", body).await["trust"]["id"]);
        }
        self.credential = credential;
        self.key = key;
        self.trusts = trusts;
    }

    async fn auth(&self, identity: Value, scope: Value) -> Answer {
        let mut auth = json!({"identity": identity});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.cloud.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await
    }

    fn password(user: &str, secret: &str) -> Value {
        json!({"methods": ["password"],
               "password": {"user": {"id": user, "password": secret}}})
    }

    async fn try_token(&self, kind: Kind, secret: &str) -> Answer {
        let ann = World::password(&self.ann, secret);
        let project = json!({"project": {"id": self.project}});
        match kind {
            Unscoped => self.auth(ann, json!("unscoped")).await,
            Project => self.auth(ann, project).await,
            Domain => self.auth(ann, json!({"domain": {"id": self.domain}})).await,
            System => self.auth(ann, json!({"system": {"all": true}})).await,
            Rescoped => {
                let first = self.auth(ann, json!("unscoped")).await;
                if first.status != 201 {
                    return first;
                }
                self.auth(json!({"methods": ["token"], "token": {"id": first.token()}}), project)
                    .await
            }
            Totp => {
                // A code counts once, and the clock stands still: another seed has the next.
                let body = json!({"credential": {
                    "type": "totp", "blob": SEED, "user_id": self.ann}});
                self.cloud.call(&self.admin, "POST", "/v3/credentials", body).await;
                let step = totp::step_of(Timestamp(1_700_000_000_000_000));
                let code = totp::code(b"12345678901234567890", step);
                let mut both = ann;
                both["methods"] = json!(["password", "totp"]);
                both["totp"] = json!({"user": {"id": self.ann, "passcode": code}});
                self.auth(both, project).await
            }
            Federated => self.come(&["crew"]).await,
            FederatedProject => {
                let first = self.come(&["crew"]).await;
                if first.status != 201 {
                    return first;
                }
                self.cloud.rescope(&first.token(), project).await
            }
            ApplicationCredential | FederatedCredential => {
                let own = kind == ApplicationCredential;
                let (id, secret) = if own { &self.credential } else { &self.fays_credential };
                let credential = json!({"id": id, "secret": secret});
                let identity = json!({"methods": ["application_credential"],
                                      "application_credential": credential});
                self.auth(identity, Value::Null).await
            }
            Ec2 => {
                let (access, secret) = &self.key;
                let params = json!({"SignatureVersion": "0", "Action": "x", "Timestamp":
                                    "2023-11-14T22:13:20Z"});
                let key = ring::hmac::Key::new(
                    ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    secret.as_bytes(),
                );
                let tag = ring::hmac::sign(&key, b"x2023-11-14T22:13:20Z");
                use base64::Engine as _;
                let signature = base64::engine::general_purpose::STANDARD.encode(tag);
                let body = json!({"credentials": {"access": access, "signature": signature,
                                                  "params": params}});
                self.cloud.call(&self.admin, "POST", "/v3/ec2tokens", body).await
            }
            Impersonated | Trusted => {
                let trust = &self.trusts[usize::from(kind == Trusted)];
                let scope = json!({"OS-TRUST:trust": {"id": trust}});
                self.auth(World::password(&self.bob, "bob-secret"), scope).await
            }
        }
    }

    async fn token(&self, kind: Kind) -> String {
        let answer = self.try_token(kind, "ann-secret").await;
        let status = if kind == Ec2 { 200 } else { 201 };
        assert_eq!(answer.status, status, "{kind:?}: {}", answer.body);
        answer.token()
    }

    async fn bring_about(&self, cause: Cause, project_token: &str) {
        let (cloud, admin) = (self.cloud, &self.admin);
        let change = async |kind: &str, id: &str, attributes: Value| {
            let path = format!("/v3/{kind}s/{id}");
            cloud.call(admin, "PATCH", &path, json!({kind: attributes})).await.expect(200);
        };
        let delete = async |path: String| {
            cloud.call(admin, "DELETE", &path, Value::Null).await.expect(204);
        };
        let World { domain, project, ann, bob, group, .. } = self;
        let [own, by_group, handed, groups_handed, on_domain, on_system, implied] = &self.roles;
        let inherited = "inherited_to_projects";
        let disabled = json!({"enabled": false});
        match cause {
            Cause::Nothing => {}
            Cause::TokenRevoked => {
                cloud.about(admin, "DELETE", project_token).await.expect(204);
            }
            Cause::PasswordReset => change("user", ann, json!({"password": "new-secret"})).await,
            Cause::PasswordChanged => {
                let body = json!({"user": {"original_password": "ann-secret",
                                           "password": "new-secret"}});
                let path = format!("/v3/users/{ann}/password");
                cloud.call(project_token, "POST", &path, body).await.expect(204);
            }
            Cause::UserDisabled => change("user", ann, disabled).await,
            Cause::UserDeleted => delete(format!("/v3/users/{ann}")).await,
            Cause::UsersDomainDisabled => change("domain", domain, disabled).await,
            Cause::ProjectDisabled => change("project", project, disabled).await,
            Cause::ProjectDeleted => delete(format!("/v3/projects/{project}")).await,
            Cause::UsersRoleRemoved => {
                delete(format!("/v3/projects/{project}/users/{ann}/roles/{own}")).await;
            }
            Cause::GroupsRoleRemoved => {
                delete(format!("/v3/projects/{project}/groups/{group}/roles/{by_group}")).await;
            }
            Cause::InheritedRoleRemoved => {
                let place = format!("/v3/OS-INHERIT/domains/{domain}/users/{ann}");
                delete(format!("{place}/roles/{handed}/{inherited}")).await;
            }
            Cause::GroupsInheritedRoleRemoved => {
                let place = format!("/v3/OS-INHERIT/domains/{domain}/groups/{group}");
                delete(format!("{place}/roles/{groups_handed}/{inherited}")).await;
            }
            Cause::ImplicationEnded => delete(format!("/v3/roles/{own}/implies/{implied}")).await,
            Cause::DomainRoleRemoved => {
                delete(format!("/v3/domains/{domain}/users/{ann}/roles/{on_domain}")).await;
            }
            Cause::SystemRoleRemoved => {
                delete(format!("/v3/system/users/{ann}/roles/{on_system}")).await;
            }
            Cause::RoleDeleted => delete(format!("/v3/roles/{own}")).await,
            Cause::MembershipEnded => delete(format!("/v3/groups/{group}/users/{ann}")).await,
            Cause::GroupDeleted => delete(format!("/v3/groups/{group}")).await,
            Cause::ApplicationCredentialDeleted => {
                let id = &self.credential.0;
                delete(format!("/v3/users/{ann}/application_credentials/{id}")).await;
            }
            Cause::TrustDeleted => delete(format!("/v3/OS-TRUST/trusts/{}", self.trusts[0])).await,
            Cause::Ec2KeyDeleted => {
                delete(format!("/v3/users/{ann}/credentials/OS-EC2/{}", self.key.0)).await;
            }
            Cause::Ec2KeyChanged => {
                let id = crate::credential::model::id_of_access_key(&self.key.0);
                let blob = json!({"access": self.key.0, "secret": "another"}).to_string();
                change("credential", &id, json!({"blob": blob})).await;
            }
            Cause::TrusteeDisabled => change("user", bob, disabled).await,
            Cause::TrusteeDeleted => delete(format!("/v3/users/{bob}")).await,
            Cause::TrusteesPasswordReset => {
                change("user", bob, json!({"password": "new-secret"})).await;
            }
            Cause::ProviderDisabled => {
                let path = format!("/v3/OS-FEDERATION/identity_providers/{}", self.provider);
                let body = json!({"identity_provider": disabled});
                cloud.call(admin, "PATCH", &path, body).await.expect(200);
            }
            Cause::ProviderDeleted => {
                delete(format!("/v3/OS-FEDERATION/identity_providers/{}", self.provider)).await;
            }
            Cause::ProvidersGroupEnded => {
                self.come(&["others"]).await.expect(201);
            }
            Cause::ProvidersLoginEnded => {
                let (provider, user) = (self.provider.clone(), self.fay.parse().unwrap());
                let sessions = cloud.identity.look(move |tx| {
                    let (provider, user) = (provider.clone(), UserId::clone(&user));
                    Box::pin(async move {
                        Ok(federation::store::sessions_of_user(tx, &user, &provider).await?)
                    })
                });
                for session in sessions.await.unwrap() {
                    let why = "the test says so";
                    federation::sessions::end(&cloud.identity, &session, why).await.unwrap();
                }
            }
            Cause::FederatedUserDisabled => change("user", &self.fay, disabled).await,
            Cause::FederatedUserDeleted => delete(format!("/v3/users/{}", self.fay)).await,
        }
    }

    /// Whether the token still has the role that another implied.
    async fn has_implied_role(&self, token: &str) -> bool {
        let answer = self.cloud.about(&self.admin, "GET", token).await.expect(200);
        let roles = answer.body["token"]["roles"].as_array().unwrap().clone();
        roles.iter().any(|role| role["id"] == self.roles[6].as_str())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn every_cause_ends_its_tokens_and_no_others(cloud: Cloud) {
    for (number, (cause, ended)) in ROWS.into_iter().enumerate() {
        let world = World::new(&cloud, &format!("w{number}")).await;
        let mut tokens = Vec::new();
        for kind in KINDS {
            tokens.push((kind, world.token(kind).await));
        }
        let bystander = cloud.demo().await;
        let own = tokens[1].1.clone();
        assert!(world.has_implied_role(&own).await);
        world.bring_about(cause, &own).await;

        let later = Tokens::open(&cloud.db, &cloud.keys).await.unwrap();
        let now = Timestamp(1_700_000_000_000_000);
        for (kind, token) in &tokens {
            let alive = !ended.contains(kind);
            assert_eq!(cloud.is_good(token).await, alive, "{cause:?}: {kind:?}");
            assert_eq!(later.check(token, now).is_ok(), alive, "{cause:?}: {kind:?}, elsewhere");
            if cause == Cause::ImplicationEnded && alive && ON_PROJECT.contains(kind) {
                assert!(!world.has_implied_role(token).await, "{kind:?} lost the role");
            }
        }
        assert!(cloud.is_good(&bystander).await, "{cause:?}: somebody else");
        assert!(cloud.is_good(&world.admin).await, "{cause:?}: the administrator");

        // In the same instant: whoever can still log in gets a token that is good.
        let secret = match cause {
            Cause::PasswordReset | Cause::PasswordChanged => "new-secret",
            _ => "ann-secret",
        };
        let mut got = 0;
        for kind in KINDS {
            let answer = world.try_token(kind, secret).await;
            if answer.status.is_success() {
                got += usize::from(ANNS.contains(&kind));
                assert!(cloud.is_good(&answer.token()).await, "{cause:?}: {kind:?} got anew");
            }
        }
        let nobody = [Cause::UserDisabled, Cause::UserDeleted, Cause::UsersDomainDisabled];
        assert_eq!(got == 0, nobody.contains(&cause), "{cause:?}: {got} got anew");
    }
}
