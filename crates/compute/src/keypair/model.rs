//! Key pairs without I/O: reading OpenSSH public keys, making ed25519 pairs in OpenSSH's own
//! format, and fingerprints as Nova prints them.
//!
//! The private key file is OpenSSH's `openssh-key-v1` (PROTOCOL.key in its sources), unencrypted:
//! magic, cipher `none`, kdf `none`, one public key blob, and a padded private section with two
//! equal check words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloud_types::Fault;
use ed25519_dalek::SigningKey;
use md5::{Digest, Md5};

/// The longest public key that is kept: four times an 8192-bit RSA key with a long comment.
const MAX_PUBLIC_KEY_BYTES: usize = 16 * 1024;

/// Algorithms whose keys sshd of the last ten years knows. DSA is left out: no supported sshd
/// takes it.
const ALGORITHMS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A public key as given, checked, with its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// One line in OpenSSH's form, without line end.
    pub line: String,
    /// MD5 over the key blob, colon-separated: Nova's form.
    pub fingerprint: String,
}

/// Checks an OpenSSH public key: a known algorithm, valid base64, and a blob that names the same
/// algorithm and whose fields have true lengths.
pub fn read_public_key(text: &str) -> Result<PublicKey, Fault> {
    let refuse = |why: &str| {
        Err(Fault::bad_request(format!(
            "Keypair data is invalid: {why}. Give one public key in OpenSSH's form, as in ~/.ssh/id_ed25519.pub"
        )))
    };
    let line = text.trim();
    if line.len() > MAX_PUBLIC_KEY_BYTES {
        return refuse("it is longer than 16 KiB");
    }
    if line.contains('\n') || line.chars().any(|c| c.is_control() && c != '\t') {
        return refuse("it has more than one line");
    }
    let mut words = line.split_whitespace();
    let (Some(algorithm), Some(encoded)) = (words.next(), words.next()) else {
        return refuse("an algorithm and a key are needed");
    };
    if !ALGORITHMS.contains(&algorithm) {
        return refuse(&format!(
            "{:?} is not one of {}",
            algorithm.chars().take(40).collect::<String>(),
            ALGORITHMS.join(", ")
        ));
    }
    let Ok(blob) = BASE64.decode(encoded) else {
        return refuse("the key is not base64");
    };
    let mut rest = blob.as_slice();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let Some((field, after)) = split_field(rest) else {
            return refuse("the key is cut short");
        };
        fields.push(field);
        rest = after;
    }
    if fields.first().is_none_or(|name| *name != algorithm.as_bytes()) || fields.len() < 2 {
        return refuse("the key is not of the algorithm that it names");
    }
    if algorithm == "ssh-ed25519" && (fields.len() != 2 || fields[1].len() != 32) {
        return refuse("an ed25519 key has 32 bytes");
    }
    if algorithm == "ssh-rsa" && (fields.len() != 3 || fields[2].len() < 128) {
        return refuse("an RSA key has an exponent and a modulus of at least 1024 bits");
    }
    Ok(PublicKey { line: line.to_owned(), fingerprint: fingerprint(&blob) })
}

fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

fn fingerprint(blob: &[u8]) -> String {
    let digest = Md5::digest(blob);
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A pair that was made here. The private half is shown once and kept nowhere.
pub struct Generated {
    /// The public half.
    pub public: PublicKey,
    /// The private half, as a file for `ssh -i`.
    pub private_pem: String,
}

/// Makes an ed25519 pair out of 32 random bytes and a random check word.
pub fn generate(seed: [u8; 32], check: u32, comment: &str) -> Generated {
    let signing = SigningKey::from_bytes(&seed);
    let public = signing.verifying_key().to_bytes();
    let algorithm = b"ssh-ed25519";
    let mut blob = Vec::new();
    put_field(&mut blob, algorithm);
    put_field(&mut blob, &public);

    let mut section = Vec::new();
    section.extend_from_slice(&check.to_be_bytes());
    section.extend_from_slice(&check.to_be_bytes());
    put_field(&mut section, algorithm);
    put_field(&mut section, &public);
    let mut pair = seed.to_vec();
    pair.extend_from_slice(&public);
    put_field(&mut section, &pair);
    put_field(&mut section, comment.as_bytes());
    for pad in 1u8.. {
        if section.len() % 8 == 0 {
            break;
        }
        section.push(pad);
    }

    let mut file = b"openssh-key-v1\0".to_vec();
    put_field(&mut file, b"none"); // cipher
    put_field(&mut file, b"none"); // key derivation
    put_field(&mut file, b""); // its options
    file.extend_from_slice(&1u32.to_be_bytes()); // number of keys
    put_field(&mut file, &blob);
    put_field(&mut file, &section);

    let mut pem = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let encoded = BASE64.encode(&file);
    for line in encoded.as_bytes().chunks(70) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    let line = format!("ssh-ed25519 {} {comment}", BASE64.encode(&blob));
    Generated { public: PublicKey { line, fingerprint: fingerprint(&blob) }, private_pem: pem }
}

fn put_field(into: &mut Vec<u8>, bytes: &[u8]) {
    // Every field here is shorter than 4 GiB by construction.
    into.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend_from_slice(bytes);
}

/// Whether a key pair may have this name: letters, digits, spaces, `_` and `-`; from 2.92 also
/// `@` and `.`.
pub fn is_valid_name(name: &str, since_2_92: bool) -> bool {
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "_- ".contains(c) || (since_2_92 && "@.".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back() {
        let made = generate([7; 32], 0x1234_5678, "Generated-by-Meridian");
        let read = read_public_key(&made.public.line).unwrap();
        assert_eq!(read, made.public);
        assert!(
            made.private_pem
                .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE")
        );
    }

    #[test]
    fn openssh_accepts_a_generated_key() {
        let Ok(folder) = tempfile::tempdir() else { return };
        let path = folder.path().join("key");
        let made = generate([9; 32], 99, "x");
        std::fs::write(&path, &made.private_pem).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        // Machines without OpenSSH have nothing to compare with.
        let Ok(output) = std::process::Command::new("ssh-keygen").arg("-yf").arg(&path).output()
        else {
            return;
        };
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            printed.split_whitespace().nth(1),
            made.public.line.split_whitespace().nth(1),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn fingerprints_are_md5_of_the_blob() {
        // as printed by `ssh-keygen -l -E md5`
        let line =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA a";
        let key = read_public_key(line).unwrap();
        assert_eq!(key.fingerprint, "3d:52:38:ce:ff:94:f5:d7:81:a4:a4:f9:2b:4f:fe:a0");
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let good = generate([1; 32], 1, "c").public.line;
        for bad in [
            "",
            "ssh-rsa",
            "ssh-rsa AAAA",
            "ssh-dss AAAAB3NzaC1kc3M=",
            "ssh-ed25519 !!!!",
            &good.replacen("ssh-ed25519", "ssh-rsa", 1),
            &format!("{good}\n{good}"),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA",
        ] {
            assert!(read_public_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_widen_with_2_92() {
        assert!(is_valid_name("my key_1-a", false));
        assert!(!is_valid_name("me@home.net", false));
        assert!(is_valid_name("me@home.net", true));
        assert!(!is_valid_name("a/b", true));
    }
}
