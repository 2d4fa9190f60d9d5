//! Paging by key: a page begins after a marker, has a limit, and links to the next one. Lists
//! never return more than [`MAX_LIMIT`] rows.

use cloud_types::Fault;
use serde_json::{Value, json};

use crate::filters::{Filters, encode};

/// The most rows in one page; also the page size where the caller names none.
pub const MAX_LIMIT: u32 = 1000;

/// The direction of a sort key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

impl Direction {
    /// `ASC` or `DESC`.
    pub const fn sql(self) -> &'static str {
        match self {
            Direction::Ascending => "ASC",
            Direction::Descending => "DESC",
        }
    }

    /// The other direction.
    pub const fn reversed(self) -> Direction {
        match self {
            Direction::Ascending => Direction::Descending,
            Direction::Descending => Direction::Ascending,
        }
    }
}

/// What the caller asked of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many rows; `None` when the caller did not say. Use [`PageRequest::rows`].
    pub limit: Option<u32>,
    /// The id after which the page begins.
    pub marker: Option<String>,
    /// Sort keys, most significant first; only names that the list allows.
    pub sort: Vec<(String, Direction)>,
    /// Neutron's `page_reverse`: the page before the marker.
    pub page_reverse: bool,
}

impl PageRequest {
    /// Reads `limit`, `marker`, `page_reverse`, and the three spellings of sorting:
    /// `sort_key`/`sort_dir` repeated in pairs, Glance's `sort=name:asc,size:desc`, and Keystone's
    /// `sort_key` alone. Keys that are not in `sortable` are refused.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn from_filters(filters: &Filters, sortable: &[&str]) -> Result<PageRequest, Fault> {
        let limit = match filters.get("limit") {
            None | Some("") => None,
            Some(text) => Some(text.parse::<u32>().map_err(|_| {
                Fault::bad_request("limit param must be an integer that is not negative.")
            })?),
        };
        let mut sort = Vec::new();
        let directions: Vec<&str> = filters.all("sort_dir").collect();
        for (index, key) in filters.all("sort_key").enumerate() {
            let word = directions.get(index).or(directions.last()).copied();
            sort.push((key.to_owned(), direction(word.unwrap_or("asc"))?));
        }
        for part in filters.all("sort").flat_map(|list| list.split(',')) {
            let (key, word) = part.split_once(':').unwrap_or((part, "asc"));
            sort.push((key.trim().to_owned(), direction(word.trim())?));
        }
        for (key, _) in &sort {
            if !sortable.contains(&key.as_str()) {
                let shown: String = key.chars().take(64).collect();
                return Err(Fault::bad_request(format!(
                    "Cannot sort by {shown:?}. Possible keys: {}.",
                    sortable.join(", ")
                )));
            }
        }
        Ok(PageRequest {
            limit,
            marker: filters.get("marker").filter(|text| !text.is_empty()).map(str::to_owned),
            sort,
            page_reverse: filters.flag("page_reverse")?.unwrap_or(false),
        })
    }

    /// How many rows the page may have. `limit=0` means "as many as you allow" in Neutron and
    /// Nova; services where it means none look at `limit` themselves.
    pub fn rows(&self) -> u32 {
        match self.limit {
            None | Some(0) => MAX_LIMIT,
            Some(limit) => limit.min(MAX_LIMIT),
        }
    }

    /// The number of rows to read so that the existence of a further page is known.
    pub fn rows_and_one(&self) -> i64 {
        i64::from(self.rows()) + 1
    }

    /// Cuts what was read with [`PageRequest::rows_and_one`] to the page; true when more follow.
    pub fn cut<T>(&self, rows: &mut Vec<T>) -> bool {
        let limit = self.rows() as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        more
    }
}

fn direction(word: &str) -> Result<Direction, Fault> {
    match word {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(Fault::bad_request("Unknown sort direction, must be 'desc' or 'asc'.")),
    }
}

/// The URL of the same list with another marker. `url` has no query.
pub fn with_marker(url: &str, filters: &Filters, marker: &str, reverse: bool) -> String {
    let mut query: Vec<String> = filters
        .0
        .iter()
        .filter(|(key, _)| key != "marker" && key != "page_reverse")
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect();
    query.push(format!("marker={}", encode(marker)));
    if reverse {
        query.push("page_reverse=True".to_owned());
    }
    format!("{url}?{}", query.join("&"))
}

/// `url` with the query string that the client sent: what a list of Keystone calls itself.
pub fn with_query(url: &str, filters: &Filters) -> String {
    let query: Vec<String> =
        filters.0.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    if query.is_empty() { url.to_owned() } else { format!("{url}?{}", query.join("&")) }
}

/// Nova's and Neutron's `<resource>_links`: `next` when more rows follow and, for Neutron,
/// `previous` when the page began after a marker. Empty when there is nothing to link to.
pub fn links(
    url: &str,
    filters: &Filters,
    first: Option<&str>,
    last: Option<&str>,
    more: bool,
    with_previous: bool,
) -> Vec<Value> {
    let mut links = Vec::new();
    if let (true, Some(last)) = (more, last) {
        links.push(json!({"rel": "next", "href": with_marker(url, filters, last, false)}));
    }
    if let (true, true, Some(first)) = (with_previous, filters.has("marker"), first) {
        links.push(json!({"rel": "previous", "href": with_marker(url, filters, first, true)}));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Result<PageRequest, Fault> {
        PageRequest::from_filters(&Filters::parse(query).unwrap(), &["name", "size"])
    }

    #[test]
    fn three_spellings_of_sorting_are_read() {
        let down = Direction::Descending;
        let up = Direction::Ascending;
        assert_eq!(
            request("sort_key=name&sort_dir=desc&sort_key=size&sort_dir=asc").unwrap().sort,
            [("name".to_owned(), down), ("size".to_owned(), up)]
        );
        assert_eq!(
            request("sort=size:desc,name").unwrap().sort,
            [("size".to_owned(), down), ("name".to_owned(), up)]
        );
        assert!(request("sort_key=secret").is_err());
        assert!(request("sort_key=name&sort_dir=up").is_err());
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(request("").unwrap().rows(), MAX_LIMIT);
        assert_eq!(request("limit=5").unwrap().rows(), 5);
        assert_eq!(request("limit=5000").unwrap().rows(), MAX_LIMIT);
        assert!(request("limit=-1").is_err());
        assert!(request("limit=many").is_err());
        let page = request("limit=2").unwrap();
        let mut rows = vec![1, 2, 3];
        assert!(page.cut(&mut rows));
        assert_eq!(rows, [1, 2]);
    }

    #[test]
    fn links_keep_the_rest_of_the_query() {
        let filters = Filters::parse("limit=2&marker=a&status=x%20y").unwrap();
        let links = links("http://h/v2.0/ports", &filters, Some("b"), Some("c"), true, true);
        assert_eq!(
            links,
            [
                json!({"rel": "next",
                       "href": "http://h/v2.0/ports?limit=2&status=x%20y&marker=c"}),
                json!({"rel": "previous",
                       "href": "http://h/v2.0/ports?limit=2&status=x%20y&marker=b&page_reverse=True"}),
            ]
        );
    }
}
