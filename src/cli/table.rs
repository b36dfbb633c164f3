//! Tables for people: columns as wide as they need to be, numbers to the right.
use std::fmt;

/// Lines under headings.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No lines yet.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_string()).collect()] }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(column)).peekable();
                cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok() || cell == "?")
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                match numeric[column] {
                    true => line.push_str(&format!("{cell:>width$}  ")),
                    false => line.push_str(&format!("{cell:<width$}  ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text cut to fit a cell.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_left_and_numbers_right() {
        let mut table = Table::new(&["NAME", "POINTS"]);
        table.row(["products".to_string(), "7".to_string()]);
        table.row(["ä".to_string(), "12000".to_string()]);
        assert_eq!(table.to_string(), "NAME      POINTS\nproducts       7\nä          12000\n");
        assert_eq!(Table::new(&["NAME", "POINTS"]).to_string(), "NAME  POINTS\n");
        assert_eq!(cut("äbcd", 2), "äb…");
        assert_eq!(cut("ab", 2), "ab");
    }
}
