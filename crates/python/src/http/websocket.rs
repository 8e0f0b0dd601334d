//! WebSocket messages as Python objects, and frames from them.
//!
//! A message's tuple is made with `tuple.__new__`. Bytes are parsed until the queue costs too much; the rest is kept
//! unparsed. Masking keys come from `os.urandom`, 256 at a time. Messages of 32 KiB or more are inflated and compressed
//! detached from the interpreter.

use std::collections::VecDeque;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit, intern};
use whorl_core::sched::assert_nothing_open;
use whorl_core::websocket::{
    Compress, DeflateAgreement, DeflateOffer, DeflateParameters, FrameWriter, MAX_WINDOW_BITS,
    MIN_WINDOW_BITS, MessageReader, Opcode, ProtocolError, WebSocketEvent, WebSocketRole, WindowOffer,
};

use crate::buffer::LentMemory;
use crate::errors::OrRaise;
use crate::ffi;
use crate::interpreter::add_class;

/// The cost of a queued message in addition to its payload, in bytes: its tuple, its place in the queue.
const OVERHEAD: usize = 128;
/// Payloads from here on are compressed and inflated detached, in bytes.
const WORTH_DETACHING: usize = 32 * 1024;
/// Masking keys that are drawn at once.
const KEYS: usize = 256;

/// Adds the classes and functions to the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_class::<WebSocketReader>(module)?;
    add_class::<WebSocketWriter>(module)?;
    module.add_function(wrap_pyfunction!(websocket_offer, module)?)?;
    module.add_function(wrap_pyfunction!(websocket_agreement, module)?)
}

/// The negotiated compression, as Python has it: the client's window in bits and whether it begins anew with each
/// message, then the server's.
type AgreementTuple = (u8, bool, u8, bool);

fn agreement(agreement: Option<AgreementTuple>) -> PyResult<Option<DeflateAgreement>> {
    let Some((client_bits, client_anew, server_bits, server_anew)) = agreement else { return Ok(None) };
    for bits in [client_bits, server_bits] {
        if !(8..=MAX_WINDOW_BITS).contains(&bits) {
            return Err(PyValueError::new_err(format!(
                "a window has 8 to {MAX_WINDOW_BITS} bits, not {bits}"
            )));
        }
    }
    Ok(Some(DeflateAgreement {
        client: DeflateParameters { window_bits: client_bits, context_takeover: !client_anew },
        server: DeflateParameters { window_bits: server_bits, context_takeover: !server_anew },
    }))
}

const fn role(is_client: bool) -> WebSocketRole {
    if is_client { WebSocketRole::Client } else { WebSocketRole::Server }
}

fn offer(compress: i64) -> PyResult<DeflateOffer> {
    let bits = u8::try_from(compress).ok().filter(|bits| (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(bits));
    let Some(bits) = bits else { return Err(wrong_window(compress)) };
    Ok(DeflateOffer {
        client_max_window_bits: WindowOffer::Any,
        server_max_window_bits: (bits < MAX_WINDOW_BITS).then_some(bits),
        ..DeflateOffer::default()
    })
}

fn wrong_window(compress: i64) -> PyErr {
    PyValueError::new_err(format!(
        "compress takes {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS} (the bits of the window), or 0 for no compression, \
         not {compress}"
    ))
}

/// The header Sec-WebSocket-Extensions that offers compression with a window of `compress` bits.
#[pyfunction]
fn websocket_offer(compress: i64) -> PyResult<String> {
    Ok(offer(compress)?.to_string())
}

/// The compression that the server accepted with its header `response`, or None.
///
/// ValueError if that does not fit the offer of `compress` bits.
#[pyfunction]
fn websocket_agreement(compress: i64, response: &str) -> PyResult<Option<AgreementTuple>> {
    let agreed = offer(compress)?.accept_response(response).or_raise()?;
    Ok(agreed.map(|DeflateAgreement { client, server }| {
        (client.window_bits, !client.context_takeover, server.window_bits, !server.context_takeover)
    }))
}

/// The classes that messages are made of.
#[derive(Debug)]
struct Messages {
    /// `tuple.__new__`, which makes a named tuple without its own `__new__`, a function in Python.
    new: Py<PyAny>,
    message: Py<PyAny>,
    /// That of texts, which differ if they are not decoded.
    text: Py<PyAny>,
    decode_text: bool,
    kinds: [Py<PyAny>; 5],
}

/// In the order of `Messages::kinds`.
const KINDS: [Opcode; 5] = [Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];

impl Messages {
    /// The message of an event, and the bytes of its payload.
    fn make<'py>(&self, py: Python<'py>, event: WebSocketEvent<'_>) -> PyResult<(Bound<'py, PyAny>, usize)> {
        let [text, binary, close, ping, pong] = &self.kinds;
        let none = || intern!(py, "").clone().into_any();
        let of_bytes = |kind, payload: &[u8]| {
            self.tuple(py, &self.message, kind, PyBytes::new(py, payload).into_any(), none())
        };
        Ok(match event {
            WebSocketEvent::Text(payload) if self.decode_text => {
                let data = PyString::from_bytes(py, payload)?.into_any();
                (self.tuple(py, &self.text, text, data, none())?, payload.len())
            }
            WebSocketEvent::Text(payload) => {
                let data = PyBytes::new(py, payload).into_any();
                (self.tuple(py, &self.text, text, data, none())?, payload.len())
            }
            WebSocketEvent::Binary(payload) => (of_bytes(binary, payload)?, payload.len()),
            WebSocketEvent::Ping(payload) => (of_bytes(ping, payload)?, payload.len()),
            WebSocketEvent::Pong(payload) => (of_bytes(pong, payload)?, payload.len()),
            WebSocketEvent::Close(code, reason) => {
                let code = code.unwrap_or(0).into_pyobject(py)?.into_any();
                let reason_text = PyString::new(py, reason).into_any();
                (self.tuple(py, &self.message, close, code, reason_text)?, reason.len())
            }
        })
    }

    fn tuple<'py>(
        &self,
        py: Python<'py>,
        class: &Py<PyAny>,
        kind: &Py<PyAny>,
        data: Bound<'py, PyAny>,
        extra: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyTuple::new(py, [kind.bind(py).clone(), data, extra])?;
        ffi::call(py, &self.new, [class.bind(py), fields.as_any()])
    }
}

