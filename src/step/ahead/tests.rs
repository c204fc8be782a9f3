use tch::{Device, nn::VarStore};

use super::*;
use crate::{
    comm::{Solo, Transport, TransportChoice},
    data::Draw,
    engine::{Engine, Net},
    flat::FlatTensors,
    model::{BatchNorm, SumOverRanks},
    optim::{Optimizer, Rule},
    timeline::Timeline,
};

/// The gradient is the row, the running statistic counts rows, the loss of row 7 is not finite.
struct Fake(FlatTensors);

impl Engine for Fake {
    fn gradients(&mut self, rows: &Rows, _: &mut Timeline, _: SumOverRanks) -> Result<(f64, f64)> {
        let row = f64::from(rows.draws[0].row);
        let _ = self.0.gradients.g_add_scalar_(row);
        let _ = self.0.buffers.g_add_scalar_(1.0);
        Ok((if row == 7.0 { f64::NAN } else { row }, 2.0))
    }
    fn logits(&mut self, _: &Rows) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

fn trainer(look_every: u64) -> Trainer {
    let flat = || {
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().ones("weight", &[3]);
        let _ = store.root().zeros_no_train("running", &[1]);
        FlatTensors::new(&store)
    };
    let flat = flat();
    let own = FlatTensors {
        parameters: flat.parameters.shallow_clone(),
        sent: flat.sent.shallow_clone(),
        gradients: flat.gradients.shallow_clone(),
        buffers: flat.buffers.shallow_clone(),
        parameter_slots: flat.parameter_slots.clone(),
        buffer_slots: flat.buffer_slots.clone(),
    };
    let engine = Box::new(Fake(own));
    let optimizer = Optimizer::new(Rule::Adam, 0.0, &flat.parameters);
    let timeline = Timeline::new(&Solo, Device::Cpu, false);
    let transport = Transport::new(TransportChoice::Mpi, &Solo, Device::Cpu).unwrap();
    let net = Net {
        engine,
        flat,
        name: "fake",
    };
    Trainer::new(&Solo, net, optimizer, BatchNorm::Rank, transport, timeline)
        .looking_every(look_every)
}

/// Outcomes of the rows, a step each, and the weight and the statistic after them.
fn run(trainer: &mut Trainer, rows: &[u32], first_step: u64) -> (Vec<Outcome>, [f64; 2]) {
    for (step, &row) in (first_step..).zip(rows) {
        trainer.begin(step);
        let rows = Rows {
            draws: vec![Draw::from(row)],
            ..Rows::default()
        };
        trainer.launch(&Solo, &rows).unwrap();
        trainer
            .complete(&Solo, false, Some(1.0), 0.1, step)
            .unwrap();
    }
    let flat = &trainer.net.flat;
    let state = [&flat.parameters, &flat.buffers].map(|of| of.double_value(&[0]));
    (trainer.outcomes(&Solo).unwrap(), state)
}

#[test]
fn what_runs_after_a_bad_step_changes_nothing_until_the_host_has_looked() {
    let (mut ahead, mut looking) = (trainer(4), trainer(1));
    let near = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).abs() < 1e-6 && a[1] == b[1];
    let (of_first, after_first) = run(&mut looking, &[3], 1);
    let (outcomes, state) = run(&mut ahead, &[3, 7, 4, 5], 1);
    assert_eq!(outcomes.len(), 4);
    assert!((outcomes[0].norm - of_first[0].norm).abs() < 1e-6);
    assert_eq!(
        (outcomes[0].loss, outcomes[0].labels, outcomes[0].asked),
        (3.0, 2.0, 0.0)
    );
    assert!(outcomes[0].is_finite() && !outcomes[1].is_finite());
    assert!(near(state, after_first), "{state:?} {after_first:?}");
    let (_, after) = run(&mut looking, &[4, 5], 3);
    let (outcomes, state) = run(&mut ahead, &[4, 5], 3);
    assert!(outcomes.iter().all(Outcome::is_finite));
    assert!(near(state, after), "{state:?} {after:?}");
    assert_eq!(after[1], 3.0);
}

#[test]
fn no_step_runs_past_what_has_to_be_looked_at() {
    let ahead = |step, left, every| steps_ahead(16, step, left, 10, every, 1000);
    assert_eq!(ahead(0, 1000, [None, None]), 16);
    assert_eq!(ahead(0, 41, [None, None]), 5);
    assert_eq!(ahead(98, 1000, [Some(50), None]), 2);
    assert_eq!(ahead(98, 1000, [Some(50), Some(33)]), 1);
    assert_eq!(ahead(995, 1000, [None, None]), 5);
    assert_eq!(steps_ahead(1, 0, 1000, 10, [None, None], u64::MAX), 1);
}
