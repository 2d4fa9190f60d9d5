//! A host's connection to the region, over the simulated network: the real gateway's routes, called
//! in the same process, with frames and reports that are delayed, lost, doubled and late.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cloud_types::HostId;
use control_plane::gateway::PeerHost;
use futures::StreamExt;
use futures::stream::BoxStream;
use host_agent::BoxFuture;
use host_agent::image_cache::ImageError;
use host_agent::link::{ControlPlane, Gateways, LinkError};
use host_protocol::{Frame, HostAnswer, Position, ReportResults, Reports};
use http::{Request, Response};
use tower::ServiceExt;

use crate::network::{Dice, Life};
use crate::replica::{self, Replica};
use crate::world::Region;

/// Frames of a host that may come again, late.
const REMEMBERED: usize = 40;

/// Frames that a host had before, of the lineage that it follows: a connection never carries those
/// of another.
#[derive(Default)]
pub struct Earlier {
    lineage: String,
    frames: VecDeque<Frame>,
}

/// The connection.
pub struct SimulatedLink {
    /// The host's name, `host-N`.
    pub name: String,
    /// The host.
    pub id: HostId,
    /// Whether the agent lives.
    pub life: Arc<Life>,
    /// The replicas.
    pub region: Region,
    /// For delays and losses.
    pub dice: Dice,
    /// Frames that it had before; they outlive the agent, as what is still under way does.
    pub earlier: Arc<Mutex<Earlier>>,
    /// Which replica it uses.
    pub gateways: Gateways,
}

/// How long a host waits for one answer, and for the beginning of a stream, where there is another
/// gateway to try.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3));

fn unreachable(why: &str) -> LinkError {
    LinkError::Unreachable(why.to_owned())
}

impl SimulatedLink {
    /// Some way through the network; now and then a long one.
    async fn travel(&self) {
        let most = if self.dice.chance(10) { 2000 } else { 8 };
        let wait = self.dice.up_to(Duration::from_millis(most));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.life.go_on().await;
    }

    /// The replica at the other end, if it can be reached now.
    fn reach(&self, number: usize) -> Result<Arc<Replica>, LinkError> {
        let replica = self.region.replica(number).ok_or_else(|| unreachable("it is down"))?;
        if self.region.partitions.are_apart(&self.name, &replica.name) {
            return Err(unreachable("the network is cut"));
        }
        Ok(replica)
    }

    /// The replica that the host has chosen.
    fn current(&self) -> usize {
        let url = self.gateways.current();
        (0..self.region.count()).find(|at| replica::gateway_url(*at) == url).unwrap_or_default()
    }

    async fn call(
        &self,
        (replica, patience): (&Replica, Duration),
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, LinkError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(PeerHost(Some(self.id)))
            .body(Body::from(body))
            .map_err(|error| LinkError::Protocol(error.to_string()))?;
        let answer = tokio::select! {
            answer = async {
                replica.life.go_on().await;
                let answer = replica.gateway.clone().oneshot(request).await;
                replica.life.go_on().await;
                answer
            } => answer,
            () = replica.life.ended() => return Err(unreachable("the connection was reset")),
            () = tokio::time::sleep(patience) => {
                return Err(unreachable("no answer in time"));
            }
        };
        answer.map_err(|error| LinkError::Protocol(error.to_string()))
    }

    async fn read(answer: Response<Body>) -> Result<Vec<u8>, LinkError> {
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 32 << 20)
            .await
            .map_err(|error| unreachable(&error.to_string()))?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let message = String::from_utf8_lossy(&bytes).chars().take(200).collect();
        Err(LinkError::Refused { status: status.as_u16(), message })
    }

    async fn send(&self, number: usize, reports: &Reports) -> Result<ReportResults, LinkError> {
        let replica = self.reach(number)?;
        let body =
            serde_json::to_vec(reports).map_err(|error| LinkError::Protocol(error.to_string()))?;
        let to = (&*replica, PATIENCE.0);
        let answer = self.call(to, "POST", "/host/v1/reports", body).await?;
        let taken = answer.status().is_success();
        if taken && reports.lineage != self.region.common.db.lineage() {
            self.region.ledger.broken(
                "report",
                &self.name,
                "reports that follow another lineage of the database were taken",
            );
        }
        let answer = Self::read(answer).await?;
        serde_json::from_slice(&answer).map_err(|error| LinkError::Protocol(error.to_string()))
    }

    async fn open(
        self: Arc<Self>,
        lineage: Option<String>,
        position: Position,
    ) -> Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError> {
        self.travel().await;
        let replica = self.reach(self.current())?;
        let mut path = format!("/host/v1/documents?position={position}");
        if let Some(lineage) = lineage {
            path.push_str(&format!("&lineage={lineage}"));
        }
        let answer = self.call((&replica, PATIENCE.1), "GET", &path, Vec::new()).await?;
        if !answer.status().is_success() {
            Self::read(answer).await?;
            return Err(LinkError::Protocol("a stream without a body".to_owned()));
        }
        self.travel().await;
        self.region.trace.say(format_args!("{} follows {}", self.name, replica.name));
        let state = Open {
            link: self,
            replica,
            body: answer.into_body().into_data_stream(),
            waiting: VecDeque::new(),
        };
        Ok(futures::stream::unfold(state, |mut state| async move {
            let frame = state.next().await?;
            Some((frame, state))
        })
        .boxed())
    }
}

