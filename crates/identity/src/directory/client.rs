//! Connections to one directory: a few, kept, each with time limits. A directory that is away costs
//! its own domain an answer, and nobody else anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::entry::{
    Attributes, DirectoryGroup, Person, equal, equal_id, group, groups_filter, groups_of_filter,
    people_filter, person, value_text,
};
use super::settings::{LdapSettings, QueryScope};

/// Most entries of one answer: more is a mistake in a filter.
const MAX_ENTRIES: usize = 200_000;
/// A search of many pages takes this many times longer than one answer may.
const SEARCH_PATIENCE: u32 = 12;
/// LDAP's result codes.
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_CREDENTIALS: u32 = 49;
const INVALID_DN: u32 = 34;

/// The directory cannot be asked; why is for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Away(pub String);

/// Why an answer was cut by the directory's own limit.
const TOO_LONG: &str = "the answer is longer than the directory's size limit allows";

impl Away {
    /// Whether the directory answers, but not so much at once.
    pub fn is_too_long(&self) -> bool {
        self.0 == TOO_LONG
    }
}

fn away(error: LdapError) -> Away {
    match error {
        LdapError::LdapResult { result } if result.rc == SIZE_LIMIT_EXCEEDED => {
            Away(TOO_LONG.to_owned())
        }
        other => Away(other.to_string()),
    }
}

/// One directory.
pub(crate) struct Directory {
    pub settings: LdapSettings,
    places: Semaphore,
    /// Logins under way: a connection is left for questions, so that however many log in, people
    /// who have tokens are looked up again in time.
    binds: Semaphore,
    idle: Mutex<Vec<Ldap>>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// A connection, bound as the searcher, given back when it is not spoiled.
struct Held<'d> {
    directory: &'d Directory,
    ldap: Option<Ldap>,
    _place: SemaphorePermit<'d>,
}

impl Held<'_> {
    fn ldap(&mut self) -> Result<&mut Ldap, Away> {
        self.ldap.as_mut().ok_or_else(|| Away("the connection is gone".to_owned()))
    }

    /// Keeps the connection for the next one.
    fn keep(mut self) {
        if let Some(ldap) = self.ldap.take() {
            self.directory.idle.lock().unwrap_or_else(PoisonError::into_inner).push(ldap);
        }
    }
}

