//! What TLS connections are made with: whom the sink must be, and as whom it is spoken to.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use super::roots::Roots;
use crate::sink::http::SinkSetupError;
use crate::sink::reloading_file::Watched;
use crate::sink::settings::HttpSinkSettings;
use crate::sink::tls;

/// Roots, and the client certificate if there is to be one.
#[derive(Debug)]
pub(in crate::sink) struct Tls {
    pub(in crate::sink) roots: Roots,
    pub(in crate::sink) identity: Option<Watched<Arc<CertifiedKey>>>,
}

impl Tls {
    /// Reads the roots for the first time; `system_roots` stand in for the system's.
    pub(in crate::sink) fn new(
        settings: &HttpSinkSettings,
        system_roots: Option<RootCertStore>,
    ) -> Result<Self, SinkSetupError> {
        let (mut fixed, why_none) = match system_roots {
            Some(roots) => (roots, None),
            None => tls::system_roots(),
        };
        settings.trust.certificates.add_to(&mut fixed);
        let mut roots = Roots::new(fixed, settings.trust.folder.clone());
        roots.look();
        if roots.is_hopeless() {
            return Err(SinkSetupError::NoRoots(why_none.unwrap_or_else(|| "none is installed".to_owned())));
        }
        let identity = settings.client_certificate.clone().map(|files| {
            Watched::new(vec![files.certificate, files.key], tls::FILE_LIMIT, |contents| {
                tls::client_certificate(&contents[0], &contents[1]).map(Arc::new)
            })
        });
        Ok(Self { roots, identity })
    }

    /// What connections are to be made with now, and the part of it that knows who was asked for.
    pub(in crate::sink) fn config(&self) -> Result<(ClientConfig, Arc<tls::Identity>), rustls::Error> {
        let certificate = self.identity.as_ref().and_then(|identity| identity.value().cloned());
        let identity = Arc::new(tls::Identity::new(certificate));
        Ok((tls::client_config(self.roots.store(), identity.clone())?, identity))
    }

    /// Reads what changed; says whether anything did.
    pub(in crate::sink) fn look(&mut self) -> bool {
        let roots = self.roots.look();
        let identity = self.identity.as_mut().is_some_and(Watched::look);
        roots || identity
    }
}
