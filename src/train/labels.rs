//! Whether there is something to learn, and something to choose the best checkpoint by.

use anyhow::{Result, ensure};

use crate::{
    comm::Comm,
    data::Windows,
    evaluate::num_defined_targets,
    plan::{Metric, Plan},
};

pub fn check_labels(
    comm: &dyn Comm,
    plan: &Plan,
    windows: &Windows,
    valid: &Windows,
) -> Result<()> {
    let (data, io, of) = (plan.data.display(), valid.io(), valid.counts);
    let name = plan.metric.name();
    if io.classes > 1 {
        use Metric::{Accuracy, BalancedAccuracy, Loss};
        ensure!(
            matches!(plan.metric, Loss | Accuracy | BalancedAccuracy),
            "{data}: {name} is for labels of 0 and 1, but these are classes; --metric loss, accuracy or balanced_accuracy"
        );
        for (split, of) in [("training", windows), ("validation", valid)] {
            let present = of.counts.bases.iter().filter(|&&labels| labels > 0);
            ensure!(
                present.count() > 1,
                "{data}: the hidden bases of the {split} windows are all the same"
            );
        }
        return Ok(());
    }
    ensure!(
        windows.counts.positives > 0,
        "{data}: the training windows hold no positive label"
    );
    let both = of.positives > 0 && of.negatives > 0;
    let defined = match plan.metric {
        Metric::Loss | Metric::DiceCoef => of.positives + of.negatives > 0,
        Metric::Auroc => both,
        Metric::Accuracy | Metric::BalancedAccuracy => {
            ensure!(
                !io.per_base,
                "{data}: {name} is for labels of windows, but these are of bases; choose another --metric"
            );
            both
        }
        Metric::MedianAuroc | Metric::MedianAveragePrecision => {
            ensure!(
                io.targets > 1,
                "{data}: {name} is over targets, but there is one; choose another --metric"
            );
            num_defined_targets(comm, valid)? > 0
        }
        _ => of.positives > 0,
    };
    ensure!(
        defined,
        "{data}: {name} is undefined on the validation windows ({} positive labels, {} negative); choose another --metric",
        of.positives,
        of.negatives
    );
    Ok(())
}
