//! The sending of a request on its connection, and its response.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::http::client::call_scope::{CallScope, Signal};
use crate::http::client::deadlines::RequestDeadlines;
use crate::http::client::handle::{RequestHandle, WrittenRequest};
use crate::http::client::request_data::Sendable;
use crate::http::client::response::ResponseBase;
use crate::http::client::step::{AwaitedStep, Poll};
use crate::http::client::target::RequestRecord;
use crate::http::given;
use crate::http::h1::connection::HttpConnection;
use crate::http::h1::exchange::Exchange;
use crate::transport::Chunk;

use super::plan::NewTlsSession;
use super::{Acquired, Hop, HopStage, InFlight, Until, Upload};

/// A step that comes before a request is written.
enum BeforeWriting {
    Announcing(AwaitedStep),
    Sending(AwaitedStep),
}

impl Hop {
    pub(super) fn send(&mut self, py: Python<'_>, acquired: Acquired) -> PyResult<Poll<Py<PyAny>>> {
        match self.begin_sending(py, &acquired) {
            Ok(None) => self.write(py, acquired),
            Ok(Some(stage)) => {
                self.stage = match stage {
                    BeforeWriting::Announcing(step) => HopStage::Announcing(step, acquired),
                    BeforeWriting::Sending(step) => HopStage::Sending(step, acquired),
                };
                self.resume(py, None)
            }
            Err(error) => acquired.fail(py, error),
        }
    }

    /// The step that comes before the request is written, if there is one.
    fn begin_sending(&mut self, py: Python<'_>, acquired: &Acquired) -> PyResult<Option<BeforeWriting>> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, traces, .. } = scope.get();
        if config.overrides.request && self.until == Until::Head {
            let request = self.request.object(py, &scope)?;
            let connection = self.connection_object(py, acquired)?;
            let coroutine = request.call_method1(intern!(py, "send"), (connection,))?;
            return Ok(Some(BeforeWriting::Sending(AwaitedStep::new(&coroutine)?)));
        }
        if !traces.listen_to(Signal::HeadersSent) {
            return Ok(None);
        }
        let (method, url) = (self.request.method(py)?, self.request.url(py)?);
        let headers = self.request.with_data(py, |data| data.fields.dict(py))?;
        let args = (method, url, headers).into_pyobject(py)?;
        let coroutine = traces.send(py, Signal::HeadersSent, "send_request_headers", args)?;
        coroutine.map(|coroutine| Ok(BeforeWriting::Announcing(AwaitedStep::new(&coroutine)?))).transpose()
    }

