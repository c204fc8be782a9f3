//! For a model that counts: a micro-batch's windows go into its table, and no gradient comes of it.

use anyhow::{Context, Result, ensure};
use tfbind_prep::schema::N;

use super::Engine;
use crate::{
    counts::Counter,
    data::Rows,
    model::{Graph, SumOverRanks},
    timeline::{Phase, Timeline},
};

pub(super) struct Counting {
    graph: Graph,
    length: usize,
    leave_one_out: bool,
}

impl Counting {
    /// Of a graph with a table.
    pub fn new(graph: Graph, length: i64) -> Self {
        Self {
            graph,
            length: length as usize,
            leave_one_out: false,
        }
    }

    fn table(&self) -> &Counter {
        self.graph.counter().expect("the graph has a table")
    }
}

/// Each window with its label and its row.
fn each(rows: &Rows, length: usize) -> impl Iterator<Item = Result<(&[u8], i8, u32)>> {
    let windows = rows.seq.chunks_exact(length).zip(&rows.label);
    windows.zip(&rows.draws).map(move |((window, &label), draw)| {
        ensure!(
            window[length / 2] == N,
            "row {}: the central base is not hidden; tfbind-prep context makes windows that hide it",
            draw.row
        );
        Ok((window, label, draw.row))
    })
}

impl Engine for Counting {
    /// There is no loss before all is counted.
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        _: SumOverRanks,
    ) -> Result<(f64, f64)> {
        let counter = self.graph.counter_mut().expect("the graph has a table");
        for window in each(rows, self.length) {
            let (window, label, _) = window?;
            if label >= 0 {
                counter.count(window, label);
            }
        }
        timeline.lap(Phase::Forward);
        Ok((0.0, 0.0))
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        for window in each(rows, self.length) {
            let (window, label, row) = window?;
            let counted = (self.leave_one_out && label >= 0).then_some(label);
            self.table()
                .logits(window, counted, &mut logits)
                .with_context(|| format!("row {row}"))?;
        }
        Ok(logits)
    }

    fn counter(&self) -> Option<&Counter> {
        self.graph.counter()
    }

    fn counter_mut(&mut self) -> Option<&mut Counter> {
        self.graph.counter_mut()
    }

    fn leave_one_out(&mut self) {
        self.leave_one_out = true;
    }
}

#[cfg(test)]
mod tests;
