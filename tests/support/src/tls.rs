//! A certificate for the loopback interface, issued by its own root certificate.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A server certificate, and the files that make a client trust it.
pub(crate) struct Certificate {
    directory: TempDir,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Generates a certificate. `other_roots` are added to the file with all roots, in PEM.
    pub(crate) fn generate(other_roots: &str) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "Test root");
        let root_pem = root.self_signed(&root_key).unwrap().pem();

        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap();
        let certificate = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();

        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("root.pem"), &root_pem).unwrap();
        fs::write(directory.path().join("roots.pem"), format!("{other_roots}\n{root_pem}")).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// The file with the root certificate only.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// The file with all root certificates.
    pub(crate) fn roots_file(&self) -> PathBuf {
        self.directory.path().join("roots.pem")
    }
}
