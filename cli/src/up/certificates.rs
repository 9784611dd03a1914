//! The mesh's own certificate authority, made anew for every run and kept in memory.
//!
//! Workloads get what Istio's CA gives them: a certificate whose only name is the SPIFFE identity of the service
//! account, for both ends of a connection. The authority's key is never written anywhere.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Clocks differ, and a container's may be behind its host's: valid from a day ago.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// A local mesh does not rotate certificates, so they outlast any session of work.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The authority of one run.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    since: SystemTime,
}

/// Where one workload's certificate lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes a key and a root certificate.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let since = SystemTime::now() - SKEW;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Tollgate local mesh");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = since.into();
        params.not_after = (since + SKEW + VALIDITY).into();
        let key = KeyPair::generate().context("cannot make the mesh's key")?;
        let issuer = CertifiedIssuer::self_signed(params, key)
            .context("cannot make the mesh's root certificate")?;
        Ok(Self { issuer, since })
    }

    /// Writes the root certificate, which everybody may read.
    pub(crate) fn write_root(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.issuer.pem())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Issues a certificate for an identity, `spiffe://…`, and writes it and its key into a folder, for the user's eyes
    /// only.
    pub(crate) fn issue(&self, identity: &str, directory: &Path) -> anyhow::Result<Paths> {
        let mut params = CertificateParams::default();
        // Identities have a name in the SAN alone, as Istio's do; Envoy does not look at the subject.
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = identity
            .try_into()
            .with_context(|| format!("{identity:?} cannot be in a certificate"))?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.not_before = self.since.into();
        params.not_after = (self.since + SKEW + VALIDITY).into();
        let key =
            KeyPair::generate().with_context(|| format!("cannot make a key for {identity}"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("cannot issue a certificate for {identity}"))?;
        let paths = Paths {
            chain: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        write_private(&paths.chain, &certificate.pem())?;
        write_private(&paths.key, &key.serialize_pem())?;
        Ok(paths)
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::extensions::GeneralName;
    use x509_parser::pem::Pem;
    use x509_parser::prelude::X509Certificate;

    use super::*;

    const IDENTITY: &str = "spiffe://cluster.local/ns/ecommerce/sa/cart-service";

    fn with_certificate<T>(pem: &[u8], read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let pem = Pem::iter_from_buffer(pem).next().unwrap().unwrap();
        read(&pem.parse_x509().unwrap())
    }

    #[test]
    fn a_workloads_certificate_has_its_identity_and_serves_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Authority::new()
            .unwrap()
            .issue(IDENTITY, folder.path())
            .unwrap();
        with_certificate(&std::fs::read(&paths.chain).unwrap(), |certificate| {
            let names = &certificate
                .subject_alternative_name()
                .unwrap()
                .unwrap()
                .value
                .general_names;
            assert_eq!(*names, vec![GeneralName::URI(IDENTITY)]);
            let usage = certificate.key_usage().unwrap().unwrap().value;
            assert!(
                usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign()
            );
            let extended = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.client_auth && extended.server_auth);
            assert!(!certificate.is_ca());
        });
    }

    #[test]
    fn the_chain_verifies_against_its_own_authority_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        let paths = authority.issue(IDENTITY, folder.path()).unwrap();
        let (root, stranger) = (
            folder.path().join("root.pem"),
            folder.path().join("other.pem"),
        );
        authority.write_root(&root).unwrap();
        other.write_root(&stranger).unwrap();
        with_certificate(&std::fs::read(&paths.chain).unwrap(), |certificate| {
            with_certificate(&std::fs::read(&root).unwrap(), |root| {
                assert!(root.is_ca());
                assert!(root.verify_signature(None).is_ok());
                assert_eq!(certificate.issuer(), root.subject());
                assert!(
                    certificate
                        .verify_signature(Some(root.public_key()))
                        .is_ok()
                );
            });
            with_certificate(&std::fs::read(&stranger).unwrap(), |stranger| {
                assert!(
                    certificate
                        .verify_signature(Some(stranger.public_key()))
                        .is_err()
                );
            });
        });
    }

    #[test]
    fn a_clock_that_is_hours_behind_accepts_it() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Authority::new()
            .unwrap()
            .issue(IDENTITY, folder.path())
            .unwrap();
        with_certificate(&std::fs::read(&paths.chain).unwrap(), |certificate| {
            let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
            let validity = certificate.validity();
            assert!(validity.not_before.timestamp() <= now - 23 * 60 * 60);
            assert!(validity.not_after.timestamp() >= now + 364 * 24 * 60 * 60);
        });
    }

    #[test]
    fn the_key_is_for_the_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Authority::new()
            .unwrap()
            .issue(IDENTITY, folder.path())
            .unwrap();
        for path in [&paths.chain, &paths.key] {
            assert_eq!(
                std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Authority::new()
            .unwrap()
            .issue("spiffe://cluster.local/ns/é", folder.path())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"spiffe://cluster.local/ns/é\" cannot be in a certificate"
        );
    }
}
