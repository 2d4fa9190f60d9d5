//! What a client would notice between a recorded answer and this cloud's.

use std::fmt;

use serde_json::{Value, json};

use super::Recorded;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `GROUP: NAME` of the request.
    pub request: String,
    /// `status`, `header NAME`, or a pointer into the body with `*` for list positions.
    pub place: String,
    /// `missing` (here), `extra` (here), `type`, `length` or `value`.
    pub kind: &'static str,
    /// What was recorded.
    pub recorded: String,
    /// What this cloud answers.
    pub here: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { request, place, kind, recorded, here } = self;
        write!(f, "{request} | {place} | {kind} | recorded {recorded} | here {here}")
    }
}

/// Everything that differs. With `shapes`, lists are compared by the shape of their elements.
pub fn compare(
    request: &str,
    recorded: &Recorded,
    here: &Recorded,
    shapes: bool,
) -> Vec<Difference> {
    let error = recorded.status >= 400;
    let mut found = Comparison { request, shapes, error, differences: Vec::new() };
    if recorded.status != here.status {
        // What a different status says is not worth comparing word by word.
        found.differ("status", "value", &recorded.status.into(), &here.status.into());
        if (recorded.status >= 400) != (here.status >= 400) {
            return found.differences;
        }
    }
    found.headers(recorded, here);
    found.values("", &recorded.body, &here.body);
    let mut differences = found.differences;
    differences.dedup();
    differences
}

struct Comparison<'c> {
    request: &'c str,
    shapes: bool,
    error: bool,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn differ(&mut self, place: &str, kind: &'static str, recorded: &Value, here: &Value) {
        let short = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(160) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        self.differences.push(Difference {
            request: self.request.to_owned(),
            place: place.to_owned(),
            kind,
            recorded: short(recorded),
            here: short(here),
        });
    }

    fn headers(&mut self, recorded: &Recorded, here: &Recorded) {
        let mut names: Vec<_> = recorded.headers.keys().chain(here.headers.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let place = format!("header {name}");
            let text = |text: &String| Value::String(text.clone());
            match (recorded.headers.get(name), here.headers.get(name)) {
                (Some(old), None) => self.differ(&place, "missing", &text(old), &Value::Null),
                (None, Some(new)) => self.differ(&place, "extra", &Value::Null, &text(new)),
                (Some(old), Some(new)) if !same_header(name, old, new) => {
                    self.differ(&place, "value", &text(old), &text(new));
                }
                _ => {}
            }
        }
    }

    fn values(&mut self, place: &str, recorded: &Value, here: &Value) {
        match (recorded, here) {
            (Value::Object(old), Value::Object(new)) => {
                for (key, value) in old {
                    let place = format!("{place}/{key}");
                    match new.get(key) {
                        Some(other) => self.values(&place, value, other),
                        None => self.differ(&place, "missing", value, &Value::Null),
                    }
                }
                for (key, value) in new {
                    if !old.contains_key(key) {
                        self.differ(&format!("{place}/{key}"), "extra", &Value::Null, value);
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                let place = format!("{place}/*");
                if self.shapes {
                    if old.is_empty() != new.is_empty() {
                        self.differ(&place, "length", &old.len().into(), &new.len().into());
                    }
                    let old: Vec<_> = old.iter().collect();
                    for value in new {
                        self.shape(&place, &old, value);
                    }
                } else if let Some(key) = identifying_key(old, new) {
                    self.matched(&place, key, old, new);
                } else if only_texts(old) && only_texts(new) {
                    let sorted = |list: &[Value]| {
                        let mut texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                        texts.sort_unstable();
                        json!(texts)
                    };
                    let (old, new) = (sorted(old), sorted(new));
                    if old != new {
                        self.differ(&place, "value", &old, &new);
                    }
                } else {
                    if old.len() != new.len() {
                        self.differ(&place, "length", recorded, here);
                    }
                    for (value, other) in old.iter().zip(new) {
                        self.values(&place, value, other);
                    }
                }
            }
            _ if kind(recorded) != kind(here) => self.differ(place, "type", recorded, here),
            (Value::String(_), _) if self.error && is_prose(place) => {}
            _ if recorded != here => self.differ(place, "value", recorded, here),
            _ => {}
        }
    }

    /// Lists whose elements have a key of their own: their order does not matter.
    fn matched(&mut self, place: &str, key: &str, recorded: &[Value], here: &[Value]) {
        for old in recorded {
            match here.iter().find(|new| new[key] == old[key]) {
                Some(new) => self.values(place, old, new),
                None => self.differ(place, "missing", old, &Value::Null),
            }
        }
        for new in here {
            if !recorded.iter().any(|old| old[key] == new[key]) {
                self.differ(place, "extra", &Value::Null, new);
            }
        }
    }

    /// Whether `here` could be one of `recorded`: the same keys, types and formats.
    fn shape(&mut self, place: &str, recorded: &[&Value], here: &Value) {
        let alike: Vec<_> =
            recorded.iter().copied().filter(|old| kind(old) == kind(here)).collect();
        let Some(&first) = alike.first() else {
            if let Some(old) = recorded.first() {
                self.differ(place, "type", old, here);
            }
            return;
        };
        match here {
            Value::Object(new) => {
                let maps: Vec<_> = alike.iter().filter_map(|old| old.as_object()).collect();
                for key in maps.iter().flat_map(|old| old.keys()) {
                    if !new.contains_key(key) && maps.iter().all(|old| old.contains_key(key)) {
                        let place = format!("{place}/{key}");
                        if !self.differences.iter().any(|known| known.place == place) {
                            self.differ(&place, "missing", &first[key], &Value::Null);
                        }
                    }
                }
                for (key, value) in new {
                    let place = format!("{place}/{key}");
                    let old: Vec<_> = maps.iter().filter_map(|old| old.get(key)).collect();
                    if old.is_empty() {
                        self.differ(&place, "extra", &Value::Null, value);
                    } else {
                        self.shape(&place, &old, value);
                    }
                }
            }
            Value::Array(new) => {
                let old: Vec<_> = alike.iter().filter_map(|old| old.as_array()).flatten().collect();
                if !old.is_empty() {
                    for value in new {
                        self.shape(&format!("{place}/*"), &old, value);
                    }
                }
            }
            Value::String(new) => {
                let formatted = |text: &str| text.starts_with(['<', '{']);
                let old: Vec<_> = alike.iter().filter_map(|old| old.as_str()).collect();
                if old.iter().all(|old| formatted(old)) && !old.iter().any(|old| similar(old, new))
                {
                    self.differ(place, "value", first, here);
                }
            }
            _ => {}
        }
    }
}

/// Whether two texts have one format: what `{name}` a link or an id has does not matter in a list.
fn similar(recorded: &str, here: &str) -> bool {
    let format = |text: &str| match text.split_once('}') {
        Some((_, "")) => "<an id>".to_owned(),
        Some(_) => "<a link>".to_owned(),
        None if ["<uuid>", "req-<uuid>", "<32 hex digits>"].contains(&text) => "<an id>".to_owned(),
        None => text.to_owned(),
    };
    recorded == here || format(recorded) == format(here)
}

/// The key by which the elements of both lists can be told apart.
fn identifying_key(recorded: &[Value], here: &[Value]) -> Option<&'static str> {
    let tells = |key: &str, list: &[Value]| {
        let mut seen: Vec<&str> = list.iter().filter_map(|item| item.get(key)?.as_str()).collect();
        let plain = seen.iter().all(|text| !text.starts_with('<'));
        seen.sort_unstable();
        seen.dedup();
        plain && seen.len() == list.len()
    };
    if recorded.len().max(here.len()) < 2 {
        return None;
    }
    ["type", "interface", "id", "name", "rel"]
        .into_iter()
        .find(|key| tells(key, recorded) && tells(key, here))
}

