//! What a model is: the layer tables that users compare with the published ones, and that any rank may be without rows.

use tfbind_mpi::scaling::random_header;
use tfbind_prep::schema::{Central, ContextWriter, Header, Stretch, Task};

use crate::common::{LENGTH, Run};

fn table(arguments: &[&str]) -> String {
    Run::new().ok(&[&["models"], arguments].concat())
}

#[test]
fn the_unet_has_the_published_layers_and_parameters() {
    let table = table(&["unet"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let params = |name: &str| -> i64 {
        let row = rows
            .iter()
            .find(|row| row.first() == Some(&name))
            .unwrap_or_else(|| panic!("{name}\n{table}"));
        row[5].parse().unwrap()
    };
    // conv1d .. conv1d_22, conv1d_transpose .. _4: the table of the NTHU report
    let convolutions = [
        540, 1590, 2332, 3410, 5115, 7656, 11368, 16856, 25112, 37376, 55808, 83276, 73152, 36360,
        32640, 16176, 14592, 7200, 6342, 3108, 2856, 1386, 15,
    ];
    for (i, expected) in convolutions.into_iter().enumerate() {
        let name = if i == 0 {
            "conv1d".to_string()
        } else {
            format!("conv1d_{i}")
        };
        assert_eq!(params(&name), expected, "{name}");
    }
    for (i, expected) in [15768, 6960, 3104, 1365, 602].into_iter().enumerate() {
        let name = if i == 0 {
            "conv1d_transpose".to_string()
        } else {
            format!("conv1d_transpose_{i}")
        };
        assert_eq!(params(&name), expected, "{name}");
    }
    // 61 layers, the heading, three totals
    assert_eq!(table.lines().count(), 61 + 1 + 3);
    assert!(table.ends_with(
        "total parameters: 475,969\ntrainable parameters: 474,017\nnon-trainable parameters: 1,952\n"
    ));
    let concatenated = rows
        .iter()
        .find(|row| row.first() == Some(&"concatenate"))
        .unwrap();
    assert_eq!(
        concatenated[2..],
        [
            "(None,",
            "640,",
            "145)",
            "0",
            "conv1d_transpose,",
            "batch_normalization_9"
        ]
    );
}

/// Widths by Python's int(25 * 1.13), int(28 * 1.13), ..., as in the entry's program.
#[test]
fn the_wide_unet_has_the_widths_and_the_dropout_of_its_entry() {
    let table = table(&["unet-wide"]);
    let (down, up) = ([25, 28, 31, 35, 39, 44], [38, 33, 29, 25, 22]);
    let mut expected = Vec::new();
    let mut inputs = 5;
    for width in down {
        expected.extend([(7 * inputs + 1) * width, (7 * width + 1) * width]);
        inputs = width;
    }
    for (width, skip) in up.into_iter().zip(down.into_iter().rev().skip(1)) {
        expected.extend([(7 * (width + skip) + 1) * width, (7 * width + 1) * width]);
    }
    expected.push(up[4] + 1);
    let params = |line: &str| -> i64 { line.split_whitespace().nth(5).unwrap().parse().unwrap() };
    let of = |kind: &str| -> Vec<&str> {
        let kind = format!("({kind})");
        table.lines().filter(|line| line.contains(&kind)).collect()
    };
    let convolutions: Vec<i64> = of("Conv1D").into_iter().map(params).collect();
    assert_eq!(convolutions, expected);
    assert_eq!(of("BatchNormalization").len(), 22);
    for dropout in of("Dropout") {
        assert!(dropout.contains("batch_normalization"), "{dropout}");
    }
    assert_eq!(of("Dropout").len(), 22);
}

#[test]
fn gates_stand_between_skips_and_the_way_back() {
    let table = table(&["unet-attention"]);
    let gates: Vec<&str> = table
        .lines()
        .filter(|line| line.contains("(Gate)"))
        .collect();
    assert_eq!(gates.len(), 5);
    // The first is the coarsest: its skip is the fifth block's, its score a convolution to one channel.
    assert!(
        gates[0].contains("(None, 640, 73)")
            && gates[0].ends_with("batch_normalization_9, conv1d_14"),
        "{table}"
    );
    assert!(table.contains("conv1d_transpose, gate\n"), "{table}");
}

#[test]
fn other_inputs_and_the_baseline_have_their_published_counts() {
    assert!(table(&["unet", "--channels", "6"]).contains("total parameters: 476,074"));
    assert!(
        table(&["unet", "--up-activation", "none", "--length", "32"])
            .contains("total parameters: 475,969")
    );
    assert!(table(&["cnn"]).contains("total parameters: 66,561"));
}

#[test]
fn impossible_models_are_refused() {
    let run = Run::new();
    assert!(
        run.fails(&["models", "unet", "--length", "100"])
            .contains("multiple of 32, found 100: tfbind-prep make --length 96")
    );
    assert!(
        run.fails(&["models", "transformer", "--length", "8"])
            .contains("multiple of 16, found 8: tfbind-prep make --length 16")
    );
    assert!(
        run.fails(&["models", "cnn", "--up-activation", "relu"])
            .contains("has no transposed convolution")
    );
    assert!(
        run.fails(&["models", "cnn", "--channels=-1"])
            .contains("-1 is not in 4..")
    );
    // Of no model there is no table.
    assert!(run.fails(&["models", "--length", "64"]).contains("error: "));
}

/// Windows around every base but the first and last 15 of two stretches.
fn write_bases(run: &Run, train: u64) {
    let header = Header {
        task: Task::Central(Central::Base),
        length: 31,
        tracks: Vec::new(),
        targets: vec!["base".into()],
        ..random_header(LENGTH)
    };
    let mut writer = ContextWriter::create(run.path("data.h5"), &header).unwrap();
    for (start, split, windows) in [(0, "train", train), (1000, "valid", 8)] {
        let stretch = Stretch {
            contig: 0,
            start,
            bases: windows + 30,
        };
        writer.add_split(split, vec![stretch], None).unwrap();
        let codes: Vec<u8> = (0..windows + 30)
            .map(|at| (at * at % 7 % 4) as u8)
            .collect();
        writer.append(split, &codes).unwrap();
    }
    writer.finish().unwrap();
}

/// Of nine windows in steps of four the last is alone, and one of two ranks has none.
#[test]
fn networks_of_context_train_where_a_rank_has_no_rows() {
    let mut run = Run::new();
    write_bases(&run, 9);
    run.train("kmer", &["--arch", "kmer", "--kmer", "2"]);
    let plan = ["--width", "0.03", "--global-batch", "4", "--epochs", "2"];
    for own in [
        &["--arch", "context-fusion"][..],
        &["--arch", "context-mlp", "--kmer-input", "kmer"],
    ] {
        let mut losses = Vec::new();
        for ranks in [1, 2] {
            let name = format!("{}{ranks}", own[1]);
            let said = run.ranks(ranks).train(&name, &[own, &plan].concat());
            assert!(!said.contains("batch norm"), "{said}");
            losses.push(run.losses(&name));
        }
        assert_eq!(losses[0].len(), 6);
        for (one, two) in losses[0].iter().zip(&losses[1]) {
            assert!((one - two).abs() < 1e-3 * one, "{own:?}: {one} {two}");
        }
    }
}
