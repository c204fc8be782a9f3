//! Sites of one width, counted column by column.

pub struct Pwm {
    letters: &'static str,
    /// Of each column and letter.
    counts: Vec<Vec<u64>>,
}

impl Pwm {
    pub fn new(letters: &'static str, width: usize) -> Self {
        Self {
            letters,
            counts: vec![vec![0; letters.len()]; width],
        }
    }

    /// A site as places in the list of letters.
    pub fn add(&mut self, site: &[u8]) {
        assert_eq!(site.len(), self.counts.len(), "sites have one width");
        for (column, &letter) in self.counts.iter_mut().zip(site) {
            column[letter as usize] += 1;
        }
    }

    pub fn sites(&self) -> u64 {
        self.counts[0].iter().sum()
    }

    /// Of each column and letter; no pseudocounts, as in the class.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        let column = |counts: &Vec<u64>| {
            let sum = counts.iter().sum::<u64>().max(1) as f64;
            counts.iter().map(|&count| count as f64 / sum).collect()
        };
        self.counts.iter().map(column).collect()
    }

    /// The letter of each column that is more probable than `least`, else N.
    pub fn consensus(&self, least: f64) -> String {
        let letter = |column: &Vec<f64>| {
            let place = column.iter().position(|&probability| probability > least);
            place.map_or('N', |place| self.letters.as_bytes()[place] as char)
        };
        self.probabilities().iter().map(letter).collect()
    }

    /// For a logo: letters with their heights, probability times information (Schneider & Stephens 1990).
    pub fn heights(&self) -> Vec<Vec<(char, f64)>> {
        let most = (self.letters.len() as f64).log2();
        let column = |probabilities: &Vec<f64>| {
            let entropy: f64 = probabilities
                .iter()
                .filter(|&&p| p > 0.0)
                .map(|p| -p * p.log2())
                .sum();
            let height = |(letter, p): (char, &f64)| (letter, p * (most - entropy));
            self.letters
                .chars()
                .zip(probabilities)
                .map(height)
                .collect()
        };
        self.probabilities().iter().map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_called_where_they_are_frequent() {
        let mut pwm = Pwm::new("01", 4);
        for site in [
            [1, 1, 0, 0],
            [1, 1, 0, 1],
            [1, 1, 0, 0],
            [1, 1, 0, 1],
            [1, 0, 0, 0],
        ] {
            pwm.add(&site);
        }
        assert_eq!(pwm.sites(), 5);
        assert_eq!(pwm.probabilities()[1], [0.2, 0.8]);
        assert_eq!(pwm.consensus(0.8), "1N0N", "0.8 is not more than 0.8");
        assert_eq!(pwm.consensus(0.7), "110N");
        let heights = pwm.heights();
        assert_eq!(heights[0], [('0', 0.0), ('1', 1.0)], "a bit of information");
        let entropy = -(0.2f64 * 0.2f64.log2() + 0.8 * 0.8f64.log2());
        assert!((heights[1][1].1 - 0.8 * (1.0 - entropy)).abs() < 1e-12);
    }
}
