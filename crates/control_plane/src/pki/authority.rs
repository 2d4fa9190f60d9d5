//! Making the authority and signing with it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};

use super::files::{read_pem, write_private, write_public};

/// Days that the authority's own certificate is valid.
const AUTHORITY_VALIDITY_DAYS: i64 = 3650;
/// Days that a server's certificate is valid; renewed at start when less than a third is left.
pub const SERVER_VALIDITY_DAYS: i64 = 825;
/// Days that a host's certificate is valid.
pub const HOST_VALIDITY_DAYS: i64 = 825;

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key, certificate or signing request is not what it should be.
    #[error("{what}: {why}")]
    Invalid {
        /// Which one.
        what: String,
        /// Why.
        why: String,
    },
}

impl PkiError {
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        PkiError::File { path: path.to_owned(), source }
    }
    fn invalid(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        PkiError::Invalid { what: what.into(), why: why.to_string() }
    }
}

/// A certificate and its private key, both PEM.
pub struct KeyPairPem {
    /// The certificate.
    pub certificate: String,
    /// The private key; never logged.
    pub key: String,
}

/// The certificate authority, with its key in memory.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in `directory` (`ca.pem`, `ca.key`), making it when neither file exists.
    /// One file without the other is an error: silently making a new authority would cut off
    /// every host that trusts the old one.
    pub fn open_or_create(directory: &Path, name: &str) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        match (certificate_path.exists(), key_path.exists()) {
            (true, true) => {}
            (false, false) => {
                let made = Self::generate(name)?;
                write_private(&key_path, &made.key)?;
                write_public(&certificate_path, &made.certificate)?;
            }
            // The key is written first, so a key alone is a creation that was cut short, and no
            // certificate was ever handed out.
            (false, true) => {
                let made = Self::generate(name)?;
                write_private(&key_path, &made.key)?;
                write_public(&certificate_path, &made.certificate)?;
            }
            (true, false) => {
                return Err(PkiError::invalid(
                    key_path.display().to_string(),
                    "the authority's key is missing while its certificate is there; restore it from a backup",
                ));
            }
        }
        let certificate = read_pem(&certificate_path)?;
        let key = KeyPair::from_pem(&read_pem(&key_path)?)
            .map_err(|e| PkiError::invalid(key_path.display().to_string(), e))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|e| PkiError::invalid(certificate_path.display().to_string(), e))?;
        Ok(Authority { certificate, issuer })
    }

    fn generate(name: &str) -> Result<KeyPairPem, PkiError> {
        let key = KeyPair::generate().map_err(|e| PkiError::invalid("authority key", e))?;
        let mut params = base_params(name, AUTHORITY_VALIDITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate =
            params.self_signed(&key).map_err(|e| PkiError::invalid("authority certificate", e))?;
        Ok(KeyPairPem { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The authority's certificate (PEM), for clients and hosts to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A key and certificate for a server that is reached under `names` (DNS names or addresses).
    pub fn issue_server(&self, names: &[String]) -> Result<KeyPairPem, PkiError> {
        let key = KeyPair::generate().map_err(|e| PkiError::invalid("server key", e))?;
        let mut params =
            base_params(names.first().map_or("meridian", String::as_str), SERVER_VALIDITY_DAYS);
        params.subject_alt_names =
            names.iter().map(|name| alt_name(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|e| PkiError::invalid("server certificate", e))?;
        Ok(KeyPairPem { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs a host's request; the name is the one that we say.
    pub fn sign_host(&self, request: &HostRequest, host_id: &str) -> Result<String, PkiError> {
        let mut params = base_params(host_id, HOST_VALIDITY_DAYS);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params
            .signed_by(&request.0.public_key, &self.issuer)
            .map_err(|e| PkiError::invalid("host certificate", e))?;
        Ok(certificate.pem())
    }
}

/// A host's certificate signing request. Only the public key is taken from it; its signature has
/// been checked, which proves that the host holds the private one.
pub struct HostRequest(CertificateSigningRequestParams);

impl HostRequest {
    /// Reads a request in PEM.
    pub fn read(csr: &str) -> Result<HostRequest, PkiError> {
        if csr.len() > 8192 {
            return Err(PkiError::invalid("certificate signing request", "longer than 8 KiB"));
        }
        CertificateSigningRequestParams::from_pem(csr)
            .map(HostRequest)
            .map_err(|e| PkiError::invalid("certificate signing request", e))
    }

    /// The public key (SubjectPublicKeyInfo, DER): the same in every request of one host.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.public_key.subject_public_key_info()
    }
}

fn alt_name(name: &str) -> Result<SanType, PkiError> {
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(
            name.try_into().map_err(|e| PkiError::invalid(format!("name {name:?}"), e))?,
        )),
    }
}

fn base_params(common_name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Meridian");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    // A day of grace for clocks that run behind.
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = (now - day).into();
    params.not_after = (now + day * u32::try_from(days).unwrap_or(1)).into();
    let serial: [u8; 16] = rand::random();
    let mut serial = serial.to_vec();
    // RFC 5280, 4.1.2.2: a positive integer.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequest;
    use rustls_pki_types::CertificateSigningRequestDer;

    use super::*;

    #[test]
    fn the_authority_survives_reopening_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open_or_create(dir.path(), "test").unwrap();
        let again = Authority::open_or_create(dir.path(), "test").unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let server = again.issue_server(&["127.0.0.1".into(), "localhost".into()]).unwrap();
        assert!(server.certificate.contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn a_lost_key_is_never_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path(), "test").unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(Authority::open_or_create(dir.path(), "test").is_err());
    }

    #[test]
    fn a_host_cannot_choose_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "test").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "another-host");
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let certificate = authority.sign_host(&HostRequest::read(&csr).unwrap(), "host-1").unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).unwrap();
        let parsed = pem.parse_x509().unwrap();
        let names: Vec<_> =
            parsed.subject().iter_common_name().map(|n| n.as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["host-1"]);
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(HostRequest::read("not a request").is_err());
        assert!(HostRequest::read(&"x".repeat(10_000)).is_err());
    }

    #[test]
    fn requests_of_one_key_are_known_by_it_and_a_borrowed_key_is_refused() {
        let request = |key: &KeyPair, name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.serialize_request(key).unwrap()
        };
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let read = |request: &CertificateSigningRequest| {
            HostRequest::read(&request.pem().unwrap()).unwrap().public_key()
        };
        assert_eq!(read(&request(&key, "a")), read(&request(&key, "b")));
        assert_ne!(read(&request(&key, "a")), read(&request(&other, "a")));
        // Somebody else's public key with a signature of one's own.
        let (mine, theirs) = (request(&key, "a"), request(&other, "a"));
        let (mine, theirs) = (mine.der().as_ref(), theirs.der().as_ref());
        let mut forged = theirs.to_vec();
        let spki = |der: &[u8], key: &KeyPair| {
            let wanted = key.public_key_raw();
            der.windows(wanted.len()).position(|bytes| bytes == wanted).unwrap()
        };
        let (from, to) = (spki(mine, &key), spki(theirs, &other));
        let length = key.public_key_raw().len();
        forged[to..to + length].copy_from_slice(&mine[from..from + length]);
        let forged = CertificateSigningRequestDer::from(forged);
        assert!(CertificateSigningRequestParams::from_der(&forged).is_err());
    }
}
