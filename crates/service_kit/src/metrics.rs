//! Counters of this process in Prometheus' text format: requests by service, route and status,
//! their duration, and how many are under way. Other crates add theirs through
//! [`Metrics::register`].

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    service: &'static str,
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    service: &'static str,
    method: &'static str,
    route: String,
}

/// The registry and what the kit itself counts.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    duration: Family<Timed, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

fn histogram() -> Histogram {
    // Seconds; from a cached read to the request's time limit.
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A registry with the kit's own metrics.
    pub fn new() -> Self {
        let requests = Family::default();
        let duration =
            Family::<Timed, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let in_flight = Gauge::default();
        let mut registry = Registry::with_prefix("meridian");
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from the request's head to the answer's head",
            duration.clone(),
        );
        registry.register("http_requests_in_flight", "Requests under way", in_flight.clone());
        Metrics { registry: Mutex::new(registry), requests, duration, in_flight }
    }

    /// Lets another crate register its own metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// A request began; the guard's end ends it.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request was answered. `route` is a template, never what the caller wrote: labels are
    /// memory.
    pub(crate) fn answered(
        &self,
        service: &'static str,
        method: &http::Method,
        route: &str,
        status: u16,
        took: Duration,
    ) {
        let method = known_method(method);
        self.requests
            .get_or_create(&Answered { service, method, route: route.to_owned(), status })
            .inc();
        self.duration
            .get_or_create(&Timed { service, method, route: route.to_owned() })
            .observe(took.as_secs_f64());
    }

    /// Everything, in OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}

fn known_method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request as under way until it is dropped.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
