//! The format, its size and its refusals; what revocations cover.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use proptest::prelude::*;

use service_kit::AccessRule;

use super::basis::{ApplicationCredentialBasis, Basis, FederationBasis, OauthBasis, TrustBasis};
use super::format::{AuditId, Claims, FormatError, Methods, Scope, Stamp};
use super::keys::{KeySet, KeySource, rotate_token_keys};
use super::revocation::{Revocation, RevocationKind, Revocations};
use crate::key_files::KeyError;

fn keys() -> KeySet {
    KeySet::load(&KeySource::Ephemeral).unwrap()
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn claims(roles: usize) -> Claims {
    Claims {
        methods: Methods::PASSWORD.and(Methods::TOKEN),
        issued_at: Timestamp(1_700_000_000_123_456),
        expires_at: Timestamp(1_700_003_600_123_456),
        user: Stamp::new(UserId::random(), 7),
        user_domain: Stamp::new(id("default"), 0),
        scope: Scope::Project(
            Stamp::new(ProjectId::random(), 300),
            Stamp::new(DomainId::random(), u64::MAX),
        ),
        roles: (0..roles).map(|_| RoleId::random()).collect(),
        audit_id: AuditId::random(),
        chain_id: Some(AuditId::random()),
        basis: Basis::default(),
    }
}

fn hex() -> String {
    ProjectId::random().to_string()
}

fn stamp(serial: u64) -> Stamp<String> {
    Stamp::new(hex(), serial)
}

/// One for each thing that a token can rest on.
fn bases() -> [(&'static str, Basis); 5] {
    let trust = TrustBasis {
        trust: stamp(0),
        impersonation: true,
        others: vec![(Stamp::new(UserId::random(), 3), Stamp::new(DomainId::random(), 1))],
    };
    let credential =
        ApplicationCredentialBasis { credential: stamp(0), restricted: true, access_rules: None };
    let federation = FederationBasis {
        identity_provider: Stamp::new("company".into(), 2),
        protocol: "openid".into(),
        groups: vec![stamp(0), stamp(1), stamp(200)],
    };
    [
        ("trust", Basis { trust: Some(trust), implications: Some(4), ..Basis::default() }),
        (
            "application credential",
            Basis { application_credential: Some(credential), ..Basis::default() },
        ),
        ("ec2", Basis { ec2_key: Some(stamp(0)), ..Basis::default() }),
        (
            "oauth",
            Basis {
                oauth: Some(OauthBasis { consumer: stamp(0), access_token: stamp(0) }),
                ..Basis::default()
            },
        ),
        ("federation", Basis { federation: Some(federation), ..Basis::default() }),
    ]
}

#[test]
fn ten_roles_fit_in_600_characters() {
    let keys = keys();
    for (kind, basis) in [("login", Basis::default())].into_iter().chain(bases()) {
        let text = Claims { basis, ..claims(10) }.sign(&keys).unwrap();
        assert!(text.len() < 600, "{kind}: {} characters", text.len());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }
}

#[test]
fn what_does_not_fit_is_not_signed() {
    let keys = keys();
    assert_eq!(claims(256).sign(&keys), Err(FormatError::TooLong));
    let rule = AccessRule { service: "s".into(), method: "GET".into(), path: "/x".repeat(100) };
    let basis = |rules: usize| Basis {
        application_credential: Some(ApplicationCredentialBasis {
            credential: stamp(0),
            restricted: false,
            access_rules: Some(vec![rule.clone(); rules]),
        }),
        ..Basis::default()
    };
    let sign = |rules| Claims { basis: basis(rules), ..claims(10) }.sign(&keys);
    assert!(Claims::read(&sign(20).unwrap(), &keys).is_ok());
    assert_eq!(sign(30), Err(FormatError::TooLong));
    let nameless = Basis { ec2_key: Some(Stamp::new(String::new(), 0)), ..Basis::default() };
    assert_eq!(Claims { basis: nameless, ..claims(1) }.sign(&keys), Err(FormatError::TooLong));
}

#[test]
fn what_is_signed_is_read_back() {
    let keys = keys();
    for scope in [
        Scope::Unscoped,
        Scope::System,
        Scope::Domain(Stamp::new(id("default"), 1)),
        claims(0).scope,
    ] {
        let claims = Claims { scope, chain_id: None, ..claims(3) };
        assert_eq!(Claims::read(&claims.sign(&keys).unwrap(), &keys), Ok(claims));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let keys = keys();
    let text = claims(1).sign(&keys).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let text = URL_SAFE_NO_PAD.encode(changed);
        assert!(Claims::read(&text, &keys).is_err(), "byte {at}");
    }
    for cut in 0..bytes.len() {
        assert!(Claims::read(&URL_SAFE_NO_PAD.encode(&bytes[..cut]), &keys).is_err());
    }
}

#[test]
fn another_clouds_token_is_refused() {
    let text = claims(1).sign(&keys()).unwrap();
    assert_eq!(Claims::read(&text, &keys()), Err(FormatError::UnknownKey));
    assert_eq!(Claims::read("", &keys()), Err(FormatError::NotAToken));
    assert_eq!(Claims::read(&"A".repeat(9000), &keys()), Err(FormatError::NotAToken));
    assert_eq!(Claims::read("not a token", &keys()), Err(FormatError::NotAToken));
}

#[test]
fn a_rotated_key_still_verifies_until_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let source = KeySource::Directory(directory.path().join("keys"));
    let first = KeySet::load(&source).unwrap();
    let text = claims(1).sign(&first).unwrap();
    let path = directory.path().join("keys");
    let again = KeySet::load(&source).unwrap();
    assert!(Claims::read(&text, &again).is_ok(), "the same key is loaded after a restart");

    let newer = path.join("0002.key");
    std::fs::write(&newer, "ab".repeat(32)).unwrap();
    assert!(matches!(KeySet::load(&source), Err(KeyError::Exposed(_))));
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&newer, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rotated = KeySet::load(&source).unwrap();
    assert!(Claims::read(&text, &rotated).is_ok());
    let fresh = claims(1).sign(&rotated).unwrap();
    assert_eq!(Claims::read(&fresh, &first), Err(FormatError::UnknownKey));
    std::fs::remove_file(path.join("0001.key")).unwrap();
    let last = KeySet::load(&source).unwrap();
    assert_eq!(Claims::read(&text, &last), Err(FormatError::UnknownKey));
    assert!(Claims::read(&fresh, &last).is_ok());

    std::fs::write(&newer, "not a key").unwrap();
    assert!(matches!(KeySet::load(&source), Err(KeyError::Malformed(_))));
}

#[test]
fn a_new_key_signs_when_its_time_has_come_and_old_ones_go_when_nothing_of_them_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let source = KeySource::Directory(path.to_owned());
    let old = KeySet::load(&source).unwrap();
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
    let now = claims(1).issued_at;
    assert!(matches!(rotate_token_keys(path, now, Duration::ZERO), Err(KeyError::Refused(_))));
    let rotated = rotate_token_keys(path, now, minute).unwrap();
    assert_eq!((rotated.added, rotated.removed), (2, vec![]));
    let both = KeySet::load(&source).unwrap();
    assert_ne!(both, old);
    let at = |when: Timestamp| Claims { issued_at: when, ..claims(1) };
    // Until then even a process that has not looked again accepts what is signed.
    let before = at(now.after(minute).before(Duration::from_micros(1))).sign(&both).unwrap();
    assert!(Claims::read(&before, &old).is_ok());
    let after = at(now.after(minute)).sign(&both).unwrap();
    assert_eq!(Claims::read(&after, &old), Err(FormatError::UnknownKey));
    assert!(Claims::read(&after, &both).is_ok());
    let soon = rotate_token_keys(path, now.after(2 * day), minute).unwrap();
    assert_eq!((soon.added, soon.removed), (3, vec![]));
    let later = rotate_token_keys(path, now.after(3 * day), minute).unwrap();
    assert_eq!((later.added, later.removed), (4, vec![1]));
    let last = KeySet::load(&source).unwrap();
    assert_eq!(Claims::read(&before, &last), Err(FormatError::UnknownKey));
    assert!(Claims::read(&after, &last).is_ok());
}

