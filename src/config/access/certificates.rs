//! Certificates of authorities in PEM, as users and platforms hand them over.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// Certificates of authorities, in the order of their text.
///
/// Its `Debug` form shows how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Certificates(Vec<CertificateDer<'static>>);

/// A text that holds no usable certificates. Nothing of the text is repeated: it may be a key that went astray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificates {
    /// No section of the right kind.
    #[error("it contains no certificate: expected PEM with -----BEGIN CERTIFICATE-----")]
    None,
    /// The frame or the base64 of a section is broken.
    #[error("its certificate number {number} is not valid PEM: {why}")]
    Pem {
        /// Which section, from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Well-formed PEM of something that is no certificate.
    #[error("its certificate number {number} is not an X.509 certificate that can be a trusted CA")]
    Content {
        /// Which certificate, from 1.
        number: usize,
    },
}

impl Certificates {
    /// The certificates of a PEM text, whatever stands between them.
    ///
    /// # Errors
    /// When there is none, or one is not valid PEM. What they hold is not looked at.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidCertificates> {
        let mut found = Vec::new();
        for section in CertificateDer::pem_slice_iter(text) {
            let number = found.len() + 1;
            found.push(section.map_err(|error| InvalidCertificates::Pem { number, why: reason(&error) })?);
        }
        if found.is_empty() {
            return Err(InvalidCertificates::None);
        }
        Ok(Self(found))
    }

    /// The same, where every one of them can be an authority.
    ///
    /// # Errors
    /// Those of [`Certificates::from_pem`], and the first certificate that cannot be one.
    pub fn all_usable(text: &[u8]) -> Result<Self, InvalidCertificates> {
        let certificates = Self::from_pem(text)?;
        let unusable = certificates.0.iter().position(|one| RootCertStore::empty().add(one.clone()).is_err());
        match unusable {
            Some(place) => Err(InvalidCertificates::Content { number: place + 1 }),
            None => Ok(certificates),
        }
    }

    /// Adds them to what is trusted; returns how many could not be.
    pub fn add_to(&self, roots: &mut RootCertStore) -> usize {
        roots.add_parsable_certificates(self.0.iter().cloned()).1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The certificates in DER, in their order.
    pub fn into_der(self) -> Vec<CertificateDer<'static>> {
        self.0
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is broken",
        pem::Error::Base64Decode(_) => "its base64 is broken",
        _ => "it cannot be read",
    }
}
