use super::*;

/// Of 1000 windows on so many ranks.
fn plan(settings: Settings, ranks: usize) -> Result<Plan> {
    let settings = Settings {
        data: Some("data.h5".into()),
        ..settings
    };
    Plan::new(settings, ranks, 1000, 0)
}

fn of(arch: Arch) -> Settings {
    Settings {
        arch: Some(arch),
        ..Settings::default()
    }
}

#[test]
fn a_model_without_a_norm_has_nothing_to_synchronise() {
    for (arch, expected) in [
        (Arch::Cnn, BatchNorm::Rank),
        (Arch::ContextFusion, BatchNorm::Rank),
        (Arch::Unet, BatchNorm::Sync),
    ] {
        let plan = plan(of(arch), 2).unwrap();
        assert_eq!(plan.options.batch_norm, expected, "{arch}");
        let normed = plan.table(2, 1000).contains("batch norm");
        assert_eq!(normed, expected == BatchNorm::Sync, "{arch}");
    }
}

#[test]
fn a_papers_recipe_has_no_warm_up_unless_its_rate_grew() {
    let warmup = |settings, ranks| plan(settings, ranks).unwrap().schedule.warmup_steps;
    let batch = |arch| Settings {
        batch: Some(8),
        ..of(arch)
    };
    for arch in [Arch::Deepsea, Arch::DanqJaspar, Arch::Basset, Arch::Tal1One] {
        assert_eq!(warmup(of(arch), 4), 0, "{arch}");
        assert_eq!(warmup(batch(arch), 1), 0, "{arch}");
        assert!(warmup(batch(arch), 2) > 0, "{arch}");
        let typed = Settings {
            warmup: Some(7),
            ..of(arch)
        };
        assert_eq!(warmup(typed, 1), 7, "{arch}");
    }
    assert!(warmup(of(Arch::Unet), 1) > 0);
}

#[test]
fn patience_and_target_end_a_run() {
    let settings = Settings {
        patience: Some(2),
        target: Some(0.5),
        ..Settings::default()
    };
    let plan = plan(settings, 1).unwrap();
    for (waited, best, ends) in [
        (0, None, false),
        (1, Some(0.4), false),
        (2, Some(0.4), true),
        (0, Some(0.5), true),
    ] {
        let progress = Progress {
            waited,
            best,
            ..Progress::default()
        };
        assert_eq!(plan.ends(&progress), ends, "{waited} {best:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let sgd = |momentum| Settings {
        optimizer: Some(Rule::Sgd),
        momentum: Some(momentum),
        ..Settings::default()
    };
    for momentum in [1.0, -0.1, f64::NAN] {
        let error = plan(sgd(momentum), 1).unwrap_err().to_string();
        assert!(
            error.contains("--momentum must be from 0 up to 1"),
            "{error}"
        );
    }
    assert!(plan(sgd(0.0), 1).is_ok());
    for target in [f64::NAN, f64::INFINITY] {
        let settings = Settings {
            target: Some(target),
            ..Settings::default()
        };
        let error = plan(settings, 1).unwrap_err().to_string();
        assert!(error.contains("--target must be a number"), "{error}");
    }
    // As --from plan.toml of a held batch leaves it.
    let scaled = Settings {
        global_batch: Some(16),
        lr_scaling: Some(Scaling::None),
        ..Settings::default()
    };
    let error = plan(scaled, 1).unwrap_err().to_string();
    assert!(error.contains("nothing to scale"), "{error}");
}
