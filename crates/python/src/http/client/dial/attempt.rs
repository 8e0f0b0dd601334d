//! How an attempt to connect to an address has failed.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny};

use crate::http::client::address::{Candidate, shown_address};
use crate::transport::ConnectError;

/// How an attempt has failed.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub errno: Errno,
    pub text: String,
}

impl AttemptError {
    /// Of the attempt to connect to `candidate`, from one of `local`.
    pub(super) fn of(candidate: &Candidate, local: &[SocketAddrAny], error: ConnectError) -> Self {
        match error {
            // The exception for it has the path.
            ConnectError::Connect(errno) if candidate.address.address_family() == AddressFamily::UNIX => {
                Self { errno, text: text_of(errno) }
            }
            ConnectError::Connect(errno) => {
                Self { errno, text: format!("Connect call failed {}", candidate.shown) }
            }
            ConnectError::Bind(number, errno) => {
                let address = local.get(number).map(shown_address).unwrap_or_default();
                let text = format!(
                    "error while attempting to bind on address {address}: {}",
                    text_of(errno).to_lowercase()
                );
                Self { errno, text }
            }
            ConnectError::NoLocalAddress => Self {
                errno: Errno::ADDRNOTAVAIL,
                text: format!("no local address has the family of {}", candidate.shown),
            },
        }
    }
}

/// What the system says of an error.
fn text_of(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
