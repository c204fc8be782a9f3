//! What a sweep finds before it trains, and what it may find in its folder.

use std::{fs, os::unix::fs::OpenOptionsExt, thread, time::Duration};

use super::{BASE, column, said, start, wait_for, with_failures, write, write_all};
use crate::common::Run;

#[test]
fn a_bad_sweep_is_one_error_before_anything_runs() {
    let mut run = Run::new();
    run.ranks(4).write_data(24, |_, _| {});
    let grid = "method = \"grid\"\nranks_per_trial = 2";
    for (head, base, search, said) in [
        (grid, "", "lrr = [1.0]", "unknown field `lrr`"),
        (grid, "epoch = 2", "lr = [1.0]", "unknown field `epoch`"),
        (
            grid,
            "",
            "lr = [0.1]\nbatch_norm = [\"rank\", \"none\"]",
            "[search] batch_norm",
        ),
        (
            grid,
            "",
            "shift = [0, 8]",
            "trial 1 (shift = 8): --shift 8 is more than the margin",
        ),
        (grid, "batch_norm = \"sync\"", "arch_ = [1]", "arch_"),
        (
            "method = \"grid\"\nranks_per_trial = 3",
            "",
            "lr = [1.0]",
            "4 ranks are no whole number of groups",
        ),
        (
            "method = \"halving\"",
            "eval_every = 50",
            "lr = [0.1, 0.2, 0.3]",
            "nothing to compare",
        ),
    ] {
        write(&run, head, base, search);
        let error = run.fails(&["sweep", "sweep.toml"]);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(said), "{said}: {error}");
        assert!(!run.path("out").exists(), "{said}");
    }
    // The folder is still anybody's.
    write(&run, grid, "epochs = 1", "lr = [0.1, 0.2]");
    run.ok(&["sweep", "sweep.toml"]);
    assert_eq!(column(&run, "state"), ["done"; 2]);
}

#[test]
fn what_a_trial_would_meet_when_it_begins_is_found_before_the_first_begins() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    let native = BASE.replace(
        "arch = \"cnn\"\nengine = \"libtorch\"",
        "engine = \"native\"",
    );
    let tf32 = format!("{BASE}precision = \"tf32\"\n");
    let layout = format!("{native}layout = \"channels-last\"\narch = \"unet\"\n");
    for (base, search, said) in [
        (
            native.as_str(),
            "arch = [\"unet\", \"transformer\"]",
            "trial 1 (arch = transformer): --engine native: transformer",
        ),
        (&tf32, "lr = [0.1]", "CPUs have no TF32"),
        (&layout, "lr = [0.1]", "--layout"),
        (BASE, "init = [\"none.safetensors\"]", "none.safetensors"),
        (BASE, "start_motifs = [\"none.pfm\"]", "none.pfm"),
        (
            BASE,
            "kmer_input = [\"none\"]",
            "trial 0 (kmer_input = none): ",
        ),
    ] {
        write_all(&run, "method = \"grid\"", base, search);
        let error = run.fails(&["sweep", "sweep.toml"]);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(said), "{said}: {error}");
        assert!(!run.path("out").exists(), "{said}");
    }
}

#[test]
fn more_ranks_a_trial_go_on_only_where_they_change_no_step() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    let (one, two) = (
        "method = \"grid\"",
        "method = \"grid\"\nranks_per_trial = 2",
    );
    write(&run, one, "epochs = 1", "lr = [0.01, 0.02]");
    let typed = ["sweep", "sweep.toml", "--batch", "4"];
    run.ok(&typed);
    let remembered = fs::read_to_string(run.path("out/sweep.toml")).unwrap();
    write(&run, two, "epochs = 1", "lr = [0.01, 0.02]");
    let error = run.ranks(2).fails(&typed);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("4 windows a step and 6 steps an epoch on 1 ranks")
            && error.contains("with 8 and 3"),
        "{error}"
    );
    let now = fs::read_to_string(run.path("out/sweep.toml")).unwrap();
    assert_eq!(now, remembered, "a refused job claims nothing");
    write(&run, one, "epochs = 1", "lr = [0.01, 0.02]");
    run.ok(&typed);
}

#[test]
fn a_job_goes_on_past_a_trial_that_left_no_log_and_writes_its_table_at_once() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    write(&run, "method = \"grid\"", "epochs = 1", "lr = [0.01, 0.02]");
    // As a job leaves it in which memory ran out before the first step.
    fs::create_dir_all(run.path("out/results")).unwrap();
    let failed = r#"{"progress": {"step": 0, "epoch": 0, "done": 0, "training_seconds": 0.0, "samples": 0, "best": null,
        "best_step": 0, "waited": 0, "finished": false}, "failed": "CUDA out of memory"}"#;
    fs::write(run.path("out/results/trial-000.rung-0.json"), failed).unwrap();
    with_failures(&run);
    assert_eq!(column(&run, "state"), ["done", "failed"]);
    // Nothing is left to train, and the table is made anew.
    fs::remove_file(run.path("out/sweep.csv")).unwrap();
    fs::remove_dir_all(run.path("out/trial-001")).unwrap();
    with_failures(&run);
    assert_eq!(column(&run, "state"), ["done", "failed"]);
}

#[test]
fn a_long_look_at_the_trials_is_no_stall() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    write(&run, "method = \"grid\"", "epochs = 1", "init = [\"slow\"]");
    // Reading it ends when whoever writes it does.
    let slow = run.path("slow");
    nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut job = start(&run, 2);
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(&slow)
    };
    wait_for(&run, "reader", || open().is_ok());
    let writer = open().unwrap();
    // More than the stall timeout, and what ranks then take to ask around.
    thread::sleep(Duration::from_secs(6));
    drop(writer);
    assert!(!job.wait().unwrap().success());
    let said = said(&run);
    assert!(said.contains("slow") && !said.contains("stalled"), "{said}");
}
