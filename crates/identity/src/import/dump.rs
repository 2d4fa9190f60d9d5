//! Reads what `mysqldump` and `mariadb-dump` write: the definitions of tables and their rows. It is
//! strict, since what it reads decides who may log in: a statement that such a dump does not have,
//! or a row that does not fit its table, is refused with its line. Nothing is executed.

use std::collections::BTreeMap;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    /// Numbers as they stand there.
    Number(String),
    Text(String),
}

impl Cell {
    /// The value as text; `None` for NULL.
    pub fn text(&self) -> Option<&str> {
        match self {
            Cell::Null => None,
            Cell::Number(text) | Cell::Text(text) => Some(text),
        }
    }
}

/// A table with its rows in the dump's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// The tables by name.
pub(super) type Tables = BTreeMap<String, Table>;

/// Why a text is no dump.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the dump: {why}")]
pub struct DumpError {
    /// The first is 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// Reads the tables of a dump.
pub(super) fn read(text: &str) -> Result<Tables, DumpError> {
    let mut reader = Reader { rest: text, whole: text };
    let mut tables = Tables::new();
    loop {
        reader.skip_space()?;
        if reader.rest.is_empty() {
            return Ok(tables);
        }
        // A statement that was all comment ends like any other.
        if reader.takes(';')? {
            continue;
        }
        reader.statement(&mut tables)?;
    }
}

struct Reader<'t> {
    rest: &'t str,
    whole: &'t str,
}

/// Statements that set the stage for a server and say nothing about rows.
const OF_NO_MATTER: [&str; 8] =
    ["SET", "DROP", "LOCK", "UNLOCK", "USE", "COMMIT", "START", "BEGIN"];

impl<'t> Reader<'t> {
    fn fail<T>(&self, why: impl Into<String>) -> Result<T, DumpError> {
        let read = &self.whole[..self.whole.len() - self.rest.len()];
        Err(DumpError { line: read.matches('\n').count() + 1, why: why.into() })
    }

