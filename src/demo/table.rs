//! Published figures beside ours.

use std::fmt;

/// What is said where there is nothing to compare with.
pub const NONE: &str = "-";

pub struct Table {
    pub title: String,
    pub heads: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    pub notes: Vec<String>,
}

impl Table {
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        assert_eq!(N, self.heads.len(), "a cell for every head");
        self.rows.push(cells.map(String::from).into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        let heads = self.heads.iter().map(ToString::to_string).collect();
        let lines: Vec<&Vec<String>> = [&heads].into_iter().chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
        for line in &lines {
            let cell = |(column, text): (usize, &String)| {
                let width = width(column).unwrap_or(0);
                match column {
                    0 => format!("  {text:<width$}"),
                    _ => format!("  {text:>width$}"),
                }
            };
            let cells: String = line.iter().enumerate().map(cell).collect();
            writeln!(f, "{}", cells.trim_end())?;
        }
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// Shares of several runs as per cent: the mean and, of more than one, the range.
pub fn percent(shares: &[f64]) -> String {
    let mean = 100.0 * shares.iter().sum::<f64>() / shares.len() as f64;
    match shares {
        [_] => format!("{mean:.2} %"),
        _ => {
            let lowest = 100.0 * shares.iter().fold(f64::INFINITY, |a, &b| a.min(b));
            let highest = 100.0 * shares.iter().fold(0.0, |a: f64, &b| a.max(b));
            format!("{mean:.2} % ({lowest:.2}-{highest:.2})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_heads() {
        let mut table = Table {
            title: "two figures".into(),
            heads: vec!["what", "published", "ours"],
            rows: Vec::new(),
            notes: vec!["and why".into()],
        };
        table.row(["accuracy", "91.81 %", &percent(&[0.9, 0.95])]);
        table.row(["parameters", "8", "8"]);
        assert_eq!(
            table.to_string(),
            "two figures\n\n  what        published                   ours\n  \
             accuracy      91.81 %  92.50 % (90.00-95.00)\n  \
             parameters          8                      8\n\nand why\n"
        );
        assert_eq!(percent(&[0.5]), "50.00 %");
    }
}
