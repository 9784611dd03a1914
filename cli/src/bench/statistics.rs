//! A middle and a spread of a few measurements. Means are of no use here: one interruption by another process is worth more than
//! all that is to be measured.

use serde::Serialize;

/// What several measurements of the same thing say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// Between the first and the third quartile lies the middle half.
    pub(crate) first_quartile: f64,
    pub(crate) third_quartile: f64,
}

impl Summary {
    /// None of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            first_quartile: quantile(&sorted, 0.25)?,
            third_quartile: quantile(&sorted, 0.75)?,
        })
    }

    /// The width of the middle half.
    pub(crate) fn spread(&self) -> f64 {
        self.third_quartile - self.first_quartile
    }
}

/// Between two measurements, as far as `at` is between them.
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = at * last as f64;
    let below = position.floor();
    let low = *sorted.get(below as usize)?;
    let high = *sorted.get(position.ceil() as usize)?;
    Some(low + (high - low) * (position - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_divide_and_one_wild_value_moves_nothing() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(
            (
                summary.first_quartile,
                summary.median,
                summary.third_quartile
            ),
            (2.0, 3.0, 4.0)
        );
        assert_eq!(summary.spread(), 2.0);
        assert_eq!(Summary::of(&[1.0, 2.0, 3.0, 4.0, 1e9]).unwrap().median, 3.0);
    }

    #[test]
    fn between_two_values_is_interpolated() {
        let summary = Summary::of(&[1.0, 2.0]).unwrap();
        assert_eq!(
            (
                summary.first_quartile,
                summary.median,
                summary.third_quartile
            ),
            (1.25, 1.5, 1.75)
        );
        assert_eq!(Summary::of(&[7.0]).unwrap().spread(), 0.0);
        assert_eq!(Summary::of(&[]), None);
    }
}
