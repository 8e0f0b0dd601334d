//! One request of each kind, each response checked.

use std::io::Read;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use serde_json::{Value, json};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The body as a whole.
    Get,
    /// The body by pieces.
    Stream,
    /// A JSON document there and back.
    PostJson,
}

/// The client, and what it requests.
#[derive(Clone)]
pub(super) struct Http<C> {
    client: Client<C, Full<Bytes>>,
    url: Uri,
    size: usize,
    document: Value,
}

impl<C> Http<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    pub(super) fn new(client: Client<C, Full<Bytes>>, url: Uri, size: usize) -> Self {
        Self { client, url, size, document: document() }
    }

    pub(super) async fn perform(&self, work: Work) -> Result<()> {
        match work {
            Work::Get => self.get().await,
            Work::Stream => self.stream().await,
            Work::PostJson => self.post_json().await,
        }
    }

    /// GET, the whole body in one piece, decompressed if it was compressed.
    pub(super) async fn get(&self) -> Result<()> {
        let response = self.send(request(self.url.clone())?).await?;
        let coded = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        let body = response.into_body().collect().await?.to_bytes();
        if !coded {
            return self.check(body.len());
        }
        let mut text = Vec::with_capacity(self.size);
        GzDecoder::new(&body[..]).read_to_end(&mut text)?;
        self.check(text.len())
    }

    /// GET, the body by the pieces it comes in.
    pub(super) async fn stream(&self) -> Result<()> {
        let mut body = self.send(request(self.url.clone())?).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        self.check(length)
    }

    /// POST of a document as JSON; the response is read as JSON.
    async fn post_json(&self) -> Result<()> {
        let mut request = request(self.url.clone())?;
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Full::new(serde_json::to_vec(&self.document)?.into());
        let body = self.send(request).await?.into_body().collect().await?.to_bytes();
        let received: Value = serde_json::from_slice(&body)?;
        if received != self.document {
            bail!("{} returned another document: {received}", self.url);
        }
        Ok(())
    }

    /// GET of another page of the same server.
    pub(super) async fn request_page(&self, path: &str) -> Result<()> {
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(path.parse()?);
        self.send(request(Uri::from_parts(parts)?)?).await?.into_body().collect().await?;
        Ok(())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let response =
            self.client.request(request).await.with_context(|| format!("request to {}", self.url))?;
        if response.status() != StatusCode::OK {
            bail!("{} returned {}", self.url, response.status());
        }
        Ok(response)
    }

    fn check(&self, length: usize) -> Result<()> {
        if length != self.size {
            bail!("{} returned {length} bytes instead of {}", self.url, self.size);
        }
        Ok(())
    }
}

/// A GET with the fields that an HTTP client sends by itself.
fn request(url: Uri) -> Result<Request<Full<Bytes>>> {
    Ok(Request::get(url)
        .header(ACCEPT, HeaderValue::from_static("*/*"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"))
        .header(USER_AGENT, HeaderValue::from_static("whorl-bench"))
        .body(Full::default())?)
}

/// What `DOCUMENT` in bench/workloads is.
fn document() -> Value {
    let items: Vec<Value> = (0..10)
        .map(|id| json!({"id": id, "name": format!("item {id}"), "price": f64::from(id) * 1.5}))
        .collect();
    json!({"message": "hello", "items": items})
}
