//! What weights begin as besides chance: those of another model, or known motifs in the first convolution.

use anyhow::{Context, Result, ensure};
use tch::{Tensor, no_grad};

use crate::{
    comm::{Comm, share_text},
    flat::FlatTensors,
    motif::Motif,
    plan::Plan,
    sampler::SplitMix,
    weights::Weights,
};

/// The first convolution of a model, which reads the bases.
const FIRST: &str = "conv1d";
/// Places kept free at both ends of a filter, where it is wide enough.
const MARGIN: usize = 3;

/// Rank 0 reads; the others receive its weights later.
pub fn begin(comm: &dyn Comm, plan: &Plan, flat: &FlatTensors) -> Result<()> {
    share_text(comm, || {
        if let Some(file) = &plan.settings.init {
            Weights::read(file)?.fill_model(flat)?;
        }
        if let Some(file) = &plan.settings.start_motifs {
            let motifs = Motif::read_all(file)?;
            let shown = || format!("--start-motifs {}", file.display());
            from_motifs(flat, &motifs, plan.seed).with_context(shown)?;
        }
        Ok(String::new())
    })?;
    Ok(())
}

/// As DanQ-JASPAR begins: a motif's probabilities less 1/4 at a random place of a filter, the rest of it as it was, and a
/// bias from -1 to 0. (Its Keras turned every filter round, so its motifs were turned before; here neither is.)
fn from_motifs(flat: &FlatTensors, motifs: &[Motif], seed: u64) -> Result<()> {
    let tensor = |part: &str| {
        let name = format!("{FIRST}.{part}");
        let found = flat.named().find(|(slot, _)| slot.name == name);
        found.map(|(_, tensor)| tensor)
    };
    let both = tensor("weight").zip(tensor("bias"));
    // [F, C, K], [F]
    let (weight, bias) = both.context("the model has no convolution that reads the bases")?;
    let (filters, kernel) = (weight.size()[0] as usize, weight.size()[2] as usize);
    // The teaching models' reads a track alone.
    ensure!(
        weight.size()[1] >= 4,
        "the model's first convolution reads no bases"
    );
    ensure!(
        motifs.len() <= filters,
        "{} motifs, and the first convolution has {filters} filters",
        motifs.len()
    );
    let mut random = SplitMix::keyed(&[seed, 3]);
    for (filter, motif) in motifs.iter().enumerate() {
        let width = motif.width();
        ensure!(
            width <= kernel,
            "{} has {width} columns, a filter {kernel} places",
            motif.name
        );
        let free = kernel - width;
        let margin = MARGIN.min(free / 2);
        let start = margin + random.below((free - 2 * margin) as u64 + 1) as usize;
        // [4, W]
        let columns: Vec<f32> = (0..4)
            .flat_map(|base| motif.probabilities().map(move |of| of[base] - 0.25))
            .collect();
        let columns = Tensor::from_slice(&columns).view([4, width as i64]);
        let place = weight.get(filter as i64);
        let place = place.narrow(0, 0, 4);
        let below = -(random.below(1 << 24) as f64) / f64::from(1 << 24);
        no_grad(|| {
            place.narrow(1, start as i64, width as i64).copy_(&columns);
            let _ = bias.get(filter as i64).fill_(below);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore};

    /// Nine sites, all alike.
    fn motif(bases: &[usize]) -> Motif {
        let column = |&base: &usize| {
            let mut counts = [0.0; 4];
            counts[base] = 9.0;
            counts
        };
        let columns: Vec<_> = bases.iter().map(column).collect();
        Motif::new("all alike".into(), &columns)
    }

    #[test]
    fn a_convolution_of_a_track_takes_no_motif() {
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let path = &root / FIRST;
        let _ = path.zeros("weight", &[2, 1, 3]);
        let _ = path.zeros("bias", &[2]);
        let flat = FlatTensors::new(&store);
        let motif = motif(&[1, 0, 2]);
        let error = from_motifs(&flat, &[motif], 1).unwrap_err().to_string();
        assert!(error.contains("reads no bases"), "{error}");
    }

    #[test]
    fn a_filter_of_a_motif_answers_to_its_consensus() {
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let path = &root / FIRST;
        let weight = path.zeros("weight", &[3, 5, 12]);
        let bias = path.ones("bias", &[3]);
        let flat = FlatTensors::new(&store);
        let motif = motif(&[1, 0, 2, 3]);
        from_motifs(&flat, &[motif.clone(), motif.clone()], 1).unwrap();
        let mut starts = Vec::new();
        for filter in 0..2 {
            let filter = weight.get(filter);
            let places = filter.abs().sum_dim_intlist(0i64, false, None);
            let places = Vec::<f32>::try_from(places).unwrap();
            let start = places.iter().position(|&sum| sum > 0.0).unwrap();
            assert!((MARGIN..=12 - 4 - MARGIN).contains(&start), "{places:?}");
            for (column, base) in [1, 0, 2, 3].into_iter().enumerate() {
                let value = filter.double_value(&[base, (start + column) as i64]);
                assert!((value - (9.2 / 9.8 - 0.25)).abs() < 1e-6, "{value}");
            }
            assert_eq!(filter.get(4).abs().sum(None).double_value(&[]), 0.0);
            starts.push(start);
        }
        let bias = Vec::<f32>::try_from(bias).unwrap();
        assert!(bias[..2].iter().all(|&of| (-1.0..=0.0).contains(&of)) && bias[0] != bias[1]);
        assert_eq!(bias[2], 1.0, "a filter without a motif stays as it is");
        let many = vec![motif; 4];
        let error = from_motifs(&flat, &many, 1).unwrap_err().to_string();
        assert!(
            error.contains("4 motifs, and the first convolution has 3"),
            "{error}"
        );
    }
}
