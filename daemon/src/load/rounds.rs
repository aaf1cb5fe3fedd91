//! How one measurement stands to another, over several rounds.

/// Rounds of rounds: each round measures both sides, one right after the other, so that what a machine does besides
/// strikes both alike.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl FromIterator<f64> for Rounds {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }
}

impl Rounds {
    /// The one in the middle; of an even number the lower; 0 without any.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// The lowest; 0 without any.
    #[must_use]
    pub fn lowest(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_that_went_wild_moves_the_median_little() {
        let ratios: Rounds = [2.0, 9.0, 0.5].into_iter().collect();
        assert_eq!((ratios.median(), ratios.lowest()), (2.0, 0.5));
        let even: Rounds = [1.0, 4.0].into_iter().collect();
        assert_eq!((even.median(), Rounds::default().median()), (1.0, 0.0));
    }
}
