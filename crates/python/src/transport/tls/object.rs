//! The engine for every interpreter: it calls the methods of the `ssl.SSLObject`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::engine::{Decrypted, Encrypted, Engine, Stop, is_zero_return, wants_more};

use crate::buffer::LentMemory;

/// What one `read()` may bring, in bytes; asyncio's.
const READ_SIZE: usize = 256 * 1024;

/// An `ssl.SSLObject` between two `ssl.MemoryBIO`.
#[derive(Debug)]
pub struct ObjectEngine {
    ssl_object: Py<PyAny>,
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
}

impl ObjectEngine {
    /// The engine of `ssl_object`, made over these two.
    pub fn new(
        ssl_object: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
    ) -> Self {
        Self {
            ssl_object: ssl_object.clone().unbind(),
            incoming: incoming.clone().unbind(),
            outgoing: outgoing.clone().unbind(),
        }
    }

    /// One `read()`: what it brought, or why nothing.
    fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Result<Bound<'py, PyBytes>, Stop>> {
        match self.ssl_object.bind(py).call_method1(intern!(py, "read"), (size,)) {
            Ok(data) => {
                let data = data.cast_into::<PyBytes>()?;
                Ok(if data.as_bytes().is_empty() { Err(Stop::Closed) } else { Ok(data) })
            }
            Err(error) if wants_more(py, &error)? => Ok(Err(Stop::Empty)),
            Err(error) if is_zero_return(py, &error)? => Ok(Err(Stop::Closed)),
            Err(error) => Ok(Err(Stop::Failed(error))),
        }
    }
}

impl Engine for ObjectEngine {
    fn feed(&self, py: Python<'_>, ciphertext: &[u8]) -> PyResult<()> {
        self.incoming.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, ciphertext),)).map(drop)
    }

    fn decrypt<'py>(
        &self,
        py: Python<'py>,
        ciphertext: &[u8],
    ) -> PyResult<Decrypted<Option<Bound<'py, PyBytes>>>> {
        if !ciphertext.is_empty() {
            self.feed(py, ciphertext)?;
        }
        let mut pieces = Vec::new();
        let stop = loop {
            match self.read(py, READ_SIZE)? {
                Ok(data) => pieces.push(data),
                Err(stop) => break stop,
            }
        };
        let data = match pieces.len() {
            0 | 1 => pieces.pop(),
            _ => {
                let joined =
                    PyBytes::new(py, b"").call_method1(intern!(py, "join"), (PyList::new(py, pieces)?,))?;
                Some(joined.cast_into::<PyBytes>()?)
            }
        };
        Ok(Decrypted { data, stop })
    }

    fn decrypt_into(&self, py: Python<'_>, memory: &mut LentMemory) -> PyResult<Decrypted<usize>> {
        let mut filled = 0;
        loop {
            let (_, room) = memory.room(filled);
            if room == 0 {
                return Ok(Decrypted { data: filled, stop: Stop::Full });
            }
            match self.read(py, room)? {
                Ok(data) => filled += memory.fill(filled, data.as_bytes()),
                Err(stop) => return Ok(Decrypted { data: filled, stop }),
            }
        }
    }

    fn encrypt(&self, py: Python<'_>, plaintext: &[u8]) -> PyResult<Encrypted> {
        let mut done = 0;
        while done < plaintext.len() {
            let rest = PyBytes::new(py, &plaintext[done..]);
            match self.ssl_object.bind(py).call_method1(intern!(py, "write"), (rest,)) {
                Ok(count) => done += count.extract::<usize>()?,
                Err(error) if wants_more(py, &error)? => return Ok(Encrypted::Part(done)),
                Err(error) => return Err(error),
            }
        }
        Ok(Encrypted::All)
    }

    fn take_outgoing(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        let data = self.outgoing.bind(py).call_method0(intern!(py, "read"))?;
        Ok(data.cast::<PyBytes>()?.as_bytes().to_vec())
    }

    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        let waits: usize = self.incoming.bind(py).getattr(intern!(py, "pending"))?.extract()?;
        let decrypted: usize = self.ssl_object.bind(py).call_method0(intern!(py, "pending"))?.extract()?;
        Ok(waits + decrypted)
    }

    fn handshake<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ssl_object.bind(py).call_method0(intern!(py, "do_handshake"))
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ssl_object.bind(py).call_method0(intern!(py, "unwrap"))
    }

    fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.ssl_object)?;
        visit.call(&self.incoming)?;
        visit.call(&self.outgoing)
    }
}
