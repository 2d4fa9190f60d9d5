//! The format, its size and its refusals; what revocations cover.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use proptest::prelude::*;

use super::format::{AuditId, Claims, FormatError, Scope, Stamp};
use super::keys::{KeyError, KeySet, KeySource};
use super::revocation::{Revocation, RevocationKind, Revocations};

fn keys() -> KeySet {
    KeySet::load(&KeySource::Ephemeral).unwrap()
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn claims(roles: usize) -> Claims {
    Claims {
        methods: 3,
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
    }
}

#[test]
fn ten_roles_fit_in_600_characters() {
    let text = claims(10).sign(&keys());
    assert!(text.len() < 600, "{} characters", text.len());
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
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
        assert_eq!(Claims::read(&claims.sign(&keys), &keys), Ok(claims));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let keys = keys();
    let text = claims(1).sign(&keys);
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
    let text = claims(1).sign(&keys());
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
    let text = claims(1).sign(&first);
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
    let fresh = claims(1).sign(&rotated);
    assert_eq!(Claims::read(&fresh, &first), Err(FormatError::UnknownKey));
    std::fs::remove_file(path.join("0001.key")).unwrap();
    let last = KeySet::load(&source).unwrap();
    assert_eq!(Claims::read(&text, &last), Err(FormatError::UnknownKey));
    assert!(Claims::read(&fresh, &last).is_ok());

    std::fs::write(&newer, "not a key").unwrap();
    assert!(matches!(KeySet::load(&source), Err(KeyError::Malformed(_))));
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

proptest! {
    #[test]
    fn free_identifiers_and_serials_round_trip(
        user in "[A-Za-z0-9_-]{1,64}",
        role in "[a-f0-9]{32}|[A-F0-9]{32}|default",
        serial in any::<u64>(),
        methods in any::<u8>(),
        times in any::<(i64, i64)>(),
    ) {
        let keys = KeySet::load(&KeySource::Ephemeral).unwrap();
        let claims = Claims {
            methods,
            issued_at: Timestamp(times.0),
            expires_at: Timestamp(times.1),
            user: Stamp::new(user.parse().unwrap(), serial),
            roles: vec![role.parse().unwrap()],
            ..claims(0)
        };
        prop_assert_eq!(Claims::read(&claims.sign(&keys), &keys), Ok(claims));
    }

    #[test]
    fn no_text_panics(text in "[A-Za-z0-9_-]{0,400}") {
        let keys = KeySet::load(&KeySource::Ephemeral).unwrap();
        prop_assert!(Claims::read(&text, &keys).is_err());
    }
}