    /// White space and comments; those with `!` are statements for a server, and set the stage.
    fn skip_space(&mut self) -> Result<(), DumpError> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if let Some(comment) = self.rest.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return self.fail("a comment does not end");
                };
                self.rest = &comment[end + 2..];
            } else if self.rest.starts_with("--") || self.rest.starts_with('#') {
                let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
                self.rest = &self.rest[end..];
            } else {
                return Ok(());
            }
        }
    }

    fn word(&mut self) -> &'t str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn expect(&mut self, what: &str) -> Result<(), DumpError> {
        self.skip_space()?;
        let found = self.rest.get(..what.len()).is_some_and(|text| text.eq_ignore_ascii_case(what));
        if !found {
            let shown: String = self.rest.chars().take(20).collect();
            return self.fail(format!("{what} should stand here, not {shown:?}"));
        }
        self.rest = &self.rest[what.len()..];
        Ok(())
    }

    fn takes(&mut self, what: char) -> Result<bool, DumpError> {
        self.skip_space()?;
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn statement(&mut self, tables: &mut Tables) -> Result<(), DumpError> {
        let before = self.rest;
        let word = self.word().to_ascii_uppercase();
        match word.as_str() {
            "CREATE" => {
                self.skip_space()?;
                let what = self.word().to_ascii_uppercase();
                match what.as_str() {
                    "TABLE" => self.create_table(tables),
                    "DATABASE" => self.skip_statement(),
                    _ => self.fail(format!("CREATE {what} is nothing that a dump of Keystone has")),
                }
            }
            "INSERT" => self.insert(tables),
            word if OF_NO_MATTER.contains(&word) => self.skip_statement(),
            "" => {
                let shown: String = before.chars().take(20).collect();
                self.fail(format!("no statement begins with {shown:?}"))
            }
            other => self.fail(format!("{other} is nothing that a dump of Keystone does")),
        }
    }

    /// To the end of the statement, minding texts.
    fn skip_statement(&mut self) -> Result<(), DumpError> {
        loop {
            self.skip_space()?;
            match self.rest.chars().next() {
                None => return self.fail("the last statement does not end"),
                Some(';') => {
                    self.rest = &self.rest[1..];
                    return Ok(());
                }
                Some('\'') => drop(self.quoted()?),
                Some('`') => drop(self.name()?),
                Some(other) => self.rest = &self.rest[other.len_utf8()..],
            }
        }
    }

    /// A name in back quotes.
    fn name(&mut self) -> Result<String, DumpError> {
        self.skip_space()?;
        let Some(text) = self.rest.strip_prefix('`') else {
            return self.fail("a name in back quotes should stand here");
        };
        match text.find('`') {
            Some(end) if !text[..end].contains('\n') => {
                self.rest = &text[end + 1..];
                Ok(text[..end].to_owned())
            }
            _ => self.fail("a name does not end"),
        }
    }

    fn create_table(&mut self, tables: &mut Tables) -> Result<(), DumpError> {
        let table = self.name()?;
        self.expect("(")?;
        let mut columns = Vec::new();
        loop {
            self.skip_space()?;
            if self.rest.starts_with('`') {
                columns.push(self.name()?);
            }
            if !self.skip_definition()? {
                break;
            }
        }
        self.skip_statement()?;
        if columns.is_empty() {
            return self.fail(format!("the table {table} has no columns"));
        }
        if tables.insert(table.clone(), Table { columns, rows: Vec::new() }).is_some() {
            return self.fail(format!(
                "the table {table} is created twice: dump the database of Keystone alone"
            ));
        }
        Ok(())
    }

    /// The rest of a column or key; whether another one follows.
    fn skip_definition(&mut self) -> Result<bool, DumpError> {
        let mut depth = 0_usize;
        loop {
            self.skip_space()?;
            match self.rest.chars().next() {
                None | Some(';') => return self.fail("the definition of a table does not end"),
                Some('\'') => drop(self.quoted()?),
                Some('`') => drop(self.name()?),
                Some(other) => {
                    self.rest = &self.rest[other.len_utf8()..];
                    match other {
                        '(' => depth += 1,
                        ')' if depth == 0 => return Ok(false),
                        ')' => depth -= 1,
                        ',' if depth == 0 => return Ok(true),
                        _ => {}
                    }
                }
            }
        }
    }

    fn insert(&mut self, tables: &mut Tables) -> Result<(), DumpError> {
        self.skip_space()?;
        if self.rest.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("IGNORE")) {
            self.expect("IGNORE")?;
        }
        self.expect("INTO")?;
        let name = self.name()?;
        let Some(table) = tables.get_mut(&name) else {
            return self.fail(format!("rows of {name}, which was not created before"));
        };
        let mut order: Vec<usize> = (0..table.columns.len()).collect();
        if self.takes('(')? {
            order.clear();
            loop {
                let column = self.name()?;
                match table.columns.iter().position(|known| *known == column) {
                    Some(at) if !order.contains(&at) => order.push(at),
                    _ => {
                        return self
                            .fail(format!("{name} has no column {column}, or it is named twice"));
                    }
                }
                if !self.takes(',')? {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.expect("VALUES")?;
        loop {
            self.expect("(")?;
            let mut row = vec![Cell::Null; table.columns.len()];
            let mut filled = 0;
            loop {
                let cell = self.cell()?;
                let Some(at) = order.get(filled) else {
                    return self.fail(format!("a row of {name} has more values than columns"));
                };
                row[*at] = cell;
                filled += 1;
                if !self.takes(',')? {
                    break;
                }
            }
            self.expect(")")?;
            if filled != order.len() {
                return self.fail(format!(
                    "a row of {name} has {filled} values for {} columns",
                    order.len()
                ));
            }
            table.rows.push(row);
            if !self.takes(',')? {
                break;
            }
        }
        self.expect(";")
    }

    fn cell(&mut self) -> Result<Cell, DumpError> {
        self.skip_space()?;
        if self.rest.starts_with('\'') {
            return Ok(Cell::Text(self.quoted()?));
        }
        if self.rest.starts_with("_binary ") {
            self.expect("_binary")?;
            self.skip_space()?;
            return Ok(Cell::Text(self.quoted()?));
        }
        let end = self.rest.find([',', ')', '\n', ' ']).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let number = !word.is_empty()
            && word.bytes().any(|b| b.is_ascii_digit())
            && word
                .bytes()
                .enumerate()
                .all(|(at, b)| b.is_ascii_digit() || b == b'.' || (at == 0 && b == b'-'));
        let cell = match word {
            "NULL" => Cell::Null,
            word if number => Cell::Number(word.to_owned()),
            word => {
                let shown: String = word.chars().take(20).collect();
                return self.fail(format!("{shown:?} is no value"));
            }
        };
        self.rest = &self.rest[end..];
        Ok(cell)
    }

    /// A text in single quotes, with MySQL's escapes.
    fn quoted(&mut self) -> Result<String, DumpError> {
        let Some(body) = self.rest.strip_prefix('\'') else {
            return self.fail("a text in quotes should stand here");
        };
        let mut text = String::new();
        let mut letters = body.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\'' => {
                    let after = &body[at + 1..];
                    if after.starts_with('\'') {
                        letters.next();
                        text.push('\'');
                        continue;
                    }
                    self.rest = after;
                    return Ok(text);
                }
                '\\' => match letters.next() {
                    Some((_, '0')) => text.push('\0'),
                    Some((_, 'b')) => text.push('\u{8}'),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'Z')) => text.push('\u{1a}'),
                    // `\%` and `\_` keep their backslash: they matter to LIKE only.
                    Some((_, other @ ('%' | '_'))) => text.extend(['\\', other]),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                other => text.push(other),
            }
        }
        self.fail("a text does not end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUMP: &str = r#"/*M!999999\- enable the sandbox mode */
-- MariaDB dump 10.19
CREATE DATABASE /*!32312 IF NOT EXISTS*/ `keystone` /*!40100 DEFAULT CHARACTER SET utf8mb3 */;
USE `keystone`;
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
DROP TABLE IF EXISTS `user`;
CREATE TABLE `user` (
  `id` varchar(64) NOT NULL,
  `extra` text DEFAULT 'a;b',
  `n` decimal(10,2) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `k` (`extra`(10),`n`),
  CONSTRAINT `c` CHECK (`n` in (0,1))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;
LOCK TABLES `user` WRITE;
/*!40000 ALTER TABLE `user` DISABLE KEYS */;
INSERT INTO `user` VALUES
('a','it''s \'\\ \n;--',-1.5),
('é','{\"x\": null}',NULL);
INSERT INTO `user` (`n`,`id`) VALUES (7,'b');
UNLOCK TABLES;
"#;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let tables = read(DUMP).unwrap();
        let user = &tables["user"];
        assert_eq!(user.columns, ["id", "extra", "n"]);
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(
            user.rows,
            [
                vec![text("a"), text("it's '\\ \n;--"), Cell::Number("-1.5".into())],
                vec![text("é"), text("{\"x\": null}"), Cell::Null],
                vec![text("b"), Cell::Null, Cell::Number("7".into())],
            ]
        );
    }

    #[test]
    fn what_a_dump_does_not_have_is_refused_with_its_line() {
        for (bad, line, word) in [
            ("\nDELETE FROM `user`;", 2, "DELETE"),
            ("\n\nCREATE TRIGGER x;", 3, "TRIGGER"),
            ("INSERT INTO `user` VALUES (1);", 1, "not created"),
            ("CREATE TABLE `t` (`a` int);\nINSERT INTO `t` VALUES (1,2);", 2, "more values"),
            ("CREATE TABLE `t` (`a` int,`b` int);\nINSERT INTO `t` VALUES (1);", 2, "1 values"),
            ("CREATE TABLE `t` (`a` int);\nINSERT INTO `t` VALUES (NOW());", 2, "no value"),
            ("CREATE TABLE `t` (`a` int);\nINSERT INTO `t` VALUES ('x", 2, "does not end"),
            ("CREATE TABLE `t` (`a` int);CREATE TABLE `t` (`a` int);", 1, "twice"),
            ("CREATE TABLE `t` (`a` int", 1, "does not end"),
            ("/* x", 1, "does not end"),
            ("{\"users\": []}", 1, "no statement"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.line == line && error.why.contains(word), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_a_dump(text in "\\PC{0,40}[\\n\\t'\\\\\"]{0,4}\\PC{0,8}") {
            let escaped = text
                .replace('\\', "\\\\")
                .replace('\'', "\\'")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let dump = format!("CREATE TABLE `t` (`a` text);INSERT INTO `t` VALUES ('{escaped}');");
            prop_assert_eq!(&read(&dump).unwrap()["t"].rows[0][0], &Cell::Text(text));
        }

        #[test]
        fn no_text_panics(text in "(CREATE TABLE `t` \\(`a` int\\);|INSERT INTO `t` |VALUES|[`'();, a1\\\\/*!é-]){0,30}") {
            let _ = read(&text);
        }
    }
}
