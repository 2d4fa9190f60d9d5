//! Bad input, made from good input: every field of a sample body is replaced by what it must not
//! be. A service that wants its routes tried adds a sample body for each to `samples.rs`.

// Each test uses a part of it.
#![allow(dead_code)]

pub mod samples;

use serde_json::{Value, json};

/// What is done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value of another type, or of none.
    Becomes(Odd),
    /// A text that no field takes.
    TooLong,
    /// An array in an array in an array, deeper than any parser should follow.
    Deep,
    /// A text that is not UTF-8.
    NotUtf8,
    /// Half of a pair of surrogates.
    HalfSurrogate,
    /// U+0000.
    Nul,
    /// A number beyond every type.
    Huge,
    /// One attribute more than there is, in an object.
    Unknown,
    /// The field is not there.
    Missing,
}

/// A value that is of the wrong type nearly everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    Null,
    True,
    Number,
    Negative,
    Fraction,
    Empty,
    Text,
    List,
    Object,
    ListOfLists,
    ObjectInObject,
}

impl Odd {
    fn value(self) -> Value {
        match self {
            Odd::Null => Value::Null,
            Odd::True => json!(true),
            Odd::Number => json!(7),
            Odd::Negative => json!(-1),
            Odd::Fraction => json!(1.5),
            Odd::Empty => json!(""),
            Odd::Text => json!("\u{202e}../..%00'\"; --"),
            Odd::List => json!([]),
            Odd::Object => json!({}),
            Odd::ListOfLists => json!([[null], {"a": 1}]),
            Odd::ObjectInObject => json!({"a": {"b": [null]}}),
        }
    }
}

const CHANGES: [Change; 19] = [
    Change::Becomes(Odd::Null),
    Change::Becomes(Odd::True),
    Change::Becomes(Odd::Number),
    Change::Becomes(Odd::Negative),
    Change::Becomes(Odd::Fraction),
    Change::Becomes(Odd::Empty),
    Change::Becomes(Odd::Text),
    Change::Becomes(Odd::List),
    Change::Becomes(Odd::Object),
    Change::Becomes(Odd::ListOfLists),
    Change::Becomes(Odd::ObjectInObject),
    Change::TooLong,
    Change::Deep,
    Change::NotUtf8,
    Change::HalfSurrogate,
    Change::Nul,
    Change::Huge,
    Change::Unknown,
    Change::Missing,
];

/// A text that stands where something that JSON's writer refuses goes.
const MARK: &str = "here-stands-what-json-cannot-say";
/// Longer than the longest text of any service.
const TOO_LONG: usize = 70_000;
/// Deeper than serde_json follows.
const DEPTH: usize = 200;

/// A body with one thing wrong.
pub struct Bad {
    /// The field, for example `user/options/lock_password`.
    pub field: String,
    /// What was done to it.
    pub change: Change,
    /// What is sent.
    pub bytes: Vec<u8>,
}

impl Bad {
    /// Whether something stands in the place of an object, or of anything, that is an object too.
    pub fn is_another_object(&self) -> bool {
        matches!(self.change, Change::Becomes(Odd::Object | Odd::ObjectInObject))
    }

    /// Whether the body is none that a parser takes, so that no field can be named.
    pub fn is_unreadable(&self) -> bool {
        use Change::{Deep, HalfSurrogate, Huge, NotUtf8, Nul};
        matches!(self.change, Deep | NotUtf8 | HalfSurrogate | Nul | Huge)
    }
}

/// Every field of the sample with everything that can be wrong with it.
pub fn all_bad(sample: &Value) -> Vec<Bad> {
    let mut fields = vec![String::new()];
    collect(sample, "", &mut fields);
    let mut all = Vec::new();
    for field in &fields {
        for change in CHANGES {
            all.extend(changed(sample, field, change));
        }
    }
    all
}

fn collect(value: &Value, path: &str, fields: &mut Vec<String>) {
    let mut add = |key: &str, inner: &Value| {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
        fields.push(path.clone());
        collect(inner, &path, fields);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| add(key, inner)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, inner)| add(&at.to_string(), inner));
        }
        _ => {}
    }
}

fn changed(sample: &Value, field: &str, change: Change) -> Option<Bad> {
    let mut body = sample.clone();
    let pointer = if field.is_empty() { String::new() } else { format!("/{field}") };
    let name = |field: &str| Bad { field: field.to_owned(), change, bytes: Vec::new() };
    let written = |mark: &[u8], body: &Value| {
        let text = body.to_string();
        let quoted = format!("\"{MARK}\"");
        let at = text.find(&quoted)?;
        let (before, after) = (&text[..at], &text[at + quoted.len()..]);
        Some([before.as_bytes(), mark, after.as_bytes()].concat())
    };
    let target = body.pointer_mut(&pointer)?;
    let bytes = match change {
        Change::Becomes(odd) => {
            if *target == odd.value() {
                return None;
            }
            *target = odd.value();
            body.to_string().into_bytes()
        }
        Change::TooLong => {
            *target = json!("x".repeat(TOO_LONG));
            body.to_string().into_bytes()
        }
        Change::Unknown => {
            target.as_object_mut()?.insert("no_such_attribute".into(), json!({"a": 1}));
            let field = if field.is_empty() { "no_such_attribute" } else { field };
            return Some(Bad {
                field: format!("{field}/no_such_attribute"),
                bytes: body.to_string().into_bytes(),
                ..name(field)
            });
        }
        Change::Missing => {
            let (parent, key) = pointer.rsplit_once('/')?;
            match body.pointer_mut(parent)? {
                Value::Object(map) => map.remove(key),
                _ => return None,
            };
            body.to_string().into_bytes()
        }
        Change::Deep | Change::NotUtf8 | Change::HalfSurrogate | Change::Nul | Change::Huge => {
            *target = json!(MARK);
            let mark = match change {
                Change::Deep => [vec![b'['; DEPTH], vec![b']'; DEPTH]].concat(),
                Change::NotUtf8 => b"\"x\xff\xfe\xc0y\"".to_vec(),
                Change::HalfSurrogate => b"\"x\\ud800y\"".to_vec(),
                Change::Nul => b"\"x\\u0000y\"".to_vec(),
                _ => b"1e99999".to_vec(),
            };
            written(&mark, &body)?
        }
    };
    Some(Bad { bytes, ..name(field) })
}

/// The same numbers for the same seed (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// From `FUZZ_SEED`, or one that nobody chose; printed, so that a failure can be repeated.
    pub fn new() -> Self {
        let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(rand::random::<u64>);
        println!("FUZZ_SEED={seed} repeats this run");
        Seeded(seed)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or(0)
    }

    /// So many of them, in any order.
    pub fn some<T>(&mut self, mut from: Vec<T>, count: usize) -> Vec<T> {
        let mut chosen = Vec::new();
        while chosen.len() < count && !from.is_empty() {
            let at = self.below(from.len());
            chosen.push(from.swap_remove(at));
        }
        chosen
    }
}
