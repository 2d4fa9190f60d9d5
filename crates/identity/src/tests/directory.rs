//! A directory as a domain's users, against a real `slapd` (Debian's package) that each test starts
//! for itself on loopback.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sso::free_port;
use super::{Answer, Cloud, on_both};

on_both! {
    people_and_groups_of_a_directory_are_listed_in_pages_and_keep_their_ids,
    somebody_logs_in_with_the_directorys_password_and_has_the_roles_of_their_groups,
    a_directory_is_only_read,
    who_is_disabled_or_loses_a_group_in_the_directory_loses_their_tokens,
    who_has_another_id_for_good_is_somebody_else_and_gets_back_what_was_given,
    a_directory_that_is_away_locks_nobody_else_out,
    no_name_or_password_tricks_the_directory,
    active_directorys_account_control_is_understood,
    a_directory_speaks_tls_with_its_own_authority,
}

const SUFFIX: &str = "dc=corp,dc=example";
const READER_PASSWORD: &str = "reader-secret";

/// A real directory. Ends with the test.
struct Slapd {
    child: Option<Child>,
    place: tempfile::TempDir,
    port: u16,
    tls_port: u16,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A tool of Debian's package, whose directory is not everybody's to search.
fn tool(name: &str) -> Command {
    let path = format!("/usr/sbin/{name}");
    assert!(
        std::path::Path::new(&path).exists(),
        "slapd, against which directories are tested, is not installed: apt-get install slapd \
         (./dev test does)"
    );
    Command::new(path)
}

fn person(name: &str, number: usize, more: &str) -> String {
    format!(
        "dn: uid={name},ou=Users,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: {name}\n\
         employeeNumber: {number}\ncn: {name}\nsn: {name}\nmail: {name}@corp.example\n\
         userPassword: {name}-secret\n{more}\n"
    )
}

fn group(name: &str, number: usize, members: &[&str]) -> String {
    let members: String =
        members.iter().map(|name| format!("member: uid={name},ou=Users,{SUFFIX}\n")).collect();
    format!(
        "dn: cn={name},ou=UserGroups,{SUFFIX}\nobjectClass: groupOfNames\ncn: {name}\n\
         description: {number}\n{members}\n"
    )
}

impl Slapd {
    /// A directory with ada, bob, carol (disabled) and forty others; the groups staff (ada, bob) and
    /// admins (ada).
    async fn start() -> Slapd {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        std::fs::create_dir(at("db")).unwrap();
        let certificates = Slapd::certificates(&place);
        // Who reads gets four entries at most unless pages are asked for: what is tested cannot
        // work without them.
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\n\
             moduleload back_mdb\npidfile {}\n{certificates}\n\
             database mdb\nsuffix \"{SUFFIX}\"\nrootdn \"cn=root,{SUFFIX}\"\nrootpw root-secret\n\
             directory {}\nindex objectClass eq\n\
             limits dn.exact=\"cn=reader,{SUFFIX}\" size.soft=4 size.hard=4 size.pr=4 \
             size.prtotal=unlimited\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by users read\n",
            at("pid"),
            at("db"),
        );
        std::fs::write(at("slapd.conf"), config).unwrap();
        let mut data = format!(
            "dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Corp\ndc: corp\n\n\
             dn: ou=Users,{SUFFIX}\nobjectClass: organizationalUnit\nou: Users\n\n\
             dn: ou=UserGroups,{SUFFIX}\nobjectClass: organizationalUnit\nou: UserGroups\n\n\
             dn: cn=reader,{SUFFIX}\nobjectClass: organizationalRole\n\
             objectClass: simpleSecurityObject\ncn: reader\nuserPassword: {READER_PASSWORD}\n\n"
        );
        for (number, (name, state)) in
            [("ada", ""), ("bob", ""), ("carol", "employeeType: FALSE\n")].iter().enumerate()
        {
            data.push_str(&person(name, number + 1, state));
        }
        for number in 100..140 {
            data.push_str(&person(&format!("p{number}"), number, ""));
        }
        data.push_str(&group("staff", 1, &["ada", "bob"]));
        data.push_str(&group("admins", 2, &["ada"]));
        std::fs::write(at("data.ldif"), data).unwrap();
        let added = tool("slapadd")
            .args(["-f", &at("slapd.conf"), "-l", &at("data.ldif")])
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let mut slapd = Slapd { child: None, place, port: free_port(), tls_port: free_port() };
        slapd.run().await;
        slapd
    }

