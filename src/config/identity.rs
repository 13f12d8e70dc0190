//! Who this process is to the platform.

use super::catalog;
use super::parse;
use super::reader::{Reader, Reported};

/// Names that the platform gives; any text, absent outside of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `NAMESPACE`
    pub namespace: Option<String>,
    /// `NAME`: the object that this process serves.
    pub name: Option<String>,
    /// `K_COMPONENT`: what this process is.
    pub component: Option<String>,
    /// `POD_NAME`
    pub pod: Option<String>,
}

impl Identity {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let namespace = reader.optional(&catalog::NAMESPACE, parse::text);
        let name = reader.optional(&catalog::NAME, parse::text);
        let component = reader.optional(&catalog::K_COMPONENT, parse::text);
        let pod = reader.optional(&catalog::POD_NAME, parse::text);
        Ok(Self { namespace: namespace?, name: name?, component: component?, pod: pod? })
    }
}
