//! Where one JSON text ends and the next begins: RFC 7047 puts nothing between them.
//!
//! Only brackets and strings are looked at, each octet once; whether the text is valid is for the
//! parser to say.

use bytes::{Bytes, BytesMut};

/// How deep a message may nest. RFC 7047's own shapes need ten.
const MAX_DEPTH: usize = 100;

/// Bytes in, whole JSON objects out.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    /// Octets of the buffer that have been looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    limit: usize,
    failed: Option<String>,
}

impl Frames {
    /// Refuses messages longer than `limit` octets.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            limit,
            failed: None,
        }
    }

    /// Where to read to.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether the stream may end here.
    pub fn is_between_messages(&self) -> bool {
        self.depth == 0
    }

    /// The next whole object, if it is there. An error is final: where the next object would begin
    /// cannot be known any more.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, String> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        self.scan().inspect_err(|why| self.failed = Some(why.clone()))
    }

    fn scan(&mut self) -> Result<Option<Bytes>, String> {
        while let Some(&octet) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.in_string {
                match octet {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match octet {
                b'{' | b'[' => {
                    if self.depth == 0 && octet == b'[' {
                        return Err("a message does not begin with `{`".into());
                    }
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(format!("a message is nested more than {MAX_DEPTH} deep"));
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                    let _ = self.buffer.split_to(self.scanned);
                    self.scanned = 0;
                }
                _ if self.depth == 0 => return Err("a message does not begin with `{`".into()),
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let frame = self.buffer.split_to(self.scanned).freeze();
                        self.scanned = 0;
                        return Ok(Some(frame));
                    }
                }
                _ => {}
            }
        }
        if self.buffer.len() > self.limit {
            return Err(format!("a message is longer than {} octets", self.limit));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
        let mut frames = Frames::new(100);
        let mut out = Vec::new();
        for piece in pieces {
            frames.buffer().extend_from_slice(piece);
            while let Some(frame) = frames.next_frame()? {
                out.push(String::from_utf8_lossy(&frame).into_owned());
            }
        }
        Ok(out)
    }

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let stream = br#"{"a":[1,{"b":"}]\"{\\"}]} {"c":{}}{"d":""}"#;
        let whole = vec![r#"{"a":[1,{"b":"}]\"{\\"}]}"#, r#"{"c":{}}"#, r#"{"d":""}"#];
        assert_eq!(split(&[stream]).unwrap(), whole);
        for cut in 0..stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(split(&[a, b]).unwrap(), whole, "cut at {cut}");
        }
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(split(&octets).unwrap(), whole);
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        for bad in [&b"["[..], b"null", b"}", b"\"", b"{} 1"] {
            assert!(split(&[bad]).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(split(&["{\"a\":".repeat(200).as_bytes()]).unwrap_err().contains("deep"));
        assert!(split(&[b"{\"", &[b'x'; 200]]).unwrap_err().contains("longer"));
    }
}