impl Directory {
    /// A directory; nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: LdapSettings) -> Result<Directory, String> {
        settings.check()?;
        if settings.is_open() {
            tracing::warn!(
                url = settings.url,
                "passwords cross the network to this directory in clear; use ldaps or use_tls"
            );
        }
        let tls = match settings.tls_cacertfile.as_str() {
            "" => None,
            path => Some(Arc::new(trusting(path)?)),
        };
        Ok(Directory {
            places: Semaphore::new(settings.pool_size as usize),
            binds: Semaphore::new((settings.pool_size as usize).saturating_sub(1).max(1)),
            idle: Mutex::default(),
            tls,
            settings,
        })
    }

    async fn connect(&self) -> Result<Ldap, Away> {
        let patience = self.settings.patience();
        let mut last = Away("there is no address".to_owned());
        for url in self.settings.urls() {
            let mut wanted = LdapConnSettings::new()
                .set_conn_timeout(patience)
                .set_starttls(self.settings.use_tls);
            if let Some(tls) = &self.tls {
                wanted = wanted.set_config(tls.clone());
            }
            match LdapConnAsync::with_settings(wanted, url).await {
                Ok((connection, ldap)) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.drive().await {
                            tracing::debug!(%error, "a connection to a directory ended");
                        }
                    });
                    return Ok(ldap);
                }
                Err(error) => last = Away(format!("{url}: {error}")),
            }
        }
        Err(last)
    }

    async fn place<'s>(&self, among: &'s Semaphore) -> Result<SemaphorePermit<'s>, Away> {
        match tokio::time::timeout(self.settings.patience(), among.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Away("all connections are busy".to_owned())),
        }
    }

    async fn hold(&self) -> Result<Held<'_>, Away> {
        let place = self.place(&self.places).await?;
        let kept = loop {
            let mut next = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if !next.as_mut().is_some_and(Ldap::is_closed) {
                break next;
            }
        };
        let ldap = match kept {
            Some(ldap) => ldap,
            None => {
                let mut ldap = self.connect().await?;
                if !self.settings.user.is_empty() {
                    ldap.with_timeout(self.settings.patience());
                    ldap.simple_bind(&self.settings.user, &self.settings.password)
                        .await
                        .and_then(ldap3::LdapResult::success)
                        .map_err(away)?;
                }
                ldap
            }
        };
        Ok(Held { directory: self, ldap: Some(ldap), _place: place })
    }

    /// A search with a kept connection; one more try with a new one when the kept one was dead.
    async fn search(
        &self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<(String, Attributes)>, Away> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut held = self.hold().await?;
            let limit = self.settings.patience() * SEARCH_PATIENCE;
            let search = self.search_on(held.ldap()?, base, scope, filter, attributes);
            match tokio::time::timeout(limit, search).await {
                Ok(Ok(found)) => {
                    held.keep();
                    return Ok(found);
                }
                Ok(Err(error)) if tries == 1 && is_broken(&error) => {
                    // The others that were kept are as old.
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Ok(Err(error)) => return Err(away(error)),
                Err(_) => return Err(Away("the search took too long".to_owned())),
            }
        }
    }

    async fn search_on(
        &self,
        ldap: &mut Ldap,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<(String, Attributes)>, LdapError> {
        let mut adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> =
            vec![Box::new(EntriesOnly::new())];
        if self.settings.page_size > 0 && scope != Scope::Base {
            let size = i32::try_from(self.settings.page_size).unwrap_or(i32::MAX);
            adapters.push(Box::new(PagedResults::new(size)));
        }
        ldap.with_timeout(self.settings.patience());
        let mut stream =
            ldap.streaming_search_with(adapters, base, scope, filter, attributes.to_vec()).await?;
        let mut found = Vec::new();
        while let Some(raw) = stream.next().await? {
            let entry = SearchEntry::construct(raw);
            // Bytes that happen to be text come as text.
            let texts = entry.attrs.into_iter().map(|(name, values)| {
                let values = values.into_iter().map(String::into_bytes).collect();
                (name, values)
            });
            let attributes: Attributes = texts
                .chain(entry.bin_attrs)
                .map(|(name, values): (String, Vec<Vec<u8>>)| {
                    let texts = values.iter().map(|bytes| value_text(&name, bytes)).collect();
                    (name.to_ascii_lowercase(), texts)
                })
                .collect();
            found.push((entry.dn, attributes));
            if found.len() >= MAX_ENTRIES {
                tracing::warn!(filter, "a directory's answer was cut at {MAX_ENTRIES} entries");
                break;
            }
        }
        let result = stream.finish().await;
        if result.rc == NO_SUCH_OBJECT && scope == Scope::Base {
            return Ok(Vec::new());
        }
        if found.len() < MAX_ENTRIES {
            result.success()?;
        }
        Ok(found)
    }

    fn scope(&self) -> Scope {
        match self.settings.query_scope {
            QueryScope::One => Scope::OneLevel,
            QueryScope::Sub => Scope::Subtree,
        }
    }

    fn person_attributes(&self) -> Vec<String> {
        let settings = &self.settings;
        let more = settings.user_additional_attribute_mapping.iter();
        [
            &settings.user_id_attribute,
            &settings.user_name_attribute,
            &settings.user_mail_attribute,
            &settings.user_description_attribute,
            &settings.user_enabled_attribute,
        ]
        .into_iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .chain(more.filter_map(|pair| pair.split_once(':').map(|(from, _)| from.trim().to_owned())))
        .collect()
    }

    fn group_attributes(&self, with_members: bool) -> Vec<String> {
        let settings = &self.settings;
        let mut names = vec![
            settings.group_id_attribute.clone(),
            settings.group_name_attribute.clone(),
            settings.group_desc_attribute.clone(),
        ];
        if with_members {
            names.push(settings.group_member_attribute.clone());
        }
        names.retain(|name| !name.is_empty());
        names
    }

    /// People for whom all conditions hold.
    pub async fn people(&self, conditions: &[String]) -> Result<Vec<Person>, Away> {
        let filter = people_filter(&self.settings, conditions);
        let (base, names) = (self.settings.users(), self.person_attributes());
        let found = self.search(&base, self.scope(), &filter, &names).await?;
        Ok(found
            .into_iter()
            .filter_map(|(dn, attributes)| person(&self.settings, dn, &attributes))
            .collect())
    }

    /// The person with this value of an attribute; nobody when several have it, for then it names
    /// nobody.
    async fn one_person(&self, attribute: &str, value: &str) -> Result<Option<Person>, Away> {
        let mut found = self.people(&[equal_id(attribute, value)]).await?;
        if found.len() > 1 {
            tracing::warn!(attribute, "several people of a directory share a name; none gets in");
            return Ok(None);
        }
        Ok(found.pop())
    }

    /// The person of a login name.
    pub async fn by_name(&self, name: &str) -> Result<Option<Person>, Away> {
        self.one_person(&self.settings.user_name_attribute, name).await
    }

    /// The person of an id.
    pub async fn by_id(&self, local_id: &str) -> Result<Option<Person>, Away> {
        self.one_person(&self.settings.user_id_attribute, local_id).await
    }

    /// Groups for which all conditions hold, without members.
    pub async fn groups(&self, conditions: &[String]) -> Result<Vec<DirectoryGroup>, Away> {
        let filter = groups_filter(&self.settings, conditions);
        self.find_groups(&filter, false).await
    }

    /// The groups of a person.
    pub async fn groups_of(&self, person: &Person) -> Result<Vec<DirectoryGroup>, Away> {
        self.find_groups(&groups_of_filter(&self.settings, person), false).await
    }

    /// A group with its members' names.
    pub async fn group(&self, local_id: &str) -> Result<Option<DirectoryGroup>, Away> {
        let condition = equal_id(&self.settings.group_id_attribute, local_id);
        let filter = groups_filter(&self.settings, &[condition]);
        Ok(self.find_groups(&filter, true).await?.pop())
    }

    async fn find_groups(
        &self,
        filter: &str,
        with_members: bool,
    ) -> Result<Vec<DirectoryGroup>, Away> {
        let (base, names) = (self.settings.groups(), self.group_attributes(with_members));
        let found = self.search(&base, self.scope(), filter, &names).await?;
        Ok(found
            .into_iter()
            .filter_map(|(dn, attributes)| group(&self.settings, dn, &attributes))
            .collect())
    }

    /// The people whom a group names as members. Members that are no people of this directory are
    /// left out.
    pub async fn members(&self, group: &DirectoryGroup) -> Result<Vec<Person>, Away> {
        let mut people: HashMap<String, Person> = HashMap::new();
        if self.settings.group_members_are_ids {
            for chunk in group.members.chunks(100) {
                let any: String =
                    chunk.iter().map(|id| equal(&self.settings.user_id_attribute, id)).collect();
                for person in self.people(&[format!("(|{any})")]).await? {
                    people.insert(person.local_id.clone(), person);
                }
            }
        } else {
            let (filter, names) = (people_filter(&self.settings, &[]), self.person_attributes());
            for dn in &group.members {
                let found = self.search(dn, Scope::Base, &filter, &names).await?;
                for (dn, attributes) in found {
                    if let Some(person) = person(&self.settings, dn, &attributes) {
                        people.insert(person.local_id.clone(), person);
                    }
                }
            }
        }
        let mut people: Vec<Person> = people.into_values().collect();
        people.sort_by(|one, other| one.local_id.cmp(&other.local_id));
        Ok(people)
    }

    /// Whether the password is the person's: a bind in their name, on a connection of its own. For
    /// nobody the same work is done, and the answer is no.
    pub async fn verify(&self, person: Option<&Person>, password: &str) -> Result<bool, Away> {
        // A bind without a password succeeds for anybody (RFC 4513, 5.1.2).
        if password.is_empty() {
            return Ok(false);
        }
        let _login = self.place(&self.binds).await?;
        let _place = self.place(&self.places).await?;
        let mut ldap = self.connect().await?;
        let nobody =
            format!("cn=nobody-{},{}", uuid::Uuid::new_v4().simple(), self.settings.users());
        let dn = person.map_or(nobody.as_str(), |person| person.dn.as_str());
        ldap.with_timeout(self.settings.patience());
        let bound = ldap.simple_bind(dn, password).await.map_err(away)?;
        ldap.with_timeout(Duration::from_secs(1));
        // Only politeness: the connection ends with its handle.
        let _ = ldap.unbind().await;
        match bound.rc {
            0 => Ok(person.is_some()),
            INVALID_CREDENTIALS | NO_SUCH_OBJECT | INVALID_DN => Ok(false),
            // Locked, expired, to be changed first: whatever the directory refuses is refused.
            19 | 50 | 53 => Ok(false),
            code => Err(Away(format!("the directory answers a bind with code {code}"))),
        }
    }
}

fn is_broken(error: &LdapError) -> bool {
    !matches!(error, LdapError::LdapResult { .. } | LdapError::FilterParsing)
}

/// TLS that trusts the authorities of a file, and no others.
fn trusting(path: &str) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("tls_cacertfile {path}: {error}"))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| format!("tls_cacertfile {path}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("tls_cacertfile {path}: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("tls_cacertfile {path} holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
