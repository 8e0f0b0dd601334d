//! What the connector says of a new connection: what it is made of, and what there is to do for it afterwards.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use crate::http::client::address::address_of;
use crate::http::client::dial::{DialPlan, TlsPlan};

/// The TLS session of a new connection.
#[derive(Debug)]
pub(super) struct NewTlsSession {
    /// What keeps it.
    pub resumption: Py<PyAny>,
    /// The `ssl.SSLObject`, once the handshake is over.
    pub ssl_object: Option<Py<PyAny>>,
}

/// What there is to do for a new connection.
#[derive(Debug, Default)]
pub(super) struct NewConnection {
    /// Its TLS session, which is to be kept.
    pub tls_session: Option<NewTlsSession>,
    /// The tunnel through the proxy that it leads to: the request, the one for the proxy, and the plan of the connection in it.
    pub tunnel: Option<Py<PyTuple>>,
}

impl NewConnection {
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(session) = &self.tls_session {
            visit.call(&session.resumption)?;
            visit.call(&session.ssl_object)?;
        }
        visit.call(&self.tunnel)
    }
}

/// Reads what `dial_plan()` returns: key, addresses, the protocol's factory, delay, local addresses, and for TLS the
/// context, the name, what resumes a session, the seconds for its shutdown, and a fingerprint; last the tunnel.
pub(super) fn plan_of(plan: &Bound<'_, PyTuple>) -> PyResult<(DialPlan, NewConnection)> {
    type Given = Option<Py<PyAny>>;
    type Tls = (Py<PyAny>, Given, Given, Given, Given);
    let tls: Option<Tls> = plan.get_item(5)?.extract()?;
    let local = plan.get_item(4)?;
    let local = local.try_iter()?.map(|address| address_of(&address?)).collect::<PyResult<Vec<_>>>()?;
    let mut new = NewConnection { tls_session: None, tunnel: plan.get_item(6)?.extract()? };
    let tls = tls.map(|(context, hostname, resumption, shutdown_timeout, fingerprint)| {
        new.tls_session = resumption.as_ref().map(|resumption| NewTlsSession {
            resumption: resumption.clone_ref(plan.py()),
            ssl_object: None,
        });
        TlsPlan { context, hostname, resumption, shutdown_timeout, fingerprint }
    });
    let plan = DialPlan {
        key: plan.get_item(0)?.unbind(),
        factory: plan.get_item(2)?.unbind(),
        delay: plan.get_item(3)?.extract()?,
        local,
        tls,
    };
    Ok((plan, new))
}
