//! What a run says: one JSON line for programs, one line for people, and a row of the table.
use std::io::{BufRead, Write};

use serde_json::{Value, json};

use crate::{Trouble, process};

/// Taken when a measurement starts: what else the machine was doing belongs to every figure.
#[derive(Debug)]
pub struct Conditions {
    load: String,
    ticks: (u64, u64),
}

impl Conditions {
    /// Now.
    pub fn now() -> Self {
        Self { load: process::load(), ticks: process::machine_ticks() }
    }
}

/// One figure.
#[derive(Debug)]
pub struct Figure {
    /// What was measured, as the table names it.
    pub what: String,
    /// What it came to, for people.
    pub result: String,
    /// The share of its limit, for people; empty where there is no limit.
    pub share: String,
    /// Everything, for programs.
    pub details: Value,
}

impl Figure {
    /// Prints it.
    pub fn print(&self, conditions: &Conditions) -> Result<(), Trouble> {
        let (total, stolen) = process::machine_ticks();
        let (total, stolen) = (total - conditions.ticks.0, stolen - conditions.ticks.1);
        let steal = (stolen as f64 / total.max(1) as f64 * 1000.0).round() / 1000.0;
        let commit = process::commit();
        let line = json!({
            "what": self.what, "result": self.result, "share": self.share, "details": self.details,
            "machine": process::machine(), "commit": commit, "steal": steal,
            "load_before": conditions.load, "load_after": process::load(),
        });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        let share = if self.share.is_empty() { String::new() } else { format!(" ({})", self.share) };
        eprintln!(
            "{}: {}{share} [load {} -> {}, commit {commit}]",
            self.what,
            self.result,
            conditions.load,
            process::load()
        );
        Ok(())
    }
}

/// Reads JSON lines, writes Markdown.
pub fn table() -> Result<(), Trouble> {
    println!("| what | result | share of limit | load before → after, commit |\n|---|---|---|---|");
    for line in std::io::stdin().lock().lines() {
        let figure: Value = serde_json::from_str(&line?)?;
        let text = |key: &str| figure[key].as_str().unwrap_or_default().to_owned();
        let first = |key: &str| text(key).split(' ').next().unwrap_or_default().to_owned();
        println!(
            "| {} | {} | {} | {} → {}, {} |",
            text("what"),
            text("result"),
            text("share"),
            first("load_before"),
            first("load_after"),
            text("commit")
        );
    }
    Ok(())
}

/// A rate with thousands apart.
pub fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Rounded for JSON.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_readable() {
        for (rate, text) in [(0.2, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.8, "1,234,568")] {
            assert_eq!(thousands(rate), text);
        }
    }
}