/// Reads the messages of one connection.
#[pyclass(module = "whorl._core")]
#[derive(Debug)]
pub struct WebSocketReader {
    reader: MessageReader,
    messages: Messages,
    is_compressed: bool,
    /// The received bytes that were not parsed yet, the first from this byte on.
    waiting: VecDeque<Py<PyBytes>>,
    begin: usize,
    failure: Option<ProtocolError>,
}

#[pymethods]
impl WebSocketReader {
    /// A reader for one end of a connection.
    #[new]
    ///
    /// `max_msg_size` is in bytes, 0 for no limit. `classes` are the enumeration of types, by opcode, and the named
    /// tuples of type, data and extra that messages are: texts the last, all others the second.
    #[pyo3(signature = (is_client, max_msg_size, agreement, decode_text, classes))]
    fn new(
        py: Python<'_>,
        is_client: bool,
        max_msg_size: usize,
        agreement: Option<AgreementTuple>,
        decode_text: bool,
        classes: (Bound<'_, PyAny>, Py<PyAny>, Py<PyAny>),
    ) -> PyResult<Self> {
        let (kind, message, text) = classes;
        let limit = (max_msg_size > 0).then_some(max_msg_size);
        let agreement = self::agreement(agreement)?;
        let kinds = KINDS.map(|opcode| kind.call1((opcode as u8,)).map(Bound::unbind));
        let [texts, binaries, closes, pings, pongs] = kinds;
        Ok(Self {
            reader: MessageReader::new(role(is_client), limit, agreement),
            messages: Messages {
                new: PyTuple::type_object(py).getattr(intern!(py, "__new__"))?.unbind(),
                message,
                text,
                decode_text,
                kinds: [texts?, binaries?, closes?, pings?, pongs?],
            },
            is_compressed: agreement.is_some(),
            waiting: VecDeque::new(),
            begin: 0,
            failure: None,
        })
    }

    /// Parse kept bytes and `data`, until the messages cost more than `budget` bytes.
    ///
    /// Returns them, each with its cost, and the sum of the costs. Nothing is read after a failure.
    fn feed<'py>(
        &mut self,
        data: &Bound<'py, PyBytes>,
        budget: usize,
    ) -> PyResult<(Bound<'py, PyList>, usize)> {
        let py = data.py();
        let made = PyList::empty(py);
        let mut sum = 0;
        if self.failure.is_some() {
            return Ok((made, sum));
        }
        if !data.as_bytes().is_empty() {
            self.waiting.push_back(data.clone().unbind());
        }
        'waiting: while let Some(bytes) = self.waiting.front().map(|bytes| bytes.clone_ref(py)) {
            let bytes = bytes.as_bytes(py);
            while let Some(input) = bytes.get(self.begin..).filter(|input| !input.is_empty()) {
                if sum > budget {
                    break 'waiting;
                }
                let reader = &mut self.reader;
                let parsed = if self.is_compressed && input.len() >= WORTH_DETACHING {
                    // The reader is borrowed meanwhile, which no thread waits for: a call on another one raises
                    // RuntimeError, and the collector skips the object.
                    assert_nothing_open();
                    py.detach(|| reader.parse(input))
                } else {
                    reader.parse(input)
                };
                match parsed {
                    Ok((event, used)) => {
                        self.begin += used;
                        let Some(event) = event else { continue };
                        let (message, size) = self.messages.make(py, event)?;
                        let cost = size + OVERHEAD;
                        sum += cost;
                        made.append((message, cost))?;
                    }
                    Err(error) => {
                        self.failure = Some(error);
                        self.waiting.clear();
                        break 'waiting;
                    }
                }
            }
            self.waiting.pop_front();
            self.begin = 0;
        }
        Ok((made, sum))
    }

    /// Whether bytes were kept unparsed, as the budget was used up.
    #[getter]
    fn pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The peer's fault: the code of the close frame to send, and a sentence.
    #[getter]
    fn failure(&self) -> Option<(u16, String)> {
        self.failure.map(|error| (error.close_code(), error.to_string()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.messages.new)?;
        visit.call(&self.messages.message)?;
        visit.call(&self.messages.text)?;
        self.messages.kinds.iter().try_for_each(|kind| visit.call(kind))
    }
}