/// An open stream.
struct Open {
    link: Arc<SimulatedLink>,
    replica: Arc<Replica>,
    body: axum::body::BodyDataStream,
    waiting: VecDeque<Frame>,
}

impl Open {
    async fn next(&mut self) -> Option<Result<Frame, LinkError>> {
        if let Some(frame) = self.waiting.pop_front() {
            return Some(Ok(frame));
        }
        let bytes = tokio::select! {
            bytes = self.body.next() => bytes?,
            () = self.replica.life.ended() => {
                return Some(Err(unreachable("the connection was reset")));
            }
        };
        // While the network is cut nothing arrives, nor from a process that stands still; the host
        // gives the connection up by itself.
        self.replica.life.go_on().await;
        self.link.region.partitions.together(&self.link.name, &self.replica.name).await;
        self.link.travel().await;
        let frame: Result<Frame, LinkError> = bytes
            .map_err(|error| unreachable(&error.to_string()))
            .and_then(|bytes| read_frame(&bytes));
        if let Ok(Frame::Welcome { lineage, .. }) = &frame {
            let mut earlier = self.link.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            if earlier.lineage != *lineage {
                *earlier = Earlier { lineage: lineage.clone(), frames: VecDeque::new() };
            }
        }
        if let Ok(frame @ Frame::Document(document)) = &frame {
            self.link.region.trace.say(format_args!(
                "{} is told {} {} generation {} epoch {}{}",
                self.link.name,
                document.kind,
                document.id,
                document.generation,
                document.epoch,
                if document.tombstone { ", a tombstone" } else { "" }
            ));
            self.late_copy(frame);
        }
        Some(frame)
    }

    /// What was under way for long arrives now, after what is newer.
    fn late_copy(&mut self, frame: &Frame) {
        let mut earlier = self.link.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if self.link.dice.chance(60) && !earlier.frames.is_empty() {
            let at = self.link.dice.below(earlier.frames.len());
            self.waiting.extend(earlier.frames.get(at).cloned());
        }
        if earlier.frames.len() == REMEMBERED {
            earlier.frames.pop_front();
        }
        earlier.frames.push_back(frame.clone());
    }
}

fn read_frame(line: &Bytes) -> Result<Frame, LinkError> {
    serde_json::from_slice(line).map_err(|error| LinkError::Protocol(error.to_string()))
}

/// The link as the agent holds it.
pub struct Held(pub Arc<SimulatedLink>);

impl ControlPlane for Held {
    fn gateways(&self) -> Option<&Gateways> {
        Some(&self.0.gateways)
    }

    fn documents(
        &self,
        lineage: Option<String>,
        position: Position,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError>> {
        Box::pin(self.0.clone().open(lineage, position))
    }

    fn report<'a>(
        &'a self,
        reports: &'a Reports,
    ) -> BoxFuture<'a, Result<ReportResults, LinkError>> {
        Box::pin(async move {
            let link = &self.0;
            link.travel().await;
            if link.dice.chance(15) {
                return Err(unreachable("the reports were lost"));
            }
            let number = link.current();
            for report in &reports.reports {
                link.region.trace.say(format_args!(
                    "{} reports {} {} generation {} {}{}",
                    link.name,
                    report.kind,
                    report.id,
                    report.generation,
                    report.state.as_str(),
                    match (&report.error, report.facts["power_state"].as_str()) {
                        (Some(error), _) => format!(": {}", error.code),
                        (None, Some(power)) => format!(": {power}"),
                        (None, None) => String::new(),
                    }
                ));
            }
            if link.dice.chance(20) {
                // A copy takes a long way, and comes after what is newer.
                let (late, reports) = (link.clone(), reports.clone());
                let wait = link.dice.up_to(Duration::from_secs(60));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let number = late.dice.below(late.region.count());
                    // Whoever sent it has its answer already.
                    let _ = late.send(number, &reports).await;
                });
            }
            let answer = link.send(number, reports).await;
            link.travel().await;
            if link.dice.chance(15) {
                return Err(unreachable("the answer was lost"));
            }
            answer
        })
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        answer: &'a HostAnswer,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        Box::pin(async move {
            let link = &self.0;
            link.travel().await;
            let replica = link.reach(link.current())?;
            let body = serde_json::to_vec(answer)
                .map_err(|error| LinkError::Protocol(error.to_string()))?;
            let path = format!("/host/v1/answers/{id}");
            let to = (&*replica, PATIENCE.0);
            SimulatedLink::read(link.call(to, "POST", &path, body).await?).await?;
            Ok(())
        })
    }

    fn image<'a>(
        &'a self,
        image_id: &'a str,
        _offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        // The machine plays its images; nothing asks for their bytes.
        let image_id = image_id.to_owned();
        let why = "images are not fetched in a simulation".to_owned();
        Box::pin(async move { Err(ImageError::Unreachable { image_id, why }) })
    }
}
