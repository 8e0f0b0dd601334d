//! The negotiation of `permessage-deflate` (RFC 7692, sections 5 and 7.1): the client's offer, the server's response,
//! and the resulting agreement.

use std::fmt;

use super::WebSocketRole;
use super::deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS};
use super::extensions::{Extension, MalformedExtensions, parse_extensions};

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// How the messages of one direction are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The base-2 logarithm of the window, 8 to 15.
    pub window_bits: u8,
    /// Whether a message may refer to those before it.
    pub context_takeover: bool,
}

impl Default for DeflateParameters {
    fn default() -> Self {
        Self { window_bits: MAX_WINDOW_BITS, context_takeover: true }
    }
}

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateAgreement {
    /// The server's messages.
    pub server: DeflateParameters,
    /// The client's messages.
    pub client: DeflateParameters,
}

impl DeflateAgreement {
    /// How `role` compresses its messages.
    #[must_use]
    pub const fn sent_by(self, role: WebSocketRole) -> DeflateParameters {
        match role {
            WebSocketRole::Client => self.client,
            WebSocketRole::Server => self.server,
        }
    }

    /// The header that accepts `offer` with this agreement, made by [`DeflateOffer::accept`].
    #[must_use]
    pub fn response(&self, offer: &DeflateOffer) -> String {
        let mut response = NAME.to_owned();
        if !self.server.context_takeover {
            push(&mut response, SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if !self.client.context_takeover {
            push(&mut response, CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        if offer.server_max_window_bits.is_some() || self.server.window_bits < MAX_WINDOW_BITS {
            push(&mut response, SERVER_MAX_WINDOW_BITS, Some(self.server.window_bits));
        }
        // A client that did not name the parameter need not know it.
        if offer.client_max_window_bits != WindowOffer::No && self.client.window_bits < MAX_WINDOW_BITS {
            push(&mut response, CLIENT_MAX_WINDOW_BITS, Some(self.client.window_bits));
        }
        response
    }
}

/// Whether a client lets the server limit the window that it compresses with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowOffer {
    /// It does not.
    #[default]
    No,
    /// The server may choose.
    Any,
    /// The client will use at most so many bits, and the server may choose less.
    AtMost(u8),
}

/// A client's offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The server's messages are not to refer to those before them.
    pub server_no_context_takeover: bool,
    /// The client's messages will not refer to those before them, whatever the server says.
    pub client_no_context_takeover: bool,
    /// The largest window that the server may use, in bits.
    pub server_max_window_bits: Option<u8>,
    /// Whether the server may limit the client's.
    pub client_max_window_bits: WindowOffer,
}

impl fmt::Display for DeflateOffer {
    /// The header of the offer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut offer = NAME.to_owned();
        match self.client_max_window_bits {
            WindowOffer::No => {}
            WindowOffer::Any => push(&mut offer, CLIENT_MAX_WINDOW_BITS, None),
            WindowOffer::AtMost(bits) => push(&mut offer, CLIENT_MAX_WINDOW_BITS, Some(bits)),
        }
        if let Some(bits) = self.server_max_window_bits {
            push(&mut offer, SERVER_MAX_WINDOW_BITS, Some(bits));
        }
        if self.server_no_context_takeover {
            push(&mut offer, SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if self.client_no_context_takeover {
            push(&mut offer, CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        f.write_str(&offer)
    }
}

fn push(header: &mut String, parameter: &str, value: Option<u8>) {
    header.push_str("; ");
    header.push_str(parameter);
    if let Some(value) = value {
        header.push('=');
        header.push_str(&value.to_string());
    }
}

/// The server's response cannot be accepted, and the handshake fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// It does not follow the grammar of the header.
    Malformed(MalformedExtensions),
    /// An extension that was not offered.
    Extension(String),
    /// The extension is there twice.
    Twice,
    /// A parameter that is unknown, repeated, not offered, or with a value where there is none, or without its value.
    Parameter(String),
    /// A window that is no number from 8 to 15, larger than was offered, or one that the compressor has not.
    WindowSize,
    /// A parameter of the offer that the response must not leave out.
    LeftOut(&'static str),
}

impl fmt::Display for Unacceptable {
    // Where aiohttp has a message for the case it is word for word, as users compare them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Extension(name) => write!(f, "Extension {name:?} was not asked for"),
            Self::Twice => write!(f, "Extension {NAME} is answered twice"),
            Self::Parameter(parameter) => write!(f, "Extension for deflate not supported; {parameter}"),
            Self::WindowSize => f.write_str("Invalid window size"),
            Self::LeftOut(parameter) => write!(f, "Extension for deflate answered without {parameter}"),
        }
    }
}

impl std::error::Error for Unacceptable {}

/// The parameters of one `permessage-deflate`, of an offer or a response.
#[derive(Clone, Copy, Debug, Default)]
struct ExtensionParameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: WindowOffer,
}

impl ExtensionParameters {
    fn parse(extension: &Extension<'_>) -> Result<Self, Unacceptable> {
        let mut parameters = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let is_new = match *name {
                SERVER_NO_CONTEXT_TAKEOVER if value.is_none() => {
                    !std::mem::replace(&mut parameters.server_no_context_takeover, true)
                }
                CLIENT_NO_CONTEXT_TAKEOVER if value.is_none() => {
                    !std::mem::replace(&mut parameters.client_no_context_takeover, true)
                }
                SERVER_MAX_WINDOW_BITS if value.is_some() => {
                    let bits = value.map(window_bits).transpose()?;
                    std::mem::replace(&mut parameters.server_max_window_bits, bits).is_none()
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let offer =
                        value.map(window_bits).transpose()?.map_or(WindowOffer::Any, WindowOffer::AtMost);
                    std::mem::replace(&mut parameters.client_max_window_bits, offer) == WindowOffer::No
                }
                _ => false,
            };
            if !is_new {
                let value = value.map_or(String::new(), |value| format!("={value}"));
                return Err(Unacceptable::Parameter(format!("{name}{value}")));
            }
        }
        Ok(parameters)
    }
}

/// A decimal number without leading zeros, 8 to 15.
fn window_bits(value: &str) -> Result<u8, Unacceptable> {
    match value {
        "8" => Ok(8),
        "9" => Ok(9),
        "10" => Ok(10),
        "11" => Ok(11),
        "12" => Ok(12),
        "13" => Ok(13),
        "14" => Ok(14),
        "15" => Ok(15),
        _ => Err(Unacceptable::WindowSize),
    }
}

impl DeflateOffer {
    /// The offers of a client's `header` in the order of its preference. Other extensions are left out, as are offers
    /// of this one that are not valid, for a server has to decline those (RFC 7692, section 7.1).
    ///
    /// # Errors
    /// [`MalformedExtensions`].
    pub fn parse(header: &str) -> Result<Vec<Self>, MalformedExtensions> {
        let extensions = parse_extensions(header)?;
        let offers = extensions.iter().filter(|extension| extension.name == NAME);
        Ok(offers.filter_map(|offer| ExtensionParameters::parse(offer).ok()).map(Self::from).collect())
    }

