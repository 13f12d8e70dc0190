//! The four calls of KEDA's contract, over gRPC.
//!
//! Contract: a mistake in the metadata is `INVALID_ARGUMENT`, what no rule allows `PERMISSION_DENIED`, what is not known `UNAVAILABLE`:
//! on an error KEDA leaves the replicas as they are. `StreamIsActive` says at its beginning what holds, and then only what changes: each
//! `true` postpones KEDA's scaling to zero. At the end of the process it ends without an error, so that KEDA comes back at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::answers::{Answers, Asked, Followed, Refusal};
use super::externalscaler::external_scaler_server::ExternalScaler;
use super::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::table_view::TableView;
use crate::telemetry::metrics::ScalerMetrics;

/// More streams are not opened: one for each trigger of each ScaledObject.
const MOST_STREAMS: usize = 20_000;

/// How often a stream looks although nothing was shown: what is known grows old, and lag grows.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The service.
pub(super) struct ScalerService {
    answers: Arc<Answers>,
    metrics: ScalerMetrics,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

impl ScalerService {
    pub(super) fn new(answers: Arc<Answers>, metrics: ScalerMetrics, stop: CancellationToken) -> Self {
        Self { answers, metrics, streams: Arc::new(Semaphore::new(MOST_STREAMS)), stop }
    }

    fn answered<T>(&self, method: &'static str, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = answer.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        self.metrics.answered(method, &format!("{code:?}"));
        answer.map(Response::new)
    }

    fn open(&self, reference: &ScaledObjectRef) -> Result<IsActiveStream, Status> {
        let followed = self.answers.follow(asked(reference)).map_err(|refusal| status(&refusal))?;
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!("{MOST_STREAMS} streams are open already")));
        };
        self.metrics.stream_opened(true);
        let (view, stop) = (followed.view(), self.stop.clone());
        let open = OpenStream { followed, view, sent: None, stop, metrics: self.metrics.clone(), _permit: permit };
        Ok(Box::pin(unfold(open, |mut open| async move {
            let is_active = open.next().await?;
            Some((Ok(IsActiveResponse { result: is_active }), open))
        })))
    }
}

type IsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for ScalerService {
    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let load = self.answers.load(asked(request.get_ref()), None).await;
        let answer = load.map(|load| IsActiveResponse { result: load.is_active });
        self.answered("IsActive", answer.map_err(|refusal| status(&refusal)))
    }

    type StreamIsActiveStream = IsActiveStream;

    async fn stream_is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveStream>, Status> {
        self.answered("StreamIsActive", self.open(request.get_ref()))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let specification = self.answers.specification(asked(request.get_ref()));
        let answer = specification.map(|(metric_name, target)| {
            // KEDA before 2.17 knows whole numbers only.
            let spec = MetricSpec { metric_name, target_size: target.ceil() as i64, target_size_float: target };
            GetMetricSpecResponse { metric_specs: vec![spec] }
        });
        self.answered("GetMetricSpec", answer.map_err(|refusal| status(&refusal)))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let reference = scaled_object_ref.unwrap_or_default();
        let load = self.answers.load(asked(&reference), Some(&metric_name)).await;
        let answer = load.map(|load| {
            // A fraction of zero makes KEDA read the whole number.
            let value = load.value;
            let value = MetricValue { metric_name, metric_value: value.ceil() as i64, metric_value_float: value };
            GetMetricsResponse { metric_values: vec![value] }
        });
        self.answered("GetMetrics", answer.map_err(|refusal| status(&refusal)))
    }
}

/// One `StreamIsActive`.
struct OpenStream {
    followed: Followed,
    view: watch::Receiver<TableView>,
    sent: Option<bool>,
    stop: CancellationToken,
    metrics: ScalerMetrics,
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    /// What holds now, if it was not said before, else what holds next; none at the end of the process.
    async fn next(&mut self) -> Option<bool> {
        loop {
            self.view.mark_unchanged();
            // KEDA opens it anew, of a watch that goes on.
            if self.followed.has_ended() {
                return None;
            }
            // What is not known is nothing to say.
            if let Ok(load) = self.followed.load()
                && self.sent != Some(load.is_active)
            {
                self.sent = Some(load.is_active);
                return self.sent.filter(|_| !self.stop.is_cancelled());
            }
            select! {
                () = self.stop.cancelled() => return None,
                () = self.followed.changed(&mut self.view) => {}
                () = sleep_until(Instant::now() + LOOK_INTERVAL) => {}
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.stream_opened(false);
    }
}

fn asked(reference: &ScaledObjectRef) -> Asked<'_> {
    Asked { namespace: &reference.namespace, name: &reference.name, metadata: &reference.scaler_metadata }
}

fn status(refusal: &Refusal) -> Status {
    let why = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) | Refusal::OtherMetric(_) => Status::invalid_argument(why),
        Refusal::NotAllowed(_) => Status::permission_denied(why),
        Refusal::TooMany(_) | Refusal::TooManyGroups(_) => Status::resource_exhausted(why),
        Refusal::Unknown(_) => Status::unavailable(why),
    }
}