/// Makes the frames of one connection.
#[pyclass(module = "whorl._core")]
#[derive(Debug)]
pub struct WebSocketWriter {
    writer: FrameWriter,
    is_compressed: bool,
    is_client: bool,
    /// Masking keys that were drawn and not used.
    keys: Vec<[u8; 4]>,
}

#[pymethods]
impl WebSocketWriter {
    /// A writer for one end of a connection.
    #[new]
    #[pyo3(signature = (is_client, agreement))]
    fn new(is_client: bool, agreement: Option<AgreementTuple>) -> PyResult<Self> {
        let agreement = self::agreement(agreement)?;
        Ok(Self {
            writer: FrameWriter::new(role(is_client), agreement),
            is_compressed: agreement.is_some(),
            is_client,
            keys: Vec::new(),
        })
    }

    /// The frame of a whole message or a control frame, which has to be sent.
    ///
    /// `compress` is None for as negotiated, 0 for not at all, 9 to 15 for by itself with a window of so many bits.
    /// Without an agreement nothing is compressed. ValueError for a frame that must not be sent.
    #[pyo3(signature = (opcode, data, compress=None))]
    fn encode<'py>(
        &mut self,
        py: Python<'py>,
        opcode: i64,
        data: &Bound<'py, PyAny>,
        compress: Option<i64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let Some(opcode) = u8::try_from(opcode).ok().and_then(Opcode::new) else {
            return Err(PyValueError::new_err(format!(
                "opcode {opcode} cannot be sent: take one of TEXT (1), BINARY (2), CLOSE (8), PING (9), PONG (10)"
            )));
        };
        let compress = match compress {
            None => Compress::Agreed,
            Some(0) => Compress::Never,
            Some(bits) => Compress::Alone(u8::try_from(bits).map_err(|_| wrong_window(bits))?),
        };
        let key = if self.is_client { self.key(py)? } else { [0; 4] };
        let writer = &mut self.writer;
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let payload = bytes.as_bytes();
            let frame = if self.is_compressed && payload.len() >= WORTH_DETACHING {
                // As in `feed`: no thread waits for the borrowed writer.
                assert_nothing_open();
                py.detach(|| writer.frame(opcode, payload, true, compress))
            } else {
                writer.frame(opcode, payload, true, compress)
            };
            return to_bytes(py, &frame.or_raise()?, key);
        }
        // Memory that its user may write to is copied first.
        let memory = LentMemory::readable(data).map_err(|error| {
            if error.is_instance_of::<PyTypeError>(py) {
                let class = data.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
                PyTypeError::new_err(format!("data argument must be a bytes-like object, not {class:?}"))
            } else {
                error
            }
        })?;
        to_bytes(py, &writer.frame(opcode, &memory.to_vec(), true, compress).or_raise()?, key)
    }
}

impl WebSocketWriter {
    /// A masking key that cannot be predicted, from the system's own source.
    fn key(&mut self, py: Python<'_>) -> PyResult<[u8; 4]> {
        if let Some(key) = self.keys.pop() {
            return Ok(key);
        }
        let drawn = py.import(intern!(py, "os"))?.call_method1(intern!(py, "urandom"), (KEYS * 4,))?;
        self.keys.extend(drawn.cast::<PyBytes>()?.as_bytes().as_chunks::<4>().0);
        self.keys.pop().ok_or_else(|| PyValueError::new_err("os.urandom() gave nothing"))
    }
}

fn to_bytes<'py>(
    py: Python<'py>,
    frame: &whorl_core::websocket::Frame<'_>,
    key: [u8; 4],
) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, frame.size(), |to| {
        frame.write_to(key, to);
        Ok(())
    })
}
