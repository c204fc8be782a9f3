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
    ensure!(
        windows.counts.negatives > 0,
        "{data}: all known labels of the training windows are positive; prepare it without --only-positive, or with more \
         targets"
    );
    let both = of.positives > 0 && of.negatives > 0;
    let defined = match plan.metric {
        Metric::Loss | Metric::DiceCoef => of.positives + of.negatives > 0,
        // Without negatives every precision is 1, and nothing gets better.
        Metric::Auroc | Metric::PrAuc | Metric::AveragePrecision | Metric::RankMeanPrAuc => both,
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tfbind_prep::schema::{DataWriter, Header, Task};

    use super::*;
    use crate::{
        comm::Solo,
        plan::Settings,
        scaling::{random_header, random_window},
    };

    /// The error, where there is one, of windows with these labels.
    fn refused(folder: &Path, train: [i8; 3], valid: [i8; 3], metric: Metric) -> Option<String> {
        let header = Header {
            task: Task::PerWindow,
            tracks: Vec::new(),
            ..random_header(64)
        };
        let path = folder.join("data.h5");
        let mut writer = DataWriter::create(&path, &header, true).unwrap();
        for (split, labels) in [("train", train), ("valid", valid)] {
            for (start, label) in labels.into_iter().enumerate() {
                let mut window = random_window(start as i64, 64);
                window.signal.clear();
                window.label = vec![label];
                writer.push(split, &window).unwrap();
            }
        }
        writer.finish().unwrap();
        let [windows, valid] = ["train", "valid"].map(|split| Windows::open(&path, split).unwrap());
        let settings = Settings {
            data: Some(path.clone()),
            metric: Some(metric),
            ..Settings::default()
        };
        let plan = Plan::new(settings, 1, 3, 0).unwrap();
        let checked = check_labels(&Solo, &plan, &windows, &valid);
        checked.err().map(|err| err.to_string())
    }

    #[test]
    fn labels_of_one_kind_are_refused_with_the_file_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let said = |train, valid, metric| refused(folder.path(), train, valid, metric);
        let error = said([1, 1, -1], [1, 0, 1], Metric::Loss).unwrap();
        assert!(
            error.contains("data.h5: all known labels") && error.contains("--only-positive"),
            "{error}"
        );
        for metric in [Metric::PrAuc, Metric::AveragePrecision] {
            for valid in [[1, 1, 1], [0, 0, -1]] {
                let error = said([1, 0, 1], valid, metric).unwrap();
                assert!(
                    error.contains("undefined on the validation windows"),
                    "{error}"
                );
            }
            assert_eq!(said([1, 0, 1], [1, 0, -1], metric), None);
        }
        assert_eq!(said([1, 0, 1], [1, 1, 1], Metric::Loss), None);
    }
}