    /// An authority and a certificate for this machine, as lines of the configuration.
    fn certificates(place: &tempfile::TempDir) -> String {
        let at = |name: &str| place.path().join(name).display().to_string();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(Vec::new()).unwrap();
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = wanted.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(wanted, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let wanted = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = wanted.signed_by(&key, &issuer).unwrap();
        std::fs::write(at("ca.pem"), authority.pem()).unwrap();
        std::fs::write(at("server.pem"), certificate.pem()).unwrap();
        std::fs::write(at("server.key"), key.serialize_pem()).unwrap();
        format!(
            "TLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
            at("server.pem"),
            at("server.key")
        )
    }

    async fn run(&mut self) {
        let log = std::fs::File::create(self.place.path().join("log")).unwrap();
        let child = tool("slapd")
            .arg("-h")
            .arg(format!("ldap://127.0.0.1:{} ldaps://127.0.0.1:{}", self.port, self.tls_port))
            .arg("-f")
            .arg(self.place.path().join("slapd.conf"))
            .args(["-d", "0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let log = std::fs::read_to_string(self.place.path().join("log")).unwrap();
            assert!(began.elapsed() < Duration::from_secs(120), "no directory: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Changes an attribute as the directory's administrator; no value takes it away.
    async fn change(&self, dn: &str, attribute: &str, values: &[&str]) {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        let (connection, mut ldap) = ldap3::LdapConnAsync::new(&url).await.unwrap();
        tokio::spawn(connection.drive());
        ldap.simple_bind(&format!("cn=root,{SUFFIX}"), "root-secret")
            .await
            .unwrap()
            .success()
            .unwrap();
        let values: HashSet<&str> = values.iter().copied().collect();
        let change = vec![ldap3::Mod::Replace(attribute, values)];
        ldap.modify(dn, change).await.unwrap().success().unwrap();
    }

    async fn delete(&self, dn: &str) {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        let (connection, mut ldap) = ldap3::LdapConnAsync::new(&url).await.unwrap();
        tokio::spawn(connection.drive());
        let root = format!("cn=root,{SUFFIX}");
        ldap.simple_bind(&root, "root-secret").await.unwrap().success().unwrap();
        ldap.delete(dn).await.unwrap().success().unwrap();
    }

    fn options(&self) -> Value {
        json!({
            "url": format!("ldap://127.0.0.1:{}", self.port),
            "user": format!("cn=reader,{SUFFIX}"), "password": READER_PASSWORD,
            "suffix": SUFFIX, "page_size": 3, "pool_connection_timeout": 5,
            "user_id_attribute": "employeeNumber", "user_name_attribute": "uid",
            "user_enabled_attribute": "employeeType", "user_enabled_default": "TRUE",
            "group_id_attribute": "description", "group_name_attribute": "cn",
        })
    }
}

struct Corp {
    cloud: Cloud,
    slapd: Slapd,
    admin: String,
    domain: String,
    project: String,
}

impl Corp {
    async fn on(cloud: Cloud, changes: Value) -> Corp {
        let slapd = Slapd::start().await;
        let admin = cloud.admin().await;
        let body = json!({"domain": {"name": "Corp"}});
        let made = cloud.call(&admin, "POST", "/v3/domains", body).await.expect(201);
        let domain = made.body["domain"]["id"].as_str().unwrap().to_owned();
        let body = json!({"project": {"name": "work", "domain_id": domain}});
        let made = cloud.call(&admin, "POST", "/v3/projects", body).await.expect(201);
        let project = made.body["project"]["id"].as_str().unwrap().to_owned();
        let corp = Corp { cloud, slapd, admin, domain, project };
        corp.configure(changes).await;
        corp
    }

    /// Gives the domain its directory, with changes to the ordinary options.
    async fn configure(&self, changes: Value) {
        let mut options = self.slapd.options();
        for (name, value) in changes.as_object().unwrap() {
            options[name] = value.clone();
        }
        let path = format!("/v3/domains/{}/config", self.domain);
        let body = json!({"config": {"identity": {"driver": "ldap"}, "ldap": options}});
        let answer = self.cloud.call(&self.admin, "PUT", &path, body).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    }

    async fn get(&self, path: &str) -> Answer {
        self.cloud.get(&self.admin, path).await
    }

    async fn login(&self, name: &str, password: &str, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": {
            "name": name, "domain": {"id": self.domain}, "password": password}}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.cloud.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await
    }

    fn at_work(&self) -> Value {
        json!({"project": {"id": self.project}})
    }

    async fn id_of(&self, kind: &str, name: &str) -> String {
        let path = format!("/v3/{kind}?domain_id={}&name={name}", self.domain);
        let found = self.get(&path).await.expect(200);
        found.body[kind][0]["id"].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    /// The group staff is a member of the project.
    async fn put_staff_to_work(&self) -> String {
        let group = self.id_of("groups", "staff").await;
        let member = self.cloud.role(&self.admin, "member").await;
        let path = format!("/v3/projects/{}/groups/{group}/roles/{member}", self.project);
        self.cloud.call(&self.admin, "PUT", &path, Value::Null).await.expect(204);
        group
    }
}

async fn people_and_groups_of_a_directory_are_listed_in_pages_and_keep_their_ids(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    let path = format!("/v3/users?domain_id={}", corp.domain);
    let users = corp.get(&path).await.expect(200).body["users"].clone();
    let users = users.as_array().unwrap();
    assert_eq!(users.len(), 43);
    let ada = users.iter().find(|user| user["name"] == "ada").unwrap();
    assert_eq!(ada["email"], "ada@corp.example");
    assert_eq!(ada["enabled"], true);
    let carol = users.iter().find(|user| user["name"] == "carol").unwrap();
    assert_eq!(carol["enabled"], false);
    // The id that Keystone computes: SHA-256 of domain, kind and the id attribute.
    let id = crate::directory::entry::public_id(
        &corp.domain.parse().unwrap(),
        crate::directory::entry::Kind::User,
        "1",
    );
    assert_eq!(ada["id"], id);
    // A new name, the same person.
    let dn = format!("uid=ada,ou=Users,{SUFFIX}");
    corp.slapd.change(&dn, "mail", &["countess@corp.example"]).await;
    let shown = corp.get(&format!("/v3/users/{id}")).await.expect(200).body;
    assert_eq!(shown["user"]["email"], "countess@corp.example");
    let few = corp.get(&format!("{path}&name__startswith=p12")).await.expect(200).body;
    assert_eq!(few["users"].as_array().unwrap().len(), 10);

    let groups = corp.get(&format!("/v3/groups?domain_id={}", corp.domain)).await.expect(200);
    assert_eq!(groups.body["groups"].as_array().unwrap().len(), 2);
    let staff = corp.id_of("groups", "staff").await;
    let members = corp.get(&format!("/v3/groups/{staff}/users")).await.expect(200).body;
    let names: HashSet<&str> =
        members["users"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()).collect();
    assert_eq!(names, HashSet::from(["ada", "bob"]));
    let of_ada = corp.get(&format!("/v3/users/{id}/groups")).await.expect(200).body;
    assert_eq!(of_ada["groups"].as_array().unwrap().len(), 2);
    // Somebody who is gone there is gone here.
    corp.slapd.delete(&dn).await;
    corp.get(&format!("/v3/users/{id}")).await.expect(404);
    let users = corp.get(&path).await.expect(200).body["users"].clone();
    assert_eq!(users.as_array().unwrap().len(), 42);
}

async fn somebody_logs_in_with_the_directorys_password_and_has_the_roles_of_their_groups(
    cloud: Cloud,
) {
    let corp = Corp::on(cloud, json!({})).await;
    corp.put_staff_to_work().await;
    let token = corp.login("ada", "ada-secret", corp.at_work()).await.expect(201);
    assert_eq!(token.body["token"]["roles"][0]["name"], "member");
    assert_eq!(token.body["token"]["user"]["domain"]["id"], corp.domain);
    // By id, too, once she has been seen.
    let id = token.body["token"]["user"]["id"].clone();
    let auth = json!({"identity": {"methods": ["password"], "password": {"user": {
        "id": id, "password": "ada-secret"}}}});
    corp.cloud.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await.expect(201);
    for (name, password) in [("ada", "wrong"), ("carol", "carol-secret"), ("nobody", "x")] {
        let refusal = corp.login(name, password, Value::Null).await.expect(401);
        let message = &refusal.body["error"]["message"];
        assert_eq!(message, "The request you have made requires authentication.");
    }
    // Who is in no group has nothing in the project.
    corp.login("p100", "p100-secret", corp.at_work()).await.expect(401);
    corp.login("p100", "p100-secret", Value::Null).await.expect(201);
    // A role of their own works as for anybody.
    let path = format!("/v3/users/{}", id.as_str().unwrap());
    corp.get(&path).await.expect(200);
}

async fn a_directory_is_only_read(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    let (ada, staff) = (corp.id_of("users", "ada").await, corp.id_of("groups", "staff").await);
    let call = async |method: &str, path: String, body: Value| {
        corp.cloud.call(&corp.admin, method, &path, body).await
    };
    let domain = &corp.domain;
    for (method, path, body) in [
        ("POST", "/v3/users".into(), json!({"user": {"name": "new", "domain_id": domain}})),
        ("POST", "/v3/groups".into(), json!({"group": {"name": "new", "domain_id": domain}})),
        ("PATCH", format!("/v3/users/{ada}"), json!({"user": {"enabled": false}})),
        ("DELETE", format!("/v3/users/{ada}"), Value::Null),
        ("PATCH", format!("/v3/groups/{staff}"), json!({"group": {"name": "x"}})),
        ("DELETE", format!("/v3/groups/{staff}"), Value::Null),
        ("PUT", format!("/v3/groups/{staff}/users/{ada}"), Value::Null),
        ("DELETE", format!("/v3/groups/{staff}/users/{ada}"), Value::Null),
    ] {
        let refusal = call(method, path.clone(), body).await.expect(403);
        assert!(refusal.body.to_string().contains("directory"), "{path}: {}", refusal.body);
    }
}

async fn who_is_disabled_or_loses_a_group_in_the_directory_loses_their_tokens(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    let staff = corp.put_staff_to_work().await;
    let come = async |name: &str| {
        let password = format!("{name}-secret");
        corp.login(name, &password, corp.at_work()).await.expect(201).token()
    };
    let (ada, bob) = (come("ada").await, come("bob").await);
    let look = async || {
        corp.cloud.clock.advance(Duration::from_secs(31));
        corp.cloud.identity.recheck_accounts().await.unwrap();
    };
    look().await;
    assert!(corp.cloud.is_good(&ada).await && corp.cloud.is_good(&bob).await);
    let dn = |name: &str| format!("uid={name},ou=Users,{SUFFIX}");
    corp.slapd.change(&dn("ada"), "employeeType", &["FALSE"]).await;
    look().await;
    assert!(!corp.cloud.is_good(&ada).await && corp.cloud.is_good(&bob).await);
    corp.login("ada", "ada-secret", Value::Null).await.expect(401);
    corp.slapd.change(&dn("ada"), "employeeType", &["TRUE"]).await;
    let ada = come("ada").await;
    // Bob leaves the group.
    let group = format!("cn=staff,ou=UserGroups,{SUFFIX}");
    corp.slapd.change(&group, "member", &[&dn("ada")]).await;
    look().await;
    assert!(corp.cloud.is_good(&ada).await && !corp.cloud.is_good(&bob).await);
    corp.login("bob", "bob-secret", corp.at_work()).await.expect(401);
    // Ada leaves the company, and comes back under her old number: her tokens do not, her roles do.
    corp.slapd.delete(&dn("ada")).await;
    look().await;
    assert!(!corp.cloud.is_good(&ada).await);
    let members = corp.get(&format!("/v3/groups/{staff}/users")).await.expect(200).body;
    assert_eq!(members["users"], json!([]));
}

async fn who_has_another_id_for_good_is_somebody_else_and_gets_back_what_was_given(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    corp.put_staff_to_work().await;
    let dn = format!("uid=ada,ou=Users,{SUFFIX}");
    let log_in = async || {
        let answer = corp.login("ada", "ada-secret", corp.at_work()).await.expect(201);
        (answer.body["token"]["user"]["id"].as_str().unwrap().to_owned(), answer.token())
    };
    corp.slapd.change(&dn, "employeeNumber", &["x7"]).await;
    let (ada, token) = log_in().await;
    // What the directory knows nothing about.
    let body = json!({"group": {"name": "friends"}});
    let friends = corp.cloud.call(&corp.admin, "POST", "/v3/groups", body).await.expect(201);
    let friends = friends.body["group"]["id"].as_str().unwrap().to_owned();
    let member = format!("/v3/groups/{friends}/users/{ada}");
    corp.cloud.call(&corp.admin, "PUT", &member, Value::Null).await.expect(204);
    // The directory finds her by the former id, too: it does not tell the case of letters apart.
    corp.slapd.change(&dn, "employeeNumber", &["X7"]).await;
    corp.cloud.clock.advance(Duration::from_secs(31));
    corp.cloud.identity.recheck_accounts().await.unwrap();
    assert!(!corp.cloud.is_good(&token).await);
    let (other, _) = log_in().await;
    assert_ne!(other, ada);
    corp.cloud.call(&corp.admin, "HEAD", &member, Value::Null).await.expect(404);
    // It was a mistake there.
    corp.slapd.change(&dn, "employeeNumber", &["x7"]).await;
    assert_eq!(log_in().await.0, ada);
    corp.cloud.call(&corp.admin, "HEAD", &member, Value::Null).await.expect(204);
}

async fn a_directory_that_is_away_locks_nobody_else_out(cloud: Cloud) {
    let mut corp = Corp::on(cloud, json!({"pool_connection_timeout": 2})).await;
    corp.put_staff_to_work().await;
    let ada = corp.login("ada", "ada-secret", corp.at_work()).await.expect(201).token();
    corp.slapd.stop();
    let refusal = corp.login("ada", "ada-secret", Value::Null).await.expect(503);
    let text = refusal.body.to_string();
    assert!(text.contains("directory") && text.contains("other domains"), "{text}");
    assert!(refusal.headers.contains_key("retry-after"));
    corp.get(&format!("/v3/users?domain_id={}", corp.domain)).await.expect(503);
    // Everybody else works as ever, and who has a token keeps it.
    corp.cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
    corp.get("/v3/users?domain_id=default").await.expect(200);
    corp.cloud.clock.advance(Duration::from_secs(31));
    corp.cloud.identity.recheck_accounts().await.unwrap();
    assert!(corp.cloud.is_good(&ada).await);
    corp.cloud.rescope(&ada, corp.at_work()).await.expect(201);
    // It comes back, and connections that were kept are made anew.
    corp.slapd.run().await;
    corp.login("ada", "ada-secret", corp.at_work()).await.expect(201);
    // A wrong setting says which domain, and again nobody else notices.
    corp.configure(json!({"url": "http://nonsense"})).await;
    let refusal = corp.login("ada", "ada-secret", Value::Null).await.expect(503);
    assert!(refusal.body.to_string().contains("configuration"), "{}", refusal.body);
    corp.cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
}

async fn no_name_or_password_tricks_the_directory(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    for name in [
        "*",
        "ad*",
        "ada)(uid=*",
        "*)(objectClass=*",
        "ada)(|(uid=*))",
        "\\2a",
        "ada\u{e9}",
        "cn=reader,dc=corp,dc=example",
    ] {
        for password in ["ada-secret", READER_PASSWORD, "x"] {
            corp.login(name, password, Value::Null).await.expect(401);
        }
        let query = service_kit::percent_encode(name);
        let path = format!("/v3/users?domain_id={}&name={query}", corp.domain);
        assert_eq!(corp.get(&path).await.expect(200).body["users"], json!([]), "{name}");
    }
    // A bind without a password succeeds in LDAP, for anybody. Not here.
    corp.login("ada", "", Value::Null).await.expect(401);
    corp.login("ada", "ada-secret", Value::Null).await.expect(201);
}

async fn active_directorys_account_control_is_understood(cloud: Cloud) {
    // The attribute plays Active Directory's userAccountControl.
    let corp = Corp::on(
        cloud,
        json!({"user_enabled_mask": 2, "user_enabled_default": "512", "query_scope": "sub",
               "user_tree_dn": SUFFIX, "group_tree_dn": SUFFIX,
               "user_filter": "(uid=*)", "user_additional_attribute_mapping": ["cn:display"]}),
    )
    .await;
    let dn = format!("uid=bob,ou=Users,{SUFFIX}");
    for (control, enabled) in [("512", true), ("514", false), ("66050", false), ("66048", true)] {
        corp.slapd.change(&dn, "employeeType", &[control]).await;
        let status = if enabled { 201 } else { 401 };
        corp.login("bob", "bob-secret", Value::Null).await.expect(status);
        let bob = corp.id_of("users", "bob").await;
        let shown = corp.get(&format!("/v3/users/{bob}")).await.expect(200).body;
        assert_eq!(shown["user"]["enabled"], enabled, "{control}");
        assert_eq!(shown["user"]["display"], "bob");
    }
}

async fn a_directory_speaks_tls_with_its_own_authority(cloud: Cloud) {
    let corp = Corp::on(cloud, json!({})).await;
    let authority = corp.slapd.place.path().join("ca.pem").display().to_string();
    let tls = format!("ldaps://127.0.0.1:{}", corp.slapd.tls_port);
    let plain = format!("ldap://127.0.0.1:{}", corp.slapd.port);
    for (change, status) in [
        (json!({"url": tls, "tls_cacertfile": authority}), 201),
        (json!({"url": plain, "use_tls": true, "tls_cacertfile": authority}), 201),
        // Nobody whom the system trusts has signed it.
        (json!({"url": tls, "tls_cacertfile": ""}), 503),
        (json!({"url": plain, "use_tls": true, "tls_cacertfile": ""}), 503),
        (json!({"url": tls, "tls_cacertfile": "/nowhere.pem"}), 503),
        // The second of two addresses does where the first is dead.
        (json!({"url": format!("ldap://127.0.0.1:1,{tls}"), "tls_cacertfile": authority}), 201),
    ] {
        corp.configure(change.clone()).await;
        let answer = corp.login("ada", "ada-secret", Value::Null).await;
        assert_eq!(answer.status, status, "{change}: {}", answer.body);
    }
}