fn revoked(kind: RevocationKind, subject: &str, scope: &str, serial: u64) -> Revocations {
    let mut revocations = Revocations::default();
    revocations.add(&Revocation {
        id: "r".into(),
        kind,
        subject: subject.into(),
        scope: scope.into(),
        serial,
        expires_at: Timestamp(100),
    });
    revocations
}

#[test]
fn a_revocation_covers_what_it_names_and_nothing_else() {
    let claims = claims(1);
    let Scope::Project(project, domain) = claims.scope.clone() else { unreachable!() };
    let user = claims.user.id.as_str();
    let key = claims.scope.key();
    let audit = claims.audit_id.to_string();
    let chain = claims.chain().to_string();
    let project = project.id.as_str();
    let cases: [(RevocationKind, &str, &str, u64, bool); 14] = [
        (RevocationKind::Token, &audit, "", 0, true),
        (RevocationKind::Token, &chain, "", 0, false),
        (RevocationKind::Chain, &chain, "", 0, true),
        (RevocationKind::Chain, &audit, "", 0, false),
        // The token's user serial is 7: a first good serial of 8 ends it, one of 7 does not.
        (RevocationKind::User, user, "", 8, true),
        (RevocationKind::User, user, "", 7, false),
        (RevocationKind::User, "somebody", "", 8, false),
        (RevocationKind::Grant, user, &key, 8, true),
        (RevocationKind::Grant, user, &key, 7, false),
        (RevocationKind::Grant, user, "system", 8, false),
        (RevocationKind::Project, project, "", 301, true),
        (RevocationKind::Project, project, "", 300, false),
        (RevocationKind::Domain, "default", "", 1, true),
        (RevocationKind::Domain, domain.id.as_str(), "", 5, false),
    ];
    for (kind, subject, scope, serial, covered) in cases {
        let revocations = revoked(kind, subject, scope, serial);
        assert_eq!(revocations.covers(&claims), covered, "{kind:?} {subject} {serial}");
    }
}

