//! The four calls of KEDA's contract, over gRPC.
//!
//! Contract: a mistake in the metadata is `INVALID_ARGUMENT`, what no rule allows `PERMISSION_DENIED`, what is not known `UNAVAILABLE`:
//! on an error KEDA leaves the replicas as they are. Of several replicas of the scaler the one that reads answers: the others judge
//! triggers by their rules too, and pass calls on to it. While nobody reads a call waits, and then ends in `UNAVAILABLE`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::activity_stream::{ActivityStream, Source};
use super::answers::{Answers, DEADLINE, Refusal};
use super::calls::{asked, passed_on_to, signed, status};
use super::externalscaler::external_scaler_server::ExternalScaler;
use super::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::reader_client::{NoAnswer, ReaderClient};
use super::standing::{CurrentStanding, OtherReader, Reading, Standing};
use super::tables::NotWatched;
use crate::telemetry::metrics::ScalerMetrics;

/// More streams are not opened: one for each trigger of each ScaledObject.
const MOST_STREAMS: usize = 20_000;

/// So much of the time for an answer is left to the replica that has passed the call on.
const PASSING: Duration = Duration::from_millis(500);

/// The service.
pub(super) struct ScalerService {
    answers: Arc<Answers>,
    standing: CurrentStanding,
    reader: Arc<ReaderClient>,
    metrics: ScalerMetrics,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

impl ScalerService {
    /// When `stop` is cancelled streams end, and calls wait no longer.
    pub(super) fn new(
        answers: Arc<Answers>,
        standing: CurrentStanding,
        reader: ReaderClient,
        metrics: ScalerMetrics,
        stop: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MOST_STREAMS));
        Self { answers, standing, reader: Arc::new(reader), metrics, streams, stop }
    }

    fn answered<T>(&self, method: &'static str, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = answer.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        self.metrics.answered(method, &format!("{code:?}"));
        answer.map(Response::new)
    }

    /// The answer of the replica that reads: `own` within the patience that it is given, or what `other` is told before a moment. `only`: the run
    /// of a process for which another replica has passed the call on.
    async fn by_reader<T, O, P>(
        &self,
        only: Option<&str>,
        own: impl Fn(Duration) -> O,
        other: impl Fn(OtherReader, Instant) -> P,
    ) -> Result<T, Status>
    where
        O: Future<Output = Result<T, Refusal>>,
        P: Future<Output = Result<T, NoAnswer>>,
    {
        let (deadline, mut standing) = (Instant::now() + DEADLINE, self.standing.clone());
        loop {
            let now = standing.borrow_and_update().clone();
            let why = match now {
                Standing::Alone if only.is_none() => return own(DEADLINE).await.map_err(|refusal| status(&refusal)),
                Standing::Reader(reading) if reading.lasts() && reading.is_meant_by(only) => {
                    let patience = if only.is_some() { DEADLINE - PASSING } else { DEADLINE };
                    match answer_while_reading(&reading, own(patience)).await {
                        Some(answer) => return answer,
                        None => "its lease has ended".to_owned(),
                    }
                }
                _ if only.is_some() => return Err(Status::unavailable("this replica of the scaler does not read")),
                Standing::Other(reader) => match other(reader, deadline).await {
                    Ok(answer) => return Ok(answer),
                    Err(NoAnswer::Refused(status)) => return Err(status),
                    Err(NoAnswer::Unreachable(why)) => why,
                },
                Standing::Alone | Standing::Reader(_) => "the lease was not renewed in time".to_owned(),
                Standing::Nobody(why) => why,
            };
            let changed = self.stop.run_until_cancelled(timeout_at(deadline, standing.changed())).await;
            if !matches!(changed, Some(Ok(Ok(())))) {
                self.reader.report(&why);
                return Err(Status::unavailable(format!("no replica of the scaler answers: {why}")));
            }
        }
    }

    async fn activity(&self, request: Request<ScaledObjectRef>) -> Result<IsActiveResponse, Status> {
        let only = passed_on_to(&request);
        let of = request.get_ref();
        let permitted = &self.answers.permit(asked(of)).map_err(|refusal| self.refused(&refusal))?;
        let own = |patience| async move {
            Ok(IsActiveResponse { result: self.answers.is_active(permitted, patience).await? })
        };
        let other = |reader, deadline| async move { self.reader.is_active(&reader, of.clone(), deadline).await };
        self.by_reader(only.as_deref(), own, other).await
    }

    async fn values(&self, request: Request<GetMetricsRequest>) -> Result<GetMetricsResponse, Status> {
        let only = passed_on_to(&request);
        let of = request.get_ref();
        let reference = of.scaled_object_ref.clone().unwrap_or_default();
        let permitted = self.answers.permit_metric(asked(&reference), &of.metric_name);
        let permitted = &permitted.map_err(|refusal| self.refused(&refusal))?;
        let own = |patience| async move {
            let value = self.answers.value(permitted, patience).await?;
            // A fraction of zero makes KEDA read the whole number.
            let metric_name = of.metric_name.clone();
            let value = MetricValue { metric_name, metric_value: value.ceil() as i64, metric_value_float: value };
            Ok(GetMetricsResponse { metric_values: vec![value] })
        };
        let other = |reader, deadline| async move { self.reader.metrics(&reader, of.clone(), deadline).await };
        self.by_reader(only.as_deref(), own, other).await
    }

    /// What is refused by this replica's own rules.
    fn refused(&self, refusal: &Refusal) -> Status {
        match &*self.standing.borrow() {
            Standing::Reader(reading) => signed(status(refusal), &reading.owner),
            _ => status(refusal),
        }
    }

    fn open(&self, request: Request<ScaledObjectRef>) -> Result<IsActiveStream, Status> {
        let only = passed_on_to(&request);
        let of = request.into_inner();
        let permitted = self.answers.permit(asked(&of)).map_err(|refusal| self.refused(&refusal))?;
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!("{MOST_STREAMS} streams are open already")));
        };
        let stream = ActivityStream {
            answers: self.answers.clone(),
            reader: self.reader.clone(),
            standing: self.standing.clone(),
            stop: self.stop.clone(),
            of,
            permitted,
            only,
            source: Source::NotYet,
        };
        let open = OpenStream::new(stream, self.metrics.clone(), permit);
        Ok(Box::pin(unfold(open, |mut open| async move {
            let is_active = open.stream.next().await?;
            Some((is_active.map(|result| IsActiveResponse { result }), open))
        })))
    }
}

/// What this replica answers; none if its time as the one that reads has ended before.
async fn answer_while_reading<T>(
    reading: &Reading,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Option<Result<T, Status>> {
    match reading.outlasts(answer).await? {
        Err(Refusal::NotWatched(NotWatched::NotReading)) => None,
        answer => Some(answer.map_err(|refusal| signed(status(&refusal), &reading.owner))),
    }
}

type IsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for ScalerService {
    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let answer = self.activity(request).await;
        self.answered("IsActive", answer)
    }

    type StreamIsActiveStream = IsActiveStream;

    async fn stream_is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveStream>, Status> {
        self.answered("StreamIsActive", self.open(request))
    }

    /// It is made of the metadata alone: each replica gives the same.
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
        let answer = self.values(request).await;
        self.answered("GetMetrics", answer)
    }
}

/// A stream that is counted while it is open.
struct OpenStream {
    stream: ActivityStream,
    metrics: ScalerMetrics,
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    fn new(stream: ActivityStream, metrics: ScalerMetrics, permit: OwnedSemaphorePermit) -> Self {
        metrics.stream_opened(true);
        Self { stream, metrics, _permit: permit }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.stream_opened(false);
    }
}