    /// The connection as a program sees it.
    pub(super) fn connection_object<'py>(
        &self,
        py: Python<'py>,
        acquired: &Acquired,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(object) = &acquired.object {
            return Ok(object.bind(py).clone());
        }
        let connector = &self.scope.get().config.connector;
        given::step(py, intern!(py, "connection"))?.call1((connector, &acquired.protocol))
    }

    pub(super) fn write(&mut self, py: Python<'_>, acquired: Acquired) -> PyResult<Poll<Py<PyAny>>> {
        match self.try_write(py, &acquired) {
            Ok(in_flight) if self.until == Until::Sent => match self.response(py, &in_flight) {
                Ok(response) => Ok(Poll::Ready(response.unbind())),
                Err(error) => acquired.fail(py, error),
            },
            Ok(in_flight) if self.scope.get().config.overrides.response => {
                self.start_in_flight(py, &acquired, in_flight)
            }
            Ok(in_flight) => match in_flight.exchange.get().await_head(py) {
                Ok(Some(future)) => {
                    self.stage = HopStage::Awaiting(in_flight);
                    Ok(Poll::Pending(future))
                }
                // The upload has failed at its first step.
                Ok(None) => self.finish(py, in_flight),
                Err(error) => acquired.fail(py, error),
            },
            Err(error) => acquired.fail(py, error),
        }
    }

    pub(super) fn try_write(&mut self, py: Python<'_>, acquired: &Acquired) -> PyResult<InFlight> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, response, parsing, timeouts, traces, tracker, .. } = scope.get();
        let protocol = acquired.protocol.bind(py);
        let by_python = config.overrides.request
            || tracker.is_some()
            || traces.listen_to(Signal::ChunkSent)
            || protocol.get().is_writing_paused()?;
        let WrittenRequest { head, body, sendable, record } = self.request.write(py, &scope, by_python)?;
        let method = record.method.bind(py).to_str()?;
        let exchange = HttpConnection::begin_with(protocol, method, *response, *parsing, timeouts.read)?;
        let upload = match sendable {
            Some(sendable) => {
                let head = Chunk::of_bytes(head.bind(py));
                let body = body.as_ref().map(|body| Chunk::of_bytes(body.bind(py)));
                protocol.get().write_chunks(py, std::iter::once(head).chain(body))?;
                HttpConnection::sent(protocol)?;
                if let Sendable::Short(_) = sendable {
                    protocol.get().close_after_exchange()?;
                }
                None
            }
            None => {
                let request = self.request.object(py, &scope)?;
                let connection = self.connection_object(py, acquired)?;
                let (writer, task): (Py<PyAny>, Option<Py<PyAny>>) =
                    request.call_method1(intern!(py, "_start_upload"), (connection, head))?.extract()?;
                Some(Upload { writer, task })
            }
        };
        if let Some(limit) = scope.get().time_left(py)? {
            let waiting = exchange.bind(py).as_any();
            let deadline =
                RequestDeadlines::enter(config.deadlines.bind(py), limit, waiting, Exchange::end_wait)?;
            exchange.get().set_guard(Box::new(deadline))?;
        }
        Ok(InFlight { exchange, record, upload })
    }

    // Its response.

    /// Ends the wait for the head: it has come, or will not.
    pub(super) fn finish(&mut self, py: Python<'_>, in_flight: InFlight) -> PyResult<Poll<Py<PyAny>>> {
        let exchange = in_flight.exchange.bind(py);
        if exchange.get().head_if_any().is_none() {
            let Err(error) = exchange.get().check(py) else {
                self.stage = HopStage::Awaiting(in_flight);
                return Ok(Poll::Early);
            };
            in_flight.give_up(py)?;
            let RequestRecord { method, url, head } = &*in_flight.record;
            let step = given::step(py, intern!(py, "response_error"))?;
            return Err(PyErr::from_value(step.call1((error.value(py), method, url, head))?));
        }
        let response = self.response(py, &in_flight).inspect_err(|_| {
            let _kept = in_flight.give_up(py);
        })?;
        self.after_head(py, &in_flight).inspect_err(|_| {
            let _kept = in_flight.give_up(py);
        })?;
        Ok(Poll::Ready(response.unbind()))
    }

    /// The head is here.
    pub(super) fn after_head(&mut self, py: Python<'_>, in_flight: &InFlight) -> PyResult<()> {
        if let Some(NewTlsSession { ssl_object: Some(ssl_object), resumption }) = self.new.tls_session.take()
        {
            resumption.call_method1(py, intern!(py, "keep"), (ssl_object,))?;
        }
        let exchange = in_flight.exchange.get();
        if exchange.is_tunnel()? && in_flight.record.wants_tunnel(py)? {
            // Another protocol has limits of its own.
            exchange.end_guard(py)?;
        }
        Ok(())
    }

    /// Has the response class await the head: while it begins, the connection is the request's for sure.
    fn start_in_flight(
        &mut self,
        py: Python<'_>,
        acquired: &Acquired,
        in_flight: InFlight,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let parts = self
            .connection_object(py, acquired)
            .and_then(|connection| Ok((self.response(py, &in_flight)?, connection)));
        match parts {
            Ok((response, connection)) => self.start(&response, &connection, Some(in_flight)),
            Err(error) => {
                in_flight.give_up(py)?;
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        response: &Bound<'_, PyAny>,
        connection: &Bound<'_, PyAny>,
        in_flight: Option<InFlight>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let py = response.py();
        let event_loop = &self.scope.get().config.event_loop;
        let coroutine = given::step(py, intern!(py, "start"))?.call1((response, connection, event_loop))?;
        let step = AwaitedStep::new(&coroutine)?;
        self.stage = HopStage::Starting(step, response.clone().unbind(), in_flight.map(Box::new));
        self.resume(py, None)
    }

    /// Has the response class await the head, of a request that the request class has sent.
    pub(super) fn start_sent(
        &mut self,
        py: Python<'_>,
        acquired: Acquired,
        response: &Py<PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        match self.connection_object(py, &acquired) {
            Ok(connection) => self.start(response.bind(py), &connection, None),
            Err(error) => acquired.fail(py, error),
        }
    }

    /// The response, by its class.
    pub(super) fn response<'py>(
        &mut self,
        py: Python<'py>,
        in_flight: &InFlight,
    ) -> PyResult<Bound<'py, PyAny>> {
        let scope = self.scope.clone_ref(py);
        let CallScope { config, session, traces, .. } = scope.get();
        let InFlight { exchange, record, upload, .. } = in_flight;
        let class = config.response_class.bind(py);
        let listens = traces.listen_to(Signal::ChunkReceived);
        let is_simple = upload.is_none() && !listens;
        let response = if config.overrides.response {
            let keywords = PyDict::new(py);
            let request = self.request.object(py, &scope)?;
            keywords.set_item("writer", upload.as_ref().and_then(|upload| upload.task.as_ref()))?;
            keywords.set_item("continue100", py.None())?;
            keywords.set_item("timer", request.getattr(intern!(py, "_timer"))?)?;
            keywords.set_item("request_info", request.getattr(intern!(py, "request_info"))?)?;
            keywords.set_item("traces", traces.list(py))?;
            keywords.set_item("loop", &config.event_loop)?;
            keywords.set_item("session", session)?;
            keywords.set_item("stream_writer", upload.as_ref().map(|upload| &upload.writer))?;
            let response = class.call((&record.method, &record.url), Some(&keywords))?;
            response.setattr(intern!(py, "_exchange"), exchange)?;
            response
        } else {
            let session = session.clone_ref(py).into_any();
            let response = ResponseBase::make(
                class,
                &config.new_response,
                exchange.clone_ref(py),
                Arc::clone(record),
                session,
                is_simple,
            )?;
            if listens {
                response.setattr(intern!(py, "_traces"), traces.list(py))?;
            }
            if let Some(Upload { writer, task }) = upload {
                response.call_method1(intern!(py, "_follow_upload"), (writer, task))?;
            }
            if config.debug {
                given::step(py, intern!(py, "note_origin"))?.call1((&response,))?;
            }
            response
        };
        if let RequestHandle::Object(request) = &self.request {
            request.get().set_response(&response)?;
        }
        Ok(response)
    }
}
