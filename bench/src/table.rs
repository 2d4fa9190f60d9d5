//! What was measured, and the one table that shows it.

use std::time::Duration;

/// One line of the table.
pub struct Row {
    /// What was done.
    pub what: String,
    /// On which database, or on what else.
    pub place: String,
    /// How many clients did it at once; none where that means nothing.
    pub clients: Option<usize>,
    /// How often it was done, and how often it failed.
    pub count: (usize, usize),
    /// In how long, when the rate means something.
    pub elapsed: Option<Duration>,
    /// The middle one and the slowest of a hundred, with their unit.
    pub middle: f64,
    /// See `middle`; none for a single figure.
    pub slowest: Option<f64>,
    /// Of both.
    pub unit: &'static str,
    /// What it should be at most, in words.
    pub goal: &'static str,
}

/// Sorted samples.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// In any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Samples(times)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The sample below which `part` of all lie (the nearest rank).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn quantile(&self, part: f64) -> Duration {
        // Truncation is meant: the rank of a sorted list.
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// In milliseconds.
    pub fn millis(&self, part: f64) -> f64 {
        self.quantile(part).as_secs_f64() * 1000.0
    }
}

/// The lines in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    skipped: Vec<String>,
}

impl Table {
    /// Adds a line, and shows it at once to whoever waits.
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// Times of something that was repeated.
    pub fn times(
        &mut self,
        what: &str,
        place: &str,
        clients: Option<usize>,
        samples: &Samples,
        goal: &'static str,
    ) {
        self.add(Row {
            what: what.to_owned(),
            place: place.to_owned(),
            clients,
            count: (samples.len(), 0),
            elapsed: None,
            middle: samples.millis(0.5),
            slowest: Some(samples.millis(0.99)),
            unit: "ms",
            goal,
        });
    }

    /// Notes what could not be measured, and why.
    pub fn skip(&mut self, what: String) {
        eprintln!("NOT MEASURED: {what}");
        self.skipped.push(what);
    }

    /// Prints all.
    pub fn print(&self) {
        println!(
            "{:<42} {:<12} {:>7} {:>7} {:>8} {:>10} {:>10} {:<4} goal",
            "what", "on", "clients", "times", "per s", "p50", "p99", "unit"
        );
        for row in &self.rows {
            println!("{}", line(row));
        }
        for what in &self.skipped {
            println!("not measured: {what}");
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn line(row: &Row) -> String {
    let clients = row.clients.map_or_else(String::new, |clients| clients.to_string());
    let rate = row.elapsed.map_or_else(String::new, |elapsed| {
        format!("{:.0}", row.count.0 as f64 / elapsed.as_secs_f64())
    });
    let slowest = row.slowest.map_or_else(String::new, |slowest| format!("{slowest:.2}"));
    let failed = match row.count.1 {
        0 => String::new(),
        failed => format!("  {failed} FAILED"),
    };
    let text = format!(
        "{:<42} {:<12} {:>7} {:>7} {:>8} {:>10.2} {:>10} {:<4} {}{}",
        row.what,
        row.place,
        clients,
        row.count.0,
        rate,
        row.middle,
        slowest,
        row.unit,
        row.goal,
        failed
    );
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let samples = Samples::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.quantile(0.5), Duration::from_millis(50));
        assert_eq!(samples.quantile(0.99), Duration::from_millis(99));
        assert_eq!(Samples::new(Vec::new()).quantile(0.5), Duration::ZERO);
        let one = Samples::new(vec![Duration::from_millis(7)]);
        assert_eq!(one.quantile(0.99), Duration::from_millis(7));
    }
}