#[test]
fn an_expired_revocation_is_forgotten() {
    let claims = claims(1);
    let mut revocations = revoked(RevocationKind::User, claims.user.id.as_str(), "", 8);
    revocations.forget_expired(Timestamp(100));
    assert!(revocations.covers(&claims));
    revocations.forget_expired(Timestamp(100).after(Duration::from_micros(1)));
    assert!(!revocations.covers(&claims));
}

#[test]
fn what_a_token_rests_on_ends_it_and_nothing_else_does() {
    for (kind, basis) in bases() {
        let claims = Claims { basis: basis.clone(), ..claims(1) };
        let (trust, credential) = (&basis.trust, &basis.application_credential);
        let mut ends: Vec<(RevocationKind, String, String, u64)> = Vec::new();
        let mut add = |kind, subject: &str, scope: &str, serial| {
            ends.push((kind, subject.to_owned(), scope.to_owned(), serial));
        };
        let scope = claims.scope.key();
        if let Some(TrustBasis { trust, others, .. }) = trust {
            add(RevocationKind::Trust, &trust.id, "", trust.serial + 1);
            let (user, domain) = &others[0];
            add(RevocationKind::User, user.id.as_str(), "", user.serial + 1);
            add(RevocationKind::Grant, user.id.as_str(), &scope, user.serial + 1);
            add(RevocationKind::Domain, domain.id.as_str(), "", domain.serial + 1);
            add(RevocationKind::ImpliedRole, claims.roles[0].as_str(), "", 5);
        }
        if let Some(basis) = credential {
            add(RevocationKind::ApplicationCredential, &basis.credential.id, "", 1);
        }
        if let Some(key) = &basis.ec2_key {
            add(RevocationKind::Ec2Key, &key.id, "", 1);
        }
        if let Some(basis) = &basis.oauth {
            add(RevocationKind::OauthConsumer, &basis.consumer.id, "", 1);
            add(RevocationKind::OauthToken, &basis.access_token.id, "", 1);
        }
        if let Some(basis) = &basis.federation {
            add(RevocationKind::IdentityProvider, &basis.identity_provider.id, "", 3);
            let last = &basis.groups[2];
            add(RevocationKind::Group, &last.id, "", last.serial + 1);
            add(RevocationKind::Group, &last.id, &scope, last.serial + 1);
        }
        assert!(!ends.is_empty());
        for (what, subject, scope, serial) in ends {
            let covers = |subject: &str, scope: &str, serial| {
                revoked(what, subject, scope, serial).covers(&claims)
            };
            assert!(covers(&subject, &scope, serial), "{kind}: {what:?}");
            assert!(claims.subjects().contains(&subject), "{kind}: {what:?} is looked for");
            assert!(!covers(&subject, &scope, serial - 1), "{kind}: {what:?} before it");
            assert!(!covers("another", &scope, serial), "{kind}: another {what:?}");
            assert!(!covers(&subject, "system", serial), "{kind}: {what:?} elsewhere");
            let plain = Claims { basis: Basis::default(), ..claims.clone() };
            let spared = !revoked(what, &subject, &scope, serial).covers(&plain);
            assert!(spared, "{kind}: {what:?} of a plain login");
        }
    }
}

