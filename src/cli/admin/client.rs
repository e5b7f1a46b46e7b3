//! HTTP over the admin socket.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use fedgate::ops::report::{Check, Done};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::NoSuch;

/// How long an answer may take; fedgate itself takes less.
const PATIENCE: Duration = Duration::from_secs(40);
/// No answer is longer, in bytes.
const ANSWER_MAX: usize = 256 << 20;
/// No line of what is watched is longer.
const LINE_MAX: usize = 64 << 20;

/// Asks the fedgate behind one socket.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    patience: Duration,
    runtime: Runtime,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        Ok(Self { socket, patience: PATIENCE, runtime })
    }

    /// The same, which waits no longer than that for an answer.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Gets something and reads it; also as it came.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<(T, String)> {
        let json = self.ask("GET", path, String::new())?;
        let value = serde_json::from_str(&json)
            .context("read the answer: is the running fedgate of another version?")?;
        Ok((value, json))
    }

    /// Asks whether it can do its work; the answer is the same list of checks when it cannot.
    pub(super) fn checks(&self) -> anyhow::Result<Vec<Check>> {
        let (_, json) = self.exchange("GET", "/readyz", String::new())?;
        serde_json::from_str(&json).context("read the answer")
    }

    /// Gives an order; what came of it is JSON whether it was done or not.
    pub(super) fn post(&self, path: &str, body: String) -> anyhow::Result<String> {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: String) -> anyhow::Result<String> {
        let (status, text) = self.exchange(method, path, body)?;
        // What there is none of is said in the same words as what is not done.
        if status.is_success() || method == "POST" {
            return Ok(text);
        }
        match serde_json::from_str::<Done>(&text) {
            Ok(done) if status == StatusCode::NOT_FOUND => Err(NoSuch(done.detail).into()),
            Ok(done) => bail!("{}", done.detail),
            Err(_) => bail!("{} answers {status}", self.socket.display()),
        }
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, String)> {
        let asked = async {
            let answer = self.send(method, path, body).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
            let text = String::from_utf8(body.to_bytes().to_vec()).context("read the answer")?;
            anyhow::Ok((status, text))
        };
        let answer = self.runtime.block_on(async { timeout(self.patience, asked).await });
        match answer {
            Ok(answer) => answer,
            Err(_) => bail!("{} does not answer in time", self.socket.display()),
        }
    }

    /// Takes server-sent events until one is enough: name and data.
    pub(super) fn watch(
        &self,
        path: &str,
        mut take: impl FnMut(&str, &str) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let answer = self.send("GET", path, String::new()).await?;
            if !answer.status().is_success() {
                bail!("{} answers {}", self.socket.display(), answer.status());
            }
            let mut body = answer.into_body();
            let mut text = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.context("read what happens")?.into_data() else { continue };
                text.extend_from_slice(&data);
                while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                    let message: Vec<_> = text.drain(..end + 2).collect();
                    let message = String::from_utf8_lossy(&message);
                    let line = |name| message.lines().find_map(|line| line.strip_prefix(name));
                    if let (Some(event), Some(data)) = (line("event: "), line("data: "))
                        && !take(event, data)?
                    {
                        return Ok(());
                    }
                }
                if text.len() > LINE_MAX {
                    bail!("what came has no end");
                }
            }
            bail!("fedgate has ended")
        })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> anyhow::Result<Response<Incoming>> {
        let nobody = || {
            format!(
                "ask fedgate by {} (does it run, and may you use the socket?)",
                self.socket.display()
            )
        };
        let socket = UnixStream::connect(&self.socket).await.with_context(nobody)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.context("talk to fedgate")?;
        // It ends with the runtime of this command.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .context("make a request")?;
        sender.send_request(request).await.context("talk to fedgate")
    }
}
