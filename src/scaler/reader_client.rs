//! The replica that reads, as another one asks it: KEDA's own calls over gRPC, with the certificate and the authorities of the port.
//!
//! Contract: each call names the run of the process that it is for, and nobody else answers it; so a call is passed on once at most. What is
//! no answer of that process, and no refusal of it either, is [`NoAnswer::Unreachable`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::calls::{is_signed_by, passed_on};
use super::externalscaler::{GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef};
use super::server_tls::{CurrentTls, PeerTls};
use super::standing::OtherReader;
use crate::error_text::{causes, shown};
use crate::telemetry::{TableTelemetry, events};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A replica that has been silent so long is asked whether it is there, and has so long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

type Channel = Client<HttpsConnector<HttpConnector>, tonic::body::Body>;

/// Why the replica that reads has not answered.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It refuses, or does not know: what KEDA is to hear.
    Refused(Status),
    /// It is not there, or does not read any more.
    Unreachable(String),
}

/// Calls whichever replica reads.
pub(super) struct ReaderClient {
    tls: Option<CurrentTls>,
    newest: Mutex<Option<Arc<Connected>>>,
    telemetry: Option<Arc<TableTelemetry>>,
}

struct Connected {
    to: OtherReader,
    tls: Option<Arc<PeerTls>>,
    origin: Uri,
    channel: Channel,
}

impl ReaderClient {
    /// `tls` is that of the port; `telemetry` counts what is reported of replicas, if there are any.
    pub(super) fn new(tls: Option<CurrentTls>, telemetry: Option<Arc<TableTelemetry>>) -> Self {
        Self { tls, newest: Mutex::default(), telemetry }
    }

    /// A call has ended without an answer of any replica.
    pub(super) fn report(&self, why: &str) {
        if let Some(telemetry) = &self.telemetry {
            events::ScalerReaderFailing { why }.emit(telemetry);
        }
    }

    pub(super) async fn is_active(
        &self,
        reader: &OtherReader,
        of: ScaledObjectRef,
        deadline: Instant,
    ) -> Result<IsActiveResponse, NoAnswer> {
        self.ask(reader, "/externalscaler.ExternalScaler/IsActive", of, deadline).await
    }

    pub(super) async fn metrics(
        &self,
        reader: &OtherReader,
        of: GetMetricsRequest,
        deadline: Instant,
    ) -> Result<GetMetricsResponse, NoAnswer> {
        self.ask(reader, "/externalscaler.ExternalScaler/GetMetrics", of, deadline).await
    }

    /// A stream that has been opened before the deadline.
    pub(super) async fn stream(
        &self,
        reader: &OtherReader,
        of: ScaledObjectRef,
        deadline: Instant,
    ) -> Result<Streaming<IsActiveResponse>, NoAnswer> {
        let connected = self.connected(reader)?;
        let mut grpc = connected.grpc();
        let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
        let opening = async {
            grpc.ready().await.map_err(|error| Status::unavailable(causes(&error)))?;
            let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
            grpc.server_streaming(passed_on(reader, of), path, codec).await
        };
        let opened = timeout_at(deadline, opening).await;
        self.judged(&connected, opened.unwrap_or_else(|_| Err(timed_out())))
    }

    async fn ask<M, A>(
        &self,
        reader: &OtherReader,
        method: &'static str,
        message: M,
        deadline: Instant,
    ) -> Result<A, NoAnswer>
    where
        M: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let connected = self.connected(reader)?;
        let mut grpc = connected.grpc();
        let asking = async {
            grpc.ready().await.map_err(|error| Status::unavailable(causes(&error)))?;
            let (path, codec) = (PathAndQuery::from_static(method), ProstCodec::<M, A>::default());
            grpc.unary(passed_on(reader, message), path, codec).await
        };
        let answer = timeout_at(deadline, asking).await;
        self.judged(&connected, answer.unwrap_or_else(|_| Err(timed_out())))
    }

    fn judged<T>(&self, by: &Arc<Connected>, answer: Result<tonic::Response<T>, Status>) -> Result<T, NoAnswer> {
        let why = match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_signed_by(&status, &by.to) => {
                return Err(NoAnswer::Refused(Status::new(status.code(), status.message())));
            }
            Err(status) => format!("the one at {}: {}", by.to.address, description(&status)),
        };
        // The next call connects anew.
        self.newest().take_if(|newest| Arc::ptr_eq(newest, by));
        Err(NoAnswer::Unreachable(why))
    }

    fn connected(&self, reader: &OtherReader) -> Result<Arc<Connected>, NoAnswer> {
        let away = |why: &str| NoAnswer::Unreachable(format!("the one at {}: {why}", reader.address));
        let tls = match &self.tls {
            None => None,
            Some(tls) => {
                let peer = tls.borrow().as_ref().and_then(|loaded| loaded.peer.clone());
                Some(peer.ok_or_else(|| away("this replica has not read its own certificate yet"))?)
            }
        };
        let is_same = |known: &&Arc<Connected>| {
            known.to == *reader && known.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        };
        let mut newest = self.newest();
        if let Some(known) = newest.as_ref().filter(is_same) {
            return Ok(known.clone());
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", reader.address).parse().map_err(|_| away("no address"))?;
        let channel = channel(tls.as_deref()).map_err(|why| away(&why))?;
        let connected = Arc::new(Connected { to: reader.clone(), tls, origin, channel });
        *newest = Some(connected.clone());
        Ok(connected)
    }

    fn newest(&self) -> MutexGuard<'_, Option<Arc<Connected>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn grpc(&self) -> Grpc<Channel> {
        Grpc::with_origin(self.channel.clone(), self.origin.clone())
    }
}

/// A connection that is made when it is needed.
fn channel(tls: Option<&PeerTls>) -> Result<Channel, String> {
    let config = match tls {
        Some(tls) => tls.config.clone(),
        None => without_authorities()?,
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let connector = match tls.and_then(|tls| tls.name.clone()) {
        Some(name) => {
            connector.with_server_name_resolver(FixedServerNameResolver::new(name)).enable_http2().wrap_connector(tcp)
        }
        None => connector.enable_http2().wrap_connector(tcp),
    };
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(true).timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    builder.http2_keep_alive_interval(KEEP_ALIVE).http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    Ok(builder.build(connector))
}

/// For connections without TLS.
fn without_authorities() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn timed_out() -> Status {
    Status::unavailable("no answer in time")
}

/// Not by its `Display`, which has the causes' `Debug`.
fn description(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", shown(status.message()), causes(source)),
        None => shown(status.message()),
    }
}