fn any_stamp() -> impl Strategy<Value = Stamp<String>> {
    let id = prop_oneof!["[a-f0-9]{32}", "[a-f0-9]{64}", "[ -~]{1,64}", "default", "[é😀]{1,60}"];
    (id, any::<u64>()).prop_map(|(id, serial)| Stamp::new(id, serial))
}

fn any_person() -> impl Strategy<Value = (Stamp<UserId>, Stamp<DomainId>)> {
    let id = || prop_oneof!["[a-f0-9]{32}", "[a-f0-9]{64}", "[A-Za-z0-9_-]{1,64}", "default"];
    (id(), any::<u64>(), id(), any::<u64>()).prop_map(|(user, serial, domain, domain_serial)| {
        (
            Stamp::new(user.parse().unwrap(), serial),
            Stamp::new(domain.parse().unwrap(), domain_serial),
        )
    })
}

fn any_basis() -> impl Strategy<Value = Basis> {
    use prop::collection::vec;
    use prop::option::of;
    let trust = (any_stamp(), any::<bool>(), vec(any_person(), 0..4))
        .prop_map(|(trust, impersonation, others)| TrustBasis { trust, impersonation, others });
    let rule = ("[a-z]{0,20}", "[A-Z]{0,7}", "\\PC{0,60}")
        .prop_map(|(service, method, path)| AccessRule { service, method, path });
    let credential = (any_stamp(), any::<bool>(), of(vec(rule, 0..5))).prop_map(
        |(credential, restricted, access_rules)| ApplicationCredentialBasis {
            credential,
            restricted,
            access_rules,
        },
    );
    let oauth = (any_stamp(), any_stamp())
        .prop_map(|(consumer, access_token)| OauthBasis { consumer, access_token });
    let federation = (any_stamp(), "[a-z0-9]{1,64}", vec(any_stamp(), 0..5)).prop_map(
        |(identity_provider, protocol, groups)| FederationBasis {
            identity_provider,
            protocol,
            groups,
        },
    );
    let implications = of(any::<u64>());
    (of(trust), of(credential), of(any_stamp()), of(oauth), of(federation), implications).prop_map(
        |(trust, application_credential, ec2_key, oauth, federation, implications)| Basis {
            trust,
            application_credential,
            ec2_key,
            oauth,
            federation,
            implications,
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_token_says_is_read_back(
        user in "[A-Za-z0-9_-]{1,64}",
        role in "[a-f0-9]{32}|[A-F0-9]{32}|default",
        serial in any::<u64>(),
        methods in any::<u16>(),
        times in any::<(i64, i64)>(),
        basis in any_basis(),
    ) {
        let keys = KeySet::load(&KeySource::Ephemeral).unwrap();
        let claims = Claims {
            methods: Methods(methods),
            basis,
            issued_at: Timestamp(times.0),
            expires_at: Timestamp(times.1),
            user: Stamp::new(user.parse().unwrap(), serial),
            roles: vec![role.parse().unwrap()],
            ..claims(0)
        };
        prop_assert_eq!(Claims::read(&claims.sign(&keys).unwrap(), &keys), Ok(claims));
    }

    #[test]
    fn no_text_panics(text in "[A-Za-z0-9_-]{0,400}") {
        let keys = KeySet::load(&KeySource::Ephemeral).unwrap();
        prop_assert!(Claims::read(&text, &keys).is_err());
    }
}
