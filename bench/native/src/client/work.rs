//! One request of each kind, each response checked.

use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use serde_json::{Value, json};

use super::body::{Multipart, Outgoing};

/// The file that a form uploads, in the directory of the run.
const UPLOAD: &str = "upload.bin";
/// What `FORM` in bench/workloads is, as a form encodes it.
const FORM: &[u8] = b"name=Ada+Lovelace&email=ada%40example.org&subject=notes&message=hello";

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The body as a whole.
    Get,
    /// The body by pieces.
    Stream,
    /// A JSON document there and back.
    PostJson,
    /// The same, as bytes that are not read as JSON.
    PostBytes,
    /// A form of some fields.
    PostForm,
    /// A form with a file in it.
    PostMultipart,
    /// A redirect, and what it leads to.
    Redirected,
}

/// The client, and what it requests.
#[derive(Clone)]
pub(super) struct Http<C> {
    client: Client<C, Outgoing>,
    url: Uri,
    size: usize,
    document: Value,
    document_bytes: Bytes,
    upload: Arc<PathBuf>,
}

impl<C> Http<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    /// Requests for `url`, whose body has `size` bytes; `directory` is where a file to be uploaded is made.
    pub(super) fn new(client: Client<C, Outgoing>, url: Uri, size: usize, directory: &Path) -> Result<Self> {
        let document = document();
        let document_bytes = serde_json::to_vec(&document)?.into();
        let upload = Arc::new(directory.join(UPLOAD));
        Ok(Self { client, url, size, document, document_bytes, upload })
    }

    /// The same requests by another client.
    pub(super) fn by(self, client: Client<C, Outgoing>) -> Self {
        Self { client, ..self }
    }

    /// Makes the file that [`Work::PostMultipart`] uploads.
    pub(super) fn make_upload(&self) -> Result<()> {
        std::fs::write(&*self.upload, vec![b'x'; self.size])
            .with_context(|| format!("cannot write {}", self.upload.display()))
    }

    pub(super) async fn perform(&self, work: Work) -> Result<()> {
        match work {
            Work::Get => self.get().await,
            Work::Stream => self.stream().await,
            Work::PostJson => self.post_json().await,
            Work::PostBytes => self.post_bytes().await,
            Work::PostForm => self.post_form().await,
            Work::PostMultipart => self.post_multipart().await,
            Work::Redirected => self.redirected().await,
        }
    }

    /// GET, the whole body in one piece, decompressed if it was compressed.
    pub(super) async fn get(&self) -> Result<()> {
        let response = self.send(request(self.url.clone())?).await?;
        let coded = is_gzip(&response);
        let body = response.into_body().collect().await?.to_bytes();
        if !coded {
            return self.check(body.len());
        }
        let mut text = Vec::with_capacity(self.size);
        GzDecoder::new(&body[..]).read_to_end(&mut text)?;
        self.check(text.len())
    }

    /// GET, the whole body as text.
    pub(super) async fn get_text(&self) -> Result<()> {
        let body = self.send(request(self.url.clone())?).await?.into_body().collect().await?.to_bytes();
        self.check(std::str::from_utf8(&body)?.len())
    }

    /// GET, the body by the pieces it comes in, each decompressed if it was compressed.
    pub(super) async fn stream(&self) -> Result<()> {
        let response = self.send(request(self.url.clone())?).await?;
        let mut decoder = is_gzip(&response).then(|| flate2::write::GzDecoder::new(Counter(0)));
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let Some(piece) = frame.data_ref() else { continue };
            match &mut decoder {
                Some(decoder) => decoder.write_all(piece)?,
                None => length += piece.len(),
            }
        }
        self.check(match decoder {
            Some(decoder) => decoder.finish()?.0,
            None => length,
        })
    }

    /// POST of a document as JSON; the response is read as JSON.
    async fn post_json(&self) -> Result<()> {
        let body = self.post("application/json", serde_json::to_vec(&self.document)?.into()).await?;
        let received: Value = serde_json::from_slice(&body)?;
        if received != self.document {
            bail!("{} returned another document: {received}", self.url);
        }
        Ok(())
    }

    /// POST of the same document's bytes, which come back.
    async fn post_bytes(&self) -> Result<()> {
        let body = self.post("application/json", Outgoing::Whole(self.document_bytes.clone())).await?;
        if body != self.document_bytes {
            bail!("{} returned {} other bytes", self.url, body.len());
        }
        Ok(())
    }

    /// POST of a form's fields; the response is how many bytes that was.
    async fn post_form(&self) -> Result<()> {
        let body = self.post("application/x-www-form-urlencoded", FORM.into()).await?;
        self.check_received(&body, FORM.len()..=FORM.len())
    }

    /// POST of a form with a file in it.
    async fn post_multipart(&self) -> Result<()> {
        let form = Multipart::of_file(&self.upload)?;
        let body = self.post(&Multipart::content_type(), Outgoing::Multipart(form)).await?;
        self.check_received(&body, self.size..=self.size + 1024)
    }

    /// GET of a page that redirects to another one on the same server.
    async fn redirected(&self) -> Result<()> {
        let response = self.client.request(request(self.url.clone())?).await?;
        if response.status() != StatusCode::FOUND {
            bail!("{} returned {}", self.url, response.status());
        }
        let location = response.headers().get(LOCATION).context("a redirect without Location")?.to_str()?;
        let target = self.page(location)?;
        // The connection is free for the next request once the body has been read.
        response.into_body().collect().await?;
        let body = self.send(request(target)?).await?.into_body().collect().await?.to_bytes();
        self.check(body.len())
    }

    async fn post(&self, content_type: &str, body: Outgoing) -> Result<Bytes> {
        let mut request = request(self.url.clone())?;
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(content_type)?);
        *request.body_mut() = body;
        Ok(self.send(request).await?.into_body().collect().await?.to_bytes())
    }

    /// GET of another page of the same server.
    pub(super) async fn request_page(&self, path: &str) -> Result<()> {
        self.send(request(self.page(path)?)?).await?.into_body().collect().await?;
        Ok(())
    }

    fn page(&self, path: &str) -> Result<Uri> {
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(path.parse()?);
        Ok(Uri::from_parts(parts)?)
    }

    async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>> {
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

    /// Checks what the server says about how much it has received.
    fn check_received(&self, body: &[u8], expected: RangeInclusive<usize>) -> Result<()> {
        let received: usize = std::str::from_utf8(body)?.parse()?;
        if !expected.contains(&received) {
            bail!("{} received {received} bytes instead of {expected:?}", self.url);
        }
        Ok(())
    }
}

/// Counts what is written to it.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len();
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_gzip(response: &Response<Incoming>) -> bool {
    response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip")
}

/// A GET with the fields that an HTTP client sends by itself.
fn request(url: Uri) -> Result<Request<Outgoing>> {
    Ok(Request::get(url)
        .header(ACCEPT, HeaderValue::from_static("*/*"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"))
        .header(USER_AGENT, HeaderValue::from_static("whorl-bench"))
        .body(Outgoing::default())?)
}

/// What `DOCUMENT` in bench/workloads is.
fn document() -> Value {
    let items: Vec<Value> = (0..10)
        .map(|id| json!({"id": id, "name": format!("item {id}"), "price": f64::from(id) * 1.5}))
        .collect();
    json!({"message": "hello", "items": items})
}
