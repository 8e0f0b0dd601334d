//! Protocols that take bytes natively, from the memory that they were received into: TLS, and the layers above.
//!
//! A transport calls them through a static table of functions, so that it knows none of them. A module registers its
//! protocols when it adds its classes ([`register`]).

use std::ops::Deref;
use std::sync::{PoisonError, RwLock};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyClass, PyTraverseError, PyVisit};

use crate::event_loop::LentReadBuffer;
use crate::interpreter::{Attached, CloneWith};

/// Received bytes.
#[derive(Debug)]
pub enum Received<'a, 'py> {
    /// The first bytes of the loop's read buffer. It goes back when this is dropped, which a protocol does before it calls
    /// foreign code.
    Lent(LentReadBuffer<'a>, usize),
    /// The plaintext of a TLS layer, or bytes that the protocol takes as an object of their own.
    Object(Bound<'py, PyBytes>),
}

impl Deref for Received<'_, '_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(buffer, size) => buffer.get(..*size).unwrap_or_default(),
            Self::Object(bytes) => bytes.as_bytes(),
        }
    }
}

/// A protocol that takes bytes natively.
pub trait NativeProtocol: PyClass {
    /// Whether classes that derive from it are called in the same way, whatever they override.
    const WITH_SUBCLASSES: bool;

    /// Bytes have arrived.
    ///
    /// # Errors
    /// The error that ends the connection.
    fn received(slf: &Bound<'_, Self>, bytes: Received<'_, '_>) -> PyResult<()>;

    /// How many of the next bytes it takes as an object of their own, at most; none: they come in the loop's buffer.
    ///
    /// # Errors
    /// RuntimeError on the wrong thread.
    #[inline]
    fn wanted(slf: &Bound<'_, Self>) -> PyResult<Option<usize>> {
        let _ = slf;
        Ok(None)
    }

    /// The peer sends no more; true if the write side stays in use. `context` is the transport's.
    ///
    /// # Errors
    /// The error that ends the connection.
    fn eof_received(slf: &Bound<'_, Self>, context: &Py<PyAny>) -> PyResult<bool>;
}

/// The functions of one class of protocols.
#[derive(Debug)]
struct NativeTable {
    is_instance: fn(&Bound<'_, PyAny>) -> bool,
    received: ReceivedFn,
    wanted: WantedFn,
    eof_received: EofReceivedFn,
}

type ReceivedFn = for<'py> unsafe fn(&Bound<'py, PyAny>, Received<'_, 'py>) -> PyResult<()>;
type WantedFn = for<'py> unsafe fn(&Bound<'py, PyAny>) -> PyResult<Option<usize>>;
type EofReceivedFn = for<'py> unsafe fn(&Bound<'py, PyAny>, &Py<PyAny>) -> PyResult<bool>;

impl NativeTable {
    const fn of<T: NativeProtocol>() -> Self {
        Self {
            is_instance: is_instance::<T>,
            received: received::<T>,
            wanted: wanted::<T>,
            eof_received: eof_received::<T>,
        }
    }
}

fn is_instance<T: NativeProtocol>(protocol: &Bound<'_, PyAny>) -> bool {
    if T::WITH_SUBCLASSES { protocol.cast::<T>().is_ok() } else { protocol.cast_exact::<T>().is_ok() }
}

/// # Safety
/// `protocol` is a `T`.
unsafe fn received<T: NativeProtocol>(protocol: &Bound<'_, PyAny>, bytes: Received<'_, '_>) -> PyResult<()> {
    // SAFETY: the caller's promise.
    T::received(unsafe { protocol.cast_unchecked() }, bytes)
}

/// # Safety
/// `protocol` is a `T`.
unsafe fn wanted<T: NativeProtocol>(protocol: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    // SAFETY: the caller's promise.
    T::wanted(unsafe { protocol.cast_unchecked() })
}

/// # Safety
/// `protocol` is a `T`.
unsafe fn eof_received<T: NativeProtocol>(
    protocol: &Bound<'_, PyAny>,
    context: &Py<PyAny>,
) -> PyResult<bool> {
    // SAFETY: the caller's promise.
    T::eof_received(unsafe { protocol.cast_unchecked() }, context)
}

/// The tables of all native protocols. Written when the module is made; a section compares classes, and neither runs foreign
/// code nor detaches, so that an attached thread may wait for one.
static TABLES: RwLock<Vec<&'static NativeTable>> = RwLock::new(Vec::new());

/// Has every transport call `T` natively from now on.
pub fn register<T: NativeProtocol>() {
    let table = const { &NativeTable::of::<T>() };
    TABLES.write().unwrap_or_else(PoisonError::into_inner).push(table);
}

/// A reference to a native protocol of any class, with the functions of its class.
#[derive(Debug)]
pub struct NativeHandle {
    /// An instance of the table's class: [`NativeHandle::of`] asks before it puts the two together, and a native object
    /// cannot be given another class.
    protocol: Py<PyAny>,
    table: &'static NativeTable,
}

impl NativeHandle {
    /// A reference to `protocol`, if it is a native one.
    pub fn of(protocol: &Bound<'_, PyAny>) -> Option<Self> {
        let tables = TABLES.read().unwrap_or_else(PoisonError::into_inner);
        let table = tables.iter().find(|table| (table.is_instance)(protocol))?;
        Some(Self { protocol: protocol.clone().unbind(), table })
    }

    /// Calls [`NativeProtocol::received`].
    ///
    /// # Errors
    /// The error that ends the connection.
    #[inline]
    pub fn received<'py>(&self, py: Python<'py>, bytes: Received<'_, 'py>) -> PyResult<()> {
        // SAFETY: the protocol is of the class of its table.
        unsafe { (self.table.received)(self.protocol.bind(py), bytes) }
    }

    /// Calls [`NativeProtocol::wanted`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn wanted(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        // SAFETY: the protocol is of the class of its table.
        unsafe { (self.table.wanted)(self.protocol.bind(py)) }
    }

    /// Calls [`NativeProtocol::eof_received`].
    ///
    /// # Errors
    /// The error that ends the connection.
    pub fn eof_received(&self, py: Python<'_>, context: &Py<PyAny>) -> PyResult<bool> {
        // SAFETY: the protocol is of the class of its table.
        unsafe { (self.table.eof_received)(self.protocol.bind(py), context) }
    }

    /// Shows the protocol to the collector.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.protocol)
    }
}

impl CloneWith for NativeHandle {
    #[inline]
    fn clone_with(&self, at: Attached<'_>) -> Self {
        Self { protocol: self.protocol.clone_with(at), table: self.table }
    }
}
