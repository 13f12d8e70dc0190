//! KEDA's part: a client of the scaler's calls.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, ScaledObjectRef,
};
use crate::support::adapter::Adapter;
use crate::support::aws::FakeAws;
use crate::support::wait_for;

pub use crate::plan::plan;

/// A scaler that looks often, running.
pub async fn scaler(aws: &FakeAws) -> Adapter {
    plan(&aws.endpoint()).start_ready().await
}

/// A client of a scaler.
#[derive(Clone)]
pub struct Keda {
    client: Grpc<Client<HttpsConnector<HttpConnector>, tonic::body::Body>>,
}

/// A trigger's metadata.
pub type Metadata<'m> = &'m [(&'m str, &'m str)];

pub fn reference(namespace: &str, metadata: Metadata<'_>) -> ScaledObjectRef {
    let pairs = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ScaledObjectRef {
        name: "consumer".to_owned(),
        namespace: namespace.to_owned(),
        scaler_metadata: [("scalerAddress".to_owned(), "scaler:6000".to_owned())]
            .into_iter()
            .chain(pairs)
            .collect::<BTreeMap<_, _>>(),
    }
}

/// The trigger of a table with this added.
pub fn trigger(table: &str, more: Metadata<'_>) -> ScaledObjectRef {
    reference("shop", &[&[("tableName", table), ("awsRegion", "eu-west-1")], more].concat())
}

impl Keda {
    pub async fn of(scaler: &Adapter) -> Self {
        Self::with(scaler, "http", plain()).await
    }

    /// Of what answers at an address such as `http://127.0.0.1:6000`.
    pub fn at(endpoint: &str) -> Self {
        Self::to(endpoint, plain())
    }

    pub async fn with_tls(scaler: &Adapter, config: ClientConfig) -> Self {
        Self::with(scaler, "https", config).await
    }

    async fn with(scaler: &Adapter, scheme: &str, config: ClientConfig) -> Self {
        wait_for("the port of the calls", || scaler.logged("listening").len() == 2).await;
        let address = scaler.logged("listening")[1]["address"].as_str().unwrap().to_owned();
        let port = address.rsplit(':').next().unwrap();
        Self::to(&format!("{scheme}://localhost:{port}"), config)
    }

    fn to(endpoint: &str, config: ClientConfig) -> Self {
        let origin: Uri = endpoint.parse().unwrap();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http2().build();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { client: Grpc::with_origin(client, origin) }
    }

    async fn call<M, A>(&mut self, method: &'static str, message: M) -> Result<A, Status>
    where
        M: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static(method);
        let answer = self.client.unary(Request::new(message), path, ProstCodec::<M, A>::default());
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("every call ends");
        answer.map(tonic::Response::into_inner)
    }

    pub async fn is_active(&mut self, of: &ScaledObjectRef) -> Result<bool, Status> {
        let answer = self.call("/externalscaler.ExternalScaler/IsActive", of.clone()).await;
        answer.map(|answer: IsActiveResponse| answer.result)
    }

    /// As another replica asks that takes the one called for this run of a process.
    pub async fn is_active_of_run(&mut self, of: &ScaledObjectRef, run: &'static str) -> Result<bool, Status> {
        self.client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/IsActive");
        let mut request = Request::new(of.clone());
        request.metadata_mut().insert("x-scaler-reader", MetadataValue::from_static(run));
        let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
        self.client.unary(request, path, codec).await.map(|answer| answer.into_inner().result)
    }

    pub async fn spec(&mut self, of: &ScaledObjectRef) -> Result<MetricSpec, Status> {
        let answer = self.call("/externalscaler.ExternalScaler/GetMetricSpec", of.clone()).await;
        answer.map(|mut answer: GetMetricSpecResponse| {
            assert_eq!(answer.metric_specs.len(), 1);
            answer.metric_specs.remove(0)
        })
    }

    /// The whole number and the fraction, as KEDA asks for them: by the name of the specification.
    pub async fn values(&mut self, of: &ScaledObjectRef) -> Result<(i64, f64), Status> {
        let metric_name = self.spec(of).await?.metric_name;
        self.named_values(of, &metric_name).await
    }

    pub async fn named_values(&mut self, of: &ScaledObjectRef, name: &str) -> Result<(i64, f64), Status> {
        let request = GetMetricsRequest { scaled_object_ref: Some(of.clone()), metric_name: name.to_owned() };
        let answer = self.call("/externalscaler.ExternalScaler/GetMetrics", request).await;
        answer.map(|answer: GetMetricsResponse| {
            assert_eq!(answer.metric_values.len(), 1);
            assert_eq!(answer.metric_values[0].metric_name, name);
            (answer.metric_values[0].metric_value, answer.metric_values[0].metric_value_float)
        })
    }

    pub async fn value(&mut self, of: &ScaledObjectRef) -> f64 {
        self.values(of).await.unwrap().1
    }

    pub async fn stream(&mut self, of: &ScaledObjectRef) -> Streaming<IsActiveResponse> {
        self.client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
        let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
        self.client.server_streaming(Request::new(of.clone()), path, codec).await.unwrap().into_inner()
    }

    /// What a method is answered that this program does not know.
    pub async fn unknown_method(&mut self) -> Code {
        self.client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamMetricSpec");
        let codec = ProstCodec::<ScaledObjectRef, GetMetricSpecResponse>::default();
        let answer = self.client.server_streaming(Request::new(trigger("orders", &[])), path, codec).await;
        answer.expect_err("nothing is known of it").code()
    }

    /// Asks until this holds; how long that took.
    pub async fn until_active(&mut self, of: &ScaledObjectRef, expected: bool) -> Duration {
        let begun = std::time::Instant::now();
        while self.is_active(of).await.ok() != Some(expected) {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until it is {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}

fn plain() -> ClientConfig {
    tls_client(rustls::RootCertStore::empty()).with_no_client_auth()
}

pub fn tls_client(
    roots: rustls::RootCertStore,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}