    /// The agreement if a server that would compress as `ours` accepts this offer; none if it cannot.
    #[must_use]
    pub fn accept(&self, ours: DeflateParameters) -> Option<DeflateAgreement> {
        let server_bits = self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS).min(ours.window_bits);
        if server_bits < MIN_WINDOW_BITS {
            return None;
        }
        let client_bits = match self.client_max_window_bits {
            WindowOffer::AtMost(bits) => bits,
            WindowOffer::No | WindowOffer::Any => MAX_WINDOW_BITS,
        };
        Some(DeflateAgreement {
            server: DeflateParameters {
                window_bits: server_bits,
                context_takeover: ours.context_takeover && !self.server_no_context_takeover,
            },
            client: DeflateParameters {
                window_bits: client_bits,
                context_takeover: !self.client_no_context_takeover,
            },
        })
    }

    /// The agreement by the server's response to this offer; none if it does not take the extension.
    ///
    /// # Errors
    /// [`Unacceptable`]: the response does not fit this offer, or requires a window that we do not have.
    pub fn accept_response(&self, header: &str) -> Result<Option<DeflateAgreement>, Unacceptable> {
        let extensions = parse_extensions(header).map_err(Unacceptable::Malformed)?;
        let response = match extensions.as_slice() {
            [] => return Ok(None),
            [response] if response.name == NAME => ExtensionParameters::parse(response)?,
            [_, second, ..] if second.name == NAME => return Err(Unacceptable::Twice),
            [other, ..] if other.name != NAME => return Err(Unacceptable::Extension(other.name.to_owned())),
            [_, other, ..] | [other] => return Err(Unacceptable::Extension(other.name.to_owned())),
        };
        let client_bits = match response.client_max_window_bits {
            WindowOffer::No => MAX_WINDOW_BITS,
            _ if self.client_max_window_bits == WindowOffer::No => {
                return Err(Unacceptable::Parameter(CLIENT_MAX_WINDOW_BITS.to_owned()));
            }
            // A response has a number.
            WindowOffer::Any => return Err(Unacceptable::Parameter(CLIENT_MAX_WINDOW_BITS.to_owned())),
            WindowOffer::AtMost(bits) if bits < MIN_WINDOW_BITS => return Err(Unacceptable::WindowSize),
            WindowOffer::AtMost(bits) => bits,
        };
        let client_bits = match self.client_max_window_bits {
            WindowOffer::AtMost(ours) => ours.min(client_bits),
            WindowOffer::No | WindowOffer::Any => client_bits,
        };
        let server_bits = match (self.server_max_window_bits, response.server_max_window_bits) {
            (Some(_), None) => return Err(Unacceptable::LeftOut(SERVER_MAX_WINDOW_BITS)),
            (Some(most), Some(bits)) if bits > most => return Err(Unacceptable::WindowSize),
            (_, bits) => bits.unwrap_or(MAX_WINDOW_BITS),
        };
        if self.server_no_context_takeover && !response.server_no_context_takeover {
            return Err(Unacceptable::LeftOut(SERVER_NO_CONTEXT_TAKEOVER));
        }
        let no_client_takeover = self.client_no_context_takeover || response.client_no_context_takeover;
        Ok(Some(DeflateAgreement {
            server: DeflateParameters {
                window_bits: server_bits,
                context_takeover: !response.server_no_context_takeover,
            },
            client: DeflateParameters { window_bits: client_bits, context_takeover: !no_client_takeover },
        }))
    }
}