fn only_texts(list: &[Value]) -> bool {
    list.iter().all(Value::is_string)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "fraction",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Words for people in a fault, which every cloud chooses for itself; a body of text is one.
fn is_prose(place: &str) -> bool {
    place.is_empty()
        || ["/message", "/detail", "/faultstring"].iter().any(|end| place.ends_with(end))
}

fn same_header(name: &str, recorded: &str, here: &str) -> bool {
    match name {
        // Whether the characters' encoding is named changes nothing for JSON.
        "content-type" => recorded.split(';').next() == here.split(';').next(),
        "vary" | "allow" => words(recorded) == words(here),
        _ => recorded == here,
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<_> = text.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: Value) -> Recorded {
        Recorded { status, headers: Default::default(), body }
    }

    fn places(recorded: Value, here: Value, shapes: bool) -> Vec<(String, &'static str)> {
        compare("x", &answer(200, recorded), &answer(200, here), shapes)
            .into_iter()
            .map(|difference| (difference.place, difference.kind))
            .collect()
    }

    #[test]
    fn keys_types_nulls_and_values_are_noticed() {
        let recorded = json!({"a": 1, "b": null, "c": {"d": "<uuid>"}, "e": [1]});
        assert_eq!(places(recorded.clone(), recorded.clone(), false), []);
        let here = json!({"b": "", "c": {"d": "<32 hex digits>", "f": 1}, "e": []});
        let found = places(recorded, here, false);
        let expected = [
            ("/a", "missing"),
            ("/b", "type"),
            ("/c/d", "value"),
            ("/c/f", "extra"),
            ("/e/*", "length"),
        ];
        assert_eq!(found, expected.map(|(place, kind)| (place.to_owned(), kind)));
    }

    #[test]
    fn shapes_of_elements_are_compared_and_not_their_values() {
        let recorded = json!([{"id": "<uuid>", "note": null}, {"id": "{net}", "note": "x"}]);
        assert_eq!(places(recorded.clone(), json!([{"id": "<uuid>", "note": "y"}]), true), []);
        let found = places(recorded, json!([{"id": "plain", "note": 1, "more": 1}]), true);
        let expected = [("/*/id", "value"), ("/*/more", "extra"), ("/*/note", "type")];
        assert_eq!(found, expected.map(|(place, kind)| (place.to_owned(), kind)));
    }

    #[test]
    fn elements_with_a_key_of_their_own_are_matched_by_it() {
        let recorded = json!([{"id": "v2", "status": "OLD"}, {"id": "v3", "status": "CURRENT"}]);
        let here = json!([{"id": "v3", "status": "OLD"}, {"id": "v4", "status": "CURRENT"}]);
        let found = places(recorded, here, false);
        let expected = [("/*", "missing"), ("/*/status", "value"), ("/*", "extra")];
        assert_eq!(found, expected.map(|(place, kind)| (place.to_owned(), kind)));
    }

    #[test]
    fn a_faults_words_may_differ_and_its_shape_may_not() {
        let recorded = answer(404, json!({"itemNotFound": {"code": 404, "message": "Gone."}}));
        let same = answer(404, json!({"itemNotFound": {"code": 404, "message": "Not there."}}));
        assert_eq!(compare("x", &recorded, &same, false), []);
        let other = answer(404, json!({"notFound": {"code": 404, "message": "Gone."}}));
        assert_eq!(compare("x", &recorded, &other, false).len(), 2);
    }
}
