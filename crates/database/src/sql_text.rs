//! Small readings of SQL text: parameter spelling, statement boundaries, names for messages.

use std::borrow::Cow;

/// One lexical piece of SQL.
enum Piece<'a> {
    /// Text outside quotes and comments.
    Plain(&'a str),
    /// A quoted string or identifier, or a comment, whole.
    Opaque(&'a str),
}

/// Cuts `sql` into plain text and what must not be looked into.
fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != quote {
                    end += 1;
                }
                (end + 1).min(bytes.len())
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                sql[at..].find('\n').map_or(bytes.len(), |length| at + length)
            }
            _ => {
                at += 1;
                continue;
            }
        };
        if start < at {
            out.push(Piece::Plain(&sql[start..at]));
        }
        out.push(Piece::Opaque(&sql[at..end]));
        (start, at) = (end, end);
    }
    if start < sql.len() {
        out.push(Piece::Plain(&sql[start..]));
    }
    out
}

/// `$1` (PostgreSQL's spelling, the one that the code uses) to `?1` (SQLite's numbered one;
/// SQLite would take `$1` too, but number it by its first appearance).
pub(crate) fn for_sqlite(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    for piece in pieces(sql) {
        match piece {
            Piece::Plain(text) => out.push_str(&text.replace('$', "?")),
            Piece::Opaque(text) => out.push_str(text),
        }
    }
    Cow::Owned(out)
}

/// The statements of a migration, without comments and empty ones.
pub(crate) fn statements(sql: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    for piece in pieces(sql) {
        match piece {
            Piece::Opaque(text) if text.starts_with("--") => {}
            Piece::Opaque(text) => current.push_str(text),
            Piece::Plain(text) => {
                let mut parts = text.split(';');
                current.push_str(parts.next().unwrap_or_default());
                for part in parts {
                    out.push(std::mem::replace(&mut current, part.to_owned()));
                }
            }
        }
    }
    out.push(current);
    out.retain(|statement| !statement.trim().is_empty());
    out.iter().map(|statement| statement.trim().to_owned()).collect()
}

/// The table that a statement names first, for messages.
pub(crate) fn table_of(sql: &str) -> &str {
    let mut words = sql.split_whitespace();
    while let Some(word) = words.next() {
        if ["from", "into", "update"].iter().any(|key| word.eq_ignore_ascii_case(key))
            && let Some(table) = words.next()
        {
            return table.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        }
    }
    "(no table)"
}

/// Whether a statement changes nothing, as far as its first word says.
pub(crate) fn only_reads(sql: &str) -> bool {
    sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

/// A statement on one line, cut to a length that a log can bear.
pub(crate) fn shorten(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 200 {
        return line;
    }
    let mut cut: String = line.chars().take(200).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_translated_outside_quotes_only() {
        assert_eq!(
            for_sqlite("SELECT '$1', \"a$2\" FROM t WHERE a = $2 AND b = $1 -- $3"),
            "SELECT '$1', \"a$2\" FROM t WHERE a = ?2 AND b = ?1 -- $3"
        );
        assert!(matches!(for_sqlite("SELECT 1"), Cow::Borrowed(_)));
        assert_eq!(for_sqlite("SELECT 'it''s $1', $1"), "SELECT 'it''s $1', ?1");
    }

    #[test]
    fn migrations_are_cut_at_semicolons_outside_quotes() {
        assert_eq!(
            statements(
                "-- a; b\nCREATE TABLE a (x TEXT DEFAULT ';');\n\nCREATE INDEX i ON a (x);\n"
            ),
            ["CREATE TABLE a (x TEXT DEFAULT ';')", "CREATE INDEX i ON a (x)"]
        );
        assert!(statements(" ; -- nothing\n").is_empty());
    }

    #[test]
    fn tables_are_found_for_messages() {
        assert_eq!(table_of("SELECT a\nFROM servers WHERE x = $1"), "servers");
        assert_eq!(table_of("INSERT INTO ports (id) VALUES ($1)"), "ports");
        assert_eq!(table_of("update hosts set a = 1"), "hosts");
        assert_eq!(table_of("SELECT 1"), "(no table)");
    }

    #[test]
    fn an_unfinished_quote_is_no_panic() {
        assert_eq!(for_sqlite("SELECT '$1"), "SELECT '$1");
        assert_eq!(statements("SELECT 'a;"), ["SELECT 'a;"]);
    }
}
