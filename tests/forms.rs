//! Training in other forms than the plain one, as far as a CPU can show it: the same losses, or a clear error.

use crate::common::Run;

/// Slowly: Adam's first steps turn the rounding of small gradients into whole steps.
const TRAIN: [&str; 7] = [
    "--global-batch",
    "4",
    "--epochs",
    "2",
    "--reverse-complement",
    "--lr",
    "1e-5",
];

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * b.abs(), "{a} instead of {b}");
    }
}

/// Weights and biases by name: no running statistics, no optimizer's moments.
fn trained(run: &Run, name: &str) -> Vec<f64> {
    let all = run.last(name).sorted_tensors().into_iter();
    let own =
        all.filter(|(name, _)| !name.starts_with("optimizer.") && !name.contains(".running_"));
    own.flat_map(|(_, values)| values).map(f64::from).collect()
}

/// Of the ways that two runs took from the same start.
fn cosine(start: &[f64], ends: [&[f64]; 2]) -> f64 {
    let ways = ends.map(|end| -> Vec<f64> {
        assert_eq!(end.len(), start.len());
        end.iter()
            .zip(start)
            .map(|(end, start)| end - start)
            .collect()
    });
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [one, other] = &ways;
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn other_forms_train_alike_on_one_rank_and_two() {
    for ranks in [1, 2] {
        let mut run = Run::new();
        run.ranks(ranks).write_data(24, |_, _| {});
        run.train("plain", &TRAIN);
        let plain = run.losses("plain");
        // A rate too small for single precision: the weights as drawn.
        run.train("start", &[&TRAIN[..5], &["--lr", "1e-30"]].concat());
        let start = trained(&run, "start");
        // Norms of eight places at the bottom make much of bf16's rounding: 0.53 with Adam, 0.63 with SGD; ways that have
        // nothing in common are at 0 within 0.002.
        for (name, form, computes, tolerance, least) in [
            (
                "last",
                ["--layout", "channels-last"],
                "libtorch, f32, layout channels-last,",
                1e-3,
                0.99,
            ),
            ("bf16", ["--precision", "bf16"], ", bf16,", 3e-2, 0.3),
            (
                "ahead",
                ["--look-every", "4"],
                ", the host looks every 4 steps,",
                1e-3,
                0.99,
            ),
        ] {
            let said = run.train(name, &[&TRAIN[..], &form].concat());
            let line = said.lines().find(|line| line.contains(" compute  "));
            assert!(line.is_some_and(|line| line.contains(computes)), "{said}");
            close(&run.losses(name), &plain, tolerance);
            let alike = cosine(&start, [&trained(&run, "plain"), &trained(&run, name)]);
            // NaN where a run's weights stayed where they were.
            assert!(alike > least, "{name} on {ranks} ranks: {alike}");
        }
    }
}

#[test]
fn a_step_that_is_not_finite_is_found_later_and_nothing_came_of_it() {
    let mut run = Run::new();
    run.ranks(2).write_data(32, |_, _| {});
    let wild = [
        "--batch",
        "4",
        "--warmup",
        "0",
        "--epochs",
        "9",
        "--lr",
        "1e30",
        "--schedule",
        "none",
    ];
    let ends = |name: &str, every: &str| {
        let train = [
            "train", "--data", "data.h5", "--run", name, "--device", "cpu",
        ];
        let every = ["--look-every", every];
        let stopped = run.fails(&[&train[..], &wild, &every].concat());
        let saved = run.last(name);
        let again = ["train", "--run", name, "--resume", "--non-finite", "skip"];
        let skipped = run.fails(&[&again[..], &every].concat());
        assert_eq!(run.last(name).header.progress.skipped, 10);
        let step = |text: &str| text.split(": not finite").next().map(str::to_string);
        (step(&stopped), step(&skipped), saved)
    };
    let (one, four) = (ends("one", "1"), ends("four", "4"));
    assert!(one.0.as_ref().is_some_and(|text| text.ends_with("step 2")));
    assert_eq!((&one.0, &one.1), (&four.0, &four.1));
    assert_eq!(one.2.header.progress.step, four.2.header.progress.step);
    for (a, b) in one.2.sorted_tensors().iter().zip(four.2.sorted_tensors()) {
        assert_eq!(a.0, b.0);
        for (a, b) in a.1.iter().zip(b.1) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1e-6), "{a} {b}");
        }
    }
}

#[test]
fn what_a_cpu_cannot_do_is_refused() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    for (arguments, expected) in [
        (["--precision", "tf32"], "no TF32"),
        (["--replay", "on"], "needs a GPU"),
        (["--feed", "resident"], "on a GPU"),
        (["--look-every", "0"], "at least 1"),
    ] {
        let whole = [
            "train", "--data", "data.h5", "--run", "run", "--device", "cpu",
        ];
        let error = run.fails(&[&whole[..], &TRAIN, &arguments].concat());
        assert!(error.contains(expected), "{error}");
    }
    let error = run.fails(&[
        "train", "--data", "data.h5", "--run", "run", "--device", "cpu", "--engine", "native",
        "--layout", "plain",
    ]);
    assert!(error.contains("a layout of its own"), "{error}");
    let error = run.fails(
        &[
            &["train", "--data", "data.h5", "--run", "run"][..],
            &["--optimizer", "sgd", "--look-every", "4"],
            &TRAIN,
        ]
        .concat(),
    );
    assert!(error.contains("only --optimizer adam"), "{error}");
}