impl From<ExtensionParameters> for DeflateOffer {
    fn from(parameters: ExtensionParameters) -> Self {
        let ExtensionParameters {
            server_no_context_takeover,
            client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        } = parameters;
        Self {
            server_no_context_takeover,
            client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: DeflateOffer = DeflateOffer {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: None,
        client_max_window_bits: WindowOffer::Any,
    };

    fn direction(window_bits: u8, context_takeover: bool) -> DeflateParameters {
        DeflateParameters { window_bits, context_takeover }
    }

    #[test]
    fn an_offer_is_written_and_read() {
        assert_eq!(ANY.to_string(), "permessage-deflate; client_max_window_bits");
        let small = DeflateOffer { server_max_window_bits: Some(9), server_no_context_takeover: true, ..ANY };
        let header = "permessage-deflate; client_max_window_bits; server_max_window_bits=9; \
                      server_no_context_takeover";
        assert_eq!(small.to_string(), header);
        assert_eq!(DeflateOffer::parse(header), Ok(vec![small]));
    }

    #[test]
    fn offers_that_are_not_valid_are_declined() {
        let header = "x-other; a=1, permessage-deflate; unknown, permessage-deflate; server_max_window_bits, \
                      permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=08, \
                      permessage-deflate; client_no_context_takeover=1, \
                      permessage-deflate; client_max_window_bits; client_max_window_bits=9, \
                      permessage-deflate; client_max_window_bits=\"10\"";
        let last = DeflateOffer { client_max_window_bits: WindowOffer::AtMost(10), ..ANY };
        assert_eq!(DeflateOffer::parse(header), Ok(vec![last]));
        assert!(DeflateOffer::parse("permessage-deflate; =").is_err());
    }

    #[test]
    fn responses() {
        let agreed = |header: &str| ANY.accept_response(header);
        assert_eq!(agreed(""), Ok(None));
        assert_eq!(agreed("permessage-deflate"), Ok(Some(DeflateAgreement::default())));
        assert_eq!(
            agreed(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=8; client_max_window_bits=10"
            ),
            Ok(Some(DeflateAgreement { server: direction(8, false), client: direction(10, false) }))
        );
    }

    #[test]
    fn responses_that_cannot_be_accepted() {
        let error_text =
            |offer: DeflateOffer, header: &str| offer.accept_response(header).unwrap_err().to_string();
        let window = "Invalid window size";
        assert_eq!(error_text(ANY, "permessage-deflate; client_max_window_bits=8"), window);
        assert_eq!(error_text(ANY, "permessage-deflate; client_max_window_bits=6"), window);
        assert_eq!(error_text(ANY, "permessage-deflate; server_max_window_bits=16"), window);
        let unsupported = |parameter: &str| format!("Extension for deflate not supported; {parameter}");
        for parameter in
            ["foo=1", "client_max_window_bits", "server_max_window_bits", "server_no_context_takeover=1"]
        {
            assert_eq!(error_text(ANY, &format!("permessage-deflate; {parameter}")), unsupported(parameter));
        }
        let twice = "permessage-deflate; server_no_context_takeover; server_no_context_takeover";
        assert_eq!(error_text(ANY, twice), unsupported("server_no_context_takeover"));
        assert_eq!(error_text(ANY, "x-other"), "Extension \"x-other\" was not asked for");
        assert_eq!(error_text(ANY, "permessage-deflate, x-other"), "Extension \"x-other\" was not asked for");
        assert_eq!(
            error_text(ANY, "permessage-deflate, permessage-deflate"),
            "Extension permessage-deflate is answered twice"
        );
        assert_eq!(
            error_text(ANY, "permessage-deflate foo"),
            "Malformed Sec-WebSocket-Extensions at byte 19: \"permessage-deflate foo\""
        );
        let no_window = DeflateOffer { client_max_window_bits: WindowOffer::No, ..ANY };
        assert_eq!(
            error_text(no_window, "permessage-deflate; client_max_window_bits=10"),
            unsupported("client_max_window_bits")
        );
        let small =
            DeflateOffer { server_max_window_bits: Some(10), server_no_context_takeover: true, ..ANY };
        assert_eq!(
            error_text(small, "permessage-deflate; server_no_context_takeover"),
            "Extension for deflate answered without server_max_window_bits"
        );
        assert_eq!(
            error_text(small, "permessage-deflate; server_no_context_takeover; server_max_window_bits=11"),
            window
        );
        assert_eq!(
            error_text(small, "permessage-deflate; server_max_window_bits=10"),
            "Extension for deflate answered without server_no_context_takeover"
        );
    }

    fn offer() -> impl Strategy<Value = DeflateOffer> {
        let window = prop_oneof![
            Just(WindowOffer::No),
            Just(WindowOffer::Any),
            (9_u8..=15).prop_map(WindowOffer::AtMost)
        ];
        (any::<bool>(), any::<bool>(), prop::option::of(8_u8..=15), window).prop_map(
            |(server_no_context_takeover, client_no_context_takeover, server_max_window_bits, window)| {
                DeflateOffer {
                    server_no_context_takeover,
                    client_no_context_takeover,
                    server_max_window_bits,
                    client_max_window_bits: window,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn both_sides_come_to_the_same_agreement(offer in offer(), bits in 9_u8..=15, takeover: bool) {
            prop_assert_eq!(DeflateOffer::parse(&offer.to_string()), Ok(vec![offer]));
            match offer.accept(direction(bits, takeover)) {
                Some(agreement) => {
                    prop_assert_eq!(offer.accept_response(&agreement.response(&offer)), Ok(Some(agreement)));
                }
                None => prop_assert_eq!(offer.server_max_window_bits, Some(8)),
            }
        }
    }
}
