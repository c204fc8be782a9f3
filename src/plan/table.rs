//! The resolved plan in words.

use super::{Plan, counting, word};

impl Plan {
    /// The resolved plan as a table.
    pub fn table(&self, ranks: usize, rows: usize) -> String {
        let (rate, set) = (&self.schedule, &self.settings);
        let steps = rows.div_ceil(self.global_batch) as u64;
        let counts = match self.arch.paper().recipe.counts {
            Some(_) => self.options.reading,
            None => None,
        };
        let mut model = self.arch.to_string();
        if self.arch.paper().batch_norm {
            model += &format!(", batch norm {}", word(self.options.batch_norm));
        }
        if let Some(width) = self.options.width {
            model += &format!(", {width} of its width");
        }
        if let Some(activation) = self.options.up_activation {
            model += &format!(", {} after transposed convolutions", word(activation));
        }
        let batch = format!(
            "{} = {ranks} ranks x {} x {} micro-batches; {steps} steps an epoch, {} in all",
            self.global_batch,
            self.batch,
            self.accumulate,
            steps * self.epochs
        );
        let optimizer = format!(
            "{}, rate {:.6} after {} warm-up steps, decay {} over {} epochs",
            word(self.optimizer),
            rate.peak,
            rate.warmup_steps,
            word(rate.decay),
            self.epochs
        );
        let augmentation = match counts {
            Some(_) => "both strands are counted".into(),
            None => format!(
                "reverse complement {}, shift {}",
                self.reverse_complement, self.shift
            ),
        };
        let patience = set
            .patience
            .map_or("none".into(), |evaluations| evaluations.to_string());
        let lines = [
            (
                "data",
                format!("{} ({rows} training windows)", self.data.display()),
            ),
            ("model", model),
            ("batch", batch),
            ("loss", word(self.options.loss)),
            match counts {
                Some(reading) => ("counts", counting::describe(reading, rows, ranks)),
                None => ("optimizer", optimizer),
            },
            ("penalties", self.penalties.line()),
            ("augmentation", augmentation),
            (
                "best by",
                match set.target {
                    Some(target) => format!(
                        "{}, patience {patience}, target {target}",
                        self.metric.name()
                    ),
                    None => format!("{}, patience {patience}", self.metric.name()),
                },
            ),
            ("seed", self.seed.to_string()),
        ];
        lines
            .iter()
            .map(|(name, value)| format!("{name:>13}  {value}\n"))
            .collect()
    }
}
