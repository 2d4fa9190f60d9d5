//! Looking people up in their domain's directory, and keeping the mirror.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cloud_types::{DomainId, Fault, UserId};
use database::{ObjectLock, Origin, Tx};
use serde_json::Value;
use service_kit::Filters;
use zeroize::Zeroizing;

use super::client::{Away, Directory};
use super::entry::{DirectoryGroup, Kind, Person, equal, like};
use super::mirror::{
    drop_group, drop_user, group_id, mirror_group, mirror_members, mirror_memberships, mirror_user,
    user_id,
};
use super::settings::LdapSettings;
use super::store::{self, Entry};
use crate::token::Revocation;
use crate::token::format::Methods;
use crate::token::model::Reference;
use crate::token::service::{Proven, refused};
use crate::{Identity, domain_config, user};

/// The length of a public id; ids that are made here have half of it.
const PUBLIC_ID: usize = 64;
/// Rows of the mirror written in one transaction.
const CHUNK: usize = 200;

/// The directories that this process knows, each with the settings it was made with.
#[derive(Default)]
pub(crate) struct DirectoryPool {
    known: Mutex<HashMap<DomainId, Arc<Directory>>>,
}

impl DirectoryPool {
    fn of(&self, domain: &DomainId, settings: LdapSettings) -> Result<Arc<Directory>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = known.get(domain).filter(|known| known.settings == settings) {
            return Ok(directory.clone());
        }
        let directory = Arc::new(Directory::new(settings)?);
        known.insert(domain.clone(), directory.clone());
        Ok(directory)
    }
}

fn unavailable(domain: &DomainId, away: &Away) -> Fault {
    tracing::warn!(%domain, reason = %away, "a directory cannot be asked");
    if away.is_too_long() {
        return Fault::unavailable(format!(
            "The directory of domain {domain} does not give so many entries at once: its size limit \
             is too low for this list. Logins are not affected. The directory's administrator can \
             raise the limit for the account that asks."
        ));
    }
    Fault::unavailable(format!(
        "The directory of domain {domain} cannot be asked now, so its users and groups cannot be \
         looked up and cannot log in. Try again later; other domains are not affected."
    ))
    .retry_after(10)
}

/// Whoever tries to log in learns no more of the settings than that they are wrong.
fn unusable(domain: &DomainId, why: &str) -> Fault {
    tracing::warn!(%domain, why, "a directory's settings cannot be used");
    Fault::unavailable(format!(
        "The directory of domain {domain} is not set up rightly. An administrator finds the reason \
         in the log, and has to change the domain's configuration; other domains are not affected."
    ))
}

/// 403 for changing what is in a directory.
pub(crate) fn read_only() -> Fault {
    Fault::forbidden(
        "The users and groups of this domain are kept in a directory, which is only read. Change \
         them there.",
    )
}

