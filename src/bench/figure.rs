/// What one thing that was measured came to, run by run.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured, with the load if that is not the default.
    pub name: String,
    /// What the values are counted in.
    pub unit: &'static str,
    /// One for each run, in their order; never empty.
    pub runs: Vec<f64>,
    /// What is aimed at, if it applies to this load.
    pub aim: Option<Aim>,
}

/// The good side of a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

impl Figure {
    /// The median of the runs, or the lower one of two in the middle.
    pub fn value(&self) -> f64 {
        let sorted = self.sorted();
        sorted[(sorted.len() - 1) / 2]
    }

    /// The smallest and the largest of the runs.
    pub fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted[0], sorted[sorted.len() - 1])
    }

    /// Whether the median meets the aim, if there is one.
    pub fn is_met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtLeast(least) => self.value() >= least,
            Aim::AtMost(most) => self.value() <= most,
        })
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Aim {
    /// The bound.
    pub fn bound(self) -> f64 {
        match self {
            Self::AtLeast(bound) | Self::AtMost(bound) => bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_and_meets_the_aim_or_not() {
        let figure = |runs: &[f64], aim| Figure {
            name: "x".into(),
            unit: "ms",
            runs: runs.to_vec(),
            aim,
        };
        let three = figure(&[3.0, 1.0, 2.0], Some(Aim::AtLeast(2.0)));
        assert_eq!((three.value(), three.spread()), (2.0, (1.0, 3.0)));
        assert_eq!(three.is_met(), Some(true));
        let four = figure(&[4.0, 3.0, 1.0, 2.0], Some(Aim::AtMost(1.9)));
        assert_eq!((four.value(), four.is_met()), (2.0, Some(false)));
        assert_eq!(figure(&[1.0], None).is_met(), None);
    }
}
