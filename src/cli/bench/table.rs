//! Figures as a table, or as JSON.

use serde::Serialize;

use crate::{
    bench::{Aim, Figure},
    cli::output::Row,
};

/// One line of the table. In JSON the keys are as documented in the help.
#[derive(Debug, Serialize)]
pub(super) struct FigureRow {
    name: String,
    value: f64,
    unit: &'static str,
    runs: Vec<f64>,
    aim: Option<f64>,
    met: Option<bool>,
    #[serde(skip)]
    spread: (f64, f64),
    #[serde(skip)]
    sign: &'static str,
}

impl FigureRow {
    pub(super) fn new(figure: &Figure) -> Self {
        Self {
            name: figure.name.clone(),
            value: figure.value(),
            unit: figure.unit,
            runs: figure.runs.clone(),
            aim: figure.aim.map(Aim::bound),
            met: figure.is_met(),
            spread: figure.spread(),
            sign: match figure.aim {
                Some(Aim::AtLeast(_)) => "≥",
                Some(Aim::AtMost(_)) => "≤",
                None => "",
            },
        }
    }
}

impl Row for FigureRow {
    const HEADERS: &'static [&'static str] =
        &["measured", "median", "unit", "min to max", "aim", ""];

    fn cells(&self) -> Vec<String> {
        let (min, max) = self.spread;
        vec![
            self.name.clone(),
            grouped(self.value),
            self.unit.into(),
            format!("{} to {}", grouped(min), grouped(max)),
            self.aim
                .map_or_else(String::new, |aim| format!("{} {}", self.sign, grouped(aim))),
            match self.met {
                Some(true) => "met".into(),
                Some(false) => "not met".into(),
                None => String::new(),
            },
        ]
    }
}

/// Columns of a table whose rows come one after the other: the longest names and numbers that the
/// loads without options have.
pub(super) const WIDTHS: [usize; 6] = [60, 10, 13, 22, 11, 7];

/// A number with as many digits as mean something.
pub(super) fn grouped(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.3}");
    }
    if value < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let texts = [0.0123, 9.5, 10.04, 999.0, 1_000.0, 12_345.6, 1_234_567.0].map(grouped);
        let wanted = [
            "0.012",
            "9.500",
            "10.0",
            "999.0",
            "1,000",
            "12,346",
            "1,234,567",
        ];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn a_row_says_whether_the_aim_is_met() {
        let row = FigureRow::new(&Figure {
            name: "latency".into(),
            unit: "ms",
            runs: vec![3.0, 1.0, 2.0],
            aim: Some(Aim::AtMost(1.5)),
        });
        let wanted = [
            "latency",
            "2.000",
            "ms",
            "1.000 to 3.000",
            "≤ 1.500",
            "not met",
        ];
        assert_eq!(row.cells(), wanted);
        let json = serde_json::to_string(&row).unwrap();
        let wanted = r#"{"name":"latency","value":2.0,"unit":"ms","runs":[3.0,1.0,2.0],"aim":1.5,"met":false}"#;
        assert_eq!(json, wanted);
    }
}