/// Whether an id may be one of a directory's entries: a cheap look before a dear one.
pub(crate) fn may_be_mirrored(id: &str) -> bool {
    id.len() == PUBLIC_ID && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Identity {
    /// The directory in which a domain's users are, where they are in one.
    ///
    /// # Errors
    /// 503 when it is set up wrongly.
    pub(crate) async fn directory_of(
        &self,
        domain: &DomainId,
    ) -> Result<Option<Arc<Directory>>, Fault> {
        let (id, vault) = (domain.clone(), self.tokens.vault());
        let mut config = self
            .look(move |tx| {
                let (id, vault) = (id.clone(), vault.clone());
                Box::pin(async move { domain_config::store::opened(tx, &vault, id.as_str()).await })
            })
            .await?;
        let driver = config.get("identity").and_then(|options| options.get("driver"));
        if driver.and_then(Value::as_str) != Some("ldap") {
            return Ok(None);
        }
        let options = config.remove("ldap").unwrap_or_default().into_iter().collect();
        let settings = LdapSettings::of(options).map_err(|why| unusable(domain, &why))?;
        self.directories.of(domain, settings).map(Some).map_err(|why| unusable(domain, &why))
    }

    /// Refuses to change users or groups of a domain that has a directory.
    pub(crate) async fn refuse_in_directory(&self, domain: &DomainId) -> Result<(), Fault> {
        match self.directory_of(domain).await? {
            Some(_) => Err(read_only()),
            None => Ok(()),
        }
    }

    /// Refuses to change an entry of a directory.
    pub(crate) async fn refuse_mirrored(&self, kind: KindOf, id: &str) -> Result<(), Fault> {
        match self.entry_of(kind.0, id).await? {
            Some(_) => Err(read_only()),
            None => Ok(()),
        }
    }

    pub(super) async fn entry_of(&self, kind: Kind, id: &str) -> Result<Option<Entry>, Fault> {
        if !may_be_mirrored(id) {
            return Ok(None);
        }
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { Ok(store::entry(tx, kind, &id).await?) })
        })
        .await
    }

    /// A login with a password by the directory of the person's domain; `None` where the person is
    /// an ordinary user.
    pub(crate) async fn prove_in_directory(
        &self,
        who: &Reference,
        secret: &Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Option<Proven>, Fault> {
        let wanted = who.clone();
        let place = self
            .look(move |tx| {
                let who = wanted.clone();
                Box::pin(async move { place_of(tx, &who).await })
            })
            .await?;
        let Some((domain, sought)) = place else {
            return Ok(None);
        };
        let Some(directory) = self.directory_of(&domain).await? else {
            return Ok(None);
        };
        let away = |away: Away| unavailable(&domain, &away);
        let guessed = sought.guessed_at(&domain);
        let attempt = self.throttle.enter(&guessed, source, self.kit.clock.now())?;
        let person = match let_in(&directory, &sought, secret).await {
            Ok(None) => return Err(refused()),
            answer => {
                // A right password, or nothing was learnt from it.
                attempt.give_back();
                answer.map_err(away)?.ok_or_else(refused)?
            }
        };
        let groups = directory.groups_of(&person).await.map_err(away)?;
        let user = self.mirror_person(&domain, person, groups).await?;
        Ok(Some(Proven::by(user, Methods::PASSWORD)))
    }

    /// Mirrors one person with the groups that they are in now.
    async fn mirror_person(
        &self,
        domain: &DomainId,
        person: Person,
        groups: Vec<DirectoryGroup>,
    ) -> Result<UserId, Fault> {
        let id = user_id(domain, &person)?;
        let (domain, wanted) = (domain.clone(), id.clone());
        let found = Arc::new((person, groups));
        self.write_mirror(move |tx| {
            let (domain, id, found) = (domain.clone(), wanted.clone(), found.clone());
            Box::pin(async move {
                let (person, groups) = &*found;
                tx.lock(&[ObjectLock::new("user", &id)]).await?;
                let mut revocations = mirror_user(tx, &domain, &id, person).await?;
                revocations.extend(mirror_memberships(tx, &domain, &id, groups).await?);
                Ok(revocations)
            })
        })
        .await?;
        Ok(id)
    }

    async fn write_mirror<F>(&self, closure: F) -> Result<(), Fault>
    where
        F: for<'c> Fn(&'c mut Tx) -> database::BoxFuture<'c, Result<Vec<Revocation>, Fault>>
            + Send
            + Sync
            + 'static,
    {
        let revocations = self.kit.db.transact(&Origin::system("directory"), closure).await?;
        self.changed(&revocations);
        Ok(())
    }

    /// Brings the mirror up to what a list is about to show; nothing for ordinary domains.
    pub(crate) async fn refresh_users(
        &self,
        domain: &DomainId,
        filters: &Filters,
    ) -> Result<(), Fault> {
        let Some(directory) = self.directory_of(domain).await? else {
            return Ok(());
        };
        let conditions = conditions(&directory.settings.user_name_attribute, filters);
        let people =
            directory.people(&conditions).await.map_err(|away| unavailable(domain, &away))?;
        let mut seen = BTreeMap::new();
        for person in people {
            if let Ok(id) = user_id(domain, &person) {
                seen.insert(id, person);
            }
        }
        let ids: Vec<UserId> = seen.keys().cloned().collect();
        let everybody = conditions.is_empty();
        let entries: Vec<(UserId, Person)> = seen.into_iter().collect();
        for chunk in entries.chunks(CHUNK) {
            let (domain, chunk) = (domain.clone(), Arc::new(chunk.to_vec()));
            self.write_mirror(move |tx| {
                let (domain, chunk) = (domain.clone(), chunk.clone());
                Box::pin(async move {
                    let locks: Vec<ObjectLock> =
                        chunk.iter().map(|(id, _)| ObjectLock::new("user", id)).collect();
                    tx.lock(&locks).await?;
                    let mut revocations = Vec::new();
                    for (id, person) in chunk.iter() {
                        revocations.extend(mirror_user(tx, &domain, id, person).await?);
                    }
                    Ok(revocations)
                })
            })
            .await?;
        }
        // An empty answer to "who is there" is a mistake in the settings sooner than the end of all.
        if everybody && !ids.is_empty() {
            self.drop_missing_users(domain, ids).await?;
        }
        Ok(())
    }

    async fn drop_missing_users(&self, domain: &DomainId, seen: Vec<UserId>) -> Result<(), Fault> {
        let (domain, seen) = (domain.clone(), Arc::new(seen));
        self.write_mirror(move |tx| {
            let (domain, seen) = (domain.clone(), seen.clone());
            Box::pin(async move {
                let mut revocations = Vec::new();
                for id in store::mirrored(tx, Kind::User, &domain).await? {
                    let id: UserId = crate::wire::id("user", &id)?;
                    if seen.binary_search(&id).is_err() {
                        revocations.extend(drop_user(tx, &id).await?);
                    }
                }
                Ok(revocations)
            })
        })
        .await
    }

    /// Brings one user up to date; nothing for ordinary users.
    pub(crate) async fn refresh_user(&self, id: &UserId) -> Result<(), Fault> {
        let Some(entry) = self.entry_of(Kind::User, id.as_str()).await? else {
            return Ok(());
        };
        let Some(directory) = self.directory_of(&entry.domain_id).await? else {
            return Ok(());
        };
        let away = |away: Away| unavailable(&entry.domain_id, &away);
        let found = directory.by_id(&entry.local_id).await.map_err(away)?;
        // A directory compares without regard to case, and any of several values: whoever is found
        // under another name for good is somebody else here.
        let found =
            found.filter(|person| user_id(&entry.domain_id, person).is_ok_and(|it| it == *id));
        match found {
            Some(person) => {
                let groups = directory.groups_of(&person).await.map_err(away)?;
                self.mirror_person(&entry.domain_id, person, groups).await?;
            }
            None => {
                let gone = id.clone();
                self.write_mirror(move |tx| {
                    let id = gone.clone();
                    Box::pin(async move {
                        tx.lock(&[ObjectLock::new("user", &id)]).await?;
                        drop_user(tx, &id).await
                    })
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Brings the mirror up to what a list of groups is about to show.
    pub(crate) async fn refresh_groups(
        &self,
        domain: &DomainId,
        filters: &Filters,
    ) -> Result<(), Fault> {
        let Some(directory) = self.directory_of(domain).await? else {
            return Ok(());
        };
        let conditions = conditions(&directory.settings.group_name_attribute, filters);
        let groups =
            directory.groups(&conditions).await.map_err(|away| unavailable(domain, &away))?;
        let everything = conditions.is_empty() && !groups.is_empty();
        let seen: Vec<String> = groups.iter().map(|group| group_id(domain, group)).collect();
        let (domain, found) = (domain.clone(), Arc::new((groups, seen)));
        self.write_mirror(move |tx| {
            let (domain, found) = (domain.clone(), found.clone());
            Box::pin(async move {
                let (groups, seen) = &*found;
                for group in groups {
                    mirror_group(tx, &domain, group).await?;
                }
                let mut revocations = Vec::new();
                if everything {
                    for id in store::mirrored(tx, Kind::Group, &domain).await? {
                        if !seen.contains(&id) {
                            revocations.extend(drop_group(tx, &id).await?);
                        }
                    }
                }
                Ok(revocations)
            })
        })
        .await
    }

    /// Brings a group up to date with its members; nothing for ordinary groups.
    pub(crate) async fn refresh_group(&self, id: &str, with_members: bool) -> Result<(), Fault> {
        let Some(entry) = self.entry_of(Kind::Group, id).await? else {
            return Ok(());
        };
        let Some(directory) = self.directory_of(&entry.domain_id).await? else {
            return Ok(());
        };
        let away = |away: Away| unavailable(&entry.domain_id, &away);
        let found = directory.group(&entry.local_id).await.map_err(away)?;
        let people = match &found {
            Some(found) if with_members => directory.members(found).await.map_err(away)?,
            _ => Vec::new(),
        };
        let (domain, id) = (entry.domain_id.clone(), id.to_owned());
        let found = Arc::new((found, people));
        self.write_mirror(move |tx| {
            let (domain, id, found) = (domain.clone(), id.clone(), found.clone());
            Box::pin(async move {
                let (Some(found), people) = &*found else {
                    return drop_group(tx, &id).await;
                };
                mirror_group(tx, &domain, found).await?;
                if !with_members {
                    return Ok(Vec::new());
                }
                mirror_members(tx, &domain, &id, people).await
            })
        })
        .await
    }
}

/// A kind of entry, as other resources name it.
pub(crate) struct KindOf(Kind);

impl KindOf {
    pub const USER: KindOf = KindOf(Kind::User);
    pub const GROUP: KindOf = KindOf(Kind::Group);
}

enum Sought {
    Name(String),
    LocalId(String),
}

impl Sought {
    /// What guesses at somebody's password are counted for: however the name is written, as far as a
    /// directory does not tell apart.
    fn guessed_at(&self, domain: &DomainId) -> String {
        match self {
            Sought::Name(name) => {
                let words: Vec<&str> = name.split_whitespace().collect();
                format!("directory {domain} name {}", words.join(" ").to_lowercase())
            }
            Sought::LocalId(id) => format!("directory {domain} id {id}"),
        }
    }
}

/// The person, where the password is theirs and they may log in.
async fn let_in(
    directory: &Directory,
    sought: &Sought,
    secret: &str,
) -> Result<Option<Person>, Away> {
    let person = match sought {
        Sought::Name(name) => directory.by_name(name).await?,
        Sought::LocalId(id) => directory.by_id(id).await?,
    };
    let matches = directory.verify(person.as_ref(), secret).await?;
    Ok(person.filter(|person| matches && person.enabled))
}

/// In which domain somebody who logs in is sought, and as what; `None` for ordinary users, also
/// for one who was made in a domain before it got a directory: the way in for its administrator.
async fn place_of(tx: &mut Tx, who: &Reference) -> Result<Option<(DomainId, Sought)>, Fault> {
    match who {
        Reference::Id(id) => {
            let entry = store::entry(tx, Kind::User, id).await?;
            Ok(entry.map(|entry| (entry.domain_id, Sought::LocalId(entry.local_id))))
        }
        Reference::Name(name, domain) => {
            let Some(domain) = crate::token::service::find_domain(tx, domain).await? else {
                return Ok(None);
            };
            if let Some(known) = user::store::by_name(tx, &domain.id, name).await?
                && store::entry(tx, Kind::User, known.id.as_str()).await?.is_none()
            {
                return Ok(None);
            }
            Ok(Some((domain.id, Sought::Name(name.clone()))))
        }
    }
}

/// What a list's filters ask of the directory. What it cannot compare is left to the rows.
fn conditions(attribute: &str, filters: &Filters) -> Vec<String> {
    let mut conditions = Vec::new();
    if let Some(name) = filters.get("name") {
        conditions.push(equal(attribute, name));
    }
    for prefix in ["", "i"] {
        for (ending, before, after) in
            [("contains", "*", "*"), ("startswith", "", "*"), ("endswith", "*", "")]
        {
            if let Some(value) = filters.get(&format!("name__{prefix}{ending}")) {
                conditions.push(like(attribute, before, value, after));
            }
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_guessed_at_however_it_is_written() {
        let corp: DomainId = "default".parse().unwrap();
        let name = |text: &str| Sought::Name(text.to_owned()).guessed_at(&corp);
        for written in ["Ada Lovelace", " ada  lovelace", "ADA LOVELACE "] {
            assert_eq!(name(written), name("ada lovelace"));
        }
        assert_ne!(name("ada"), name("bob"));
        assert_ne!(name("7"), Sought::LocalId("7".to_owned()).guessed_at(&corp));
    }
}
