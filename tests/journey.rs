//! From genome files to a bigWig of predictions, with both programs, as the README has it.

use std::{fs, path::Path, process::Command};

use crate::common::Run;

#[test]
fn from_genome_files_to_a_bigwig_on_two_ranks() {
    let mut run = Run::new();
    let folder = run.dir.path().to_path_buf();
    let prep = Path::new(env!("CARGO_BIN_EXE_tfbind-mpi")).with_file_name("tfbind-prep");
    let prep = |arguments: &str| {
        let output = Command::new(&prep)
            .args(arguments.split_whitespace())
            .current_dir(&folder)
            .output()
            .unwrap_or_else(|err| {
                panic!(
                    "{}: {err}; cargo test --workspace builds it",
                    prep.display()
                )
            });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    // Contigs that are no multiple of the window: the last window of each reaches past its end.
    prep("simulate --out genome --contigs 3 --contig-length 30000 --seed 5");
    prep(
        "make --fasta genome/genome.fa --signal DNase=genome/dnase.bigWig --peaks CTCF=genome/ctcf.narrowPeak \
          --widen 25 --length 512 --margin 16 --valid sim2 --test sim3 --out data.h5",
    );
    assert!(prep("inspect data.h5 --split test --rows 0").contains("sim3:"));

    run.ranks(2);
    let plan = [
        "--batch",
        "8",
        "--epochs",
        "2",
        "--reverse-complement",
        "--shift",
        "16",
        "--clip-norm",
        "1",
    ];
    run.train("run", &plan);
    let report = run.ok(&[
        "evaluate",
        "run",
        "--motif",
        "genome/ctcf.pfm",
        "--motif-reach",
        "25",
    ]);
    for name in [
        "loss ",
        "pr_auc ",
        "auroc ",
        "dice_coef ",
        "binary_io_u ",
        "training_time ",
        "samples_per_s ",
        "ranks 2",
        "device cpu",
    ] {
        assert!(
            report.lines().any(|line| line.starts_with(name)),
            "{name}: {report}"
        );
    }
    assert!(
        report.contains("DNase alone") && report.contains("motif + signal"),
        "{report}"
    );
    run.ok(&["predict", "run", "--half-window"]);
    prep("export run/predictions_test.h5 --bigwig run/p.bigWig --bedgraph run/p.bedGraph");
    let magic = fs::read(run.path("run/p.bigWig")).unwrap()[..4].to_vec();
    assert_eq!(magic, 0x888F_FC26u32.to_le_bytes());
    let last = fs::read_to_string(run.path("run/p.bedGraph")).unwrap();
    let last: Vec<&str> = last.lines().last().unwrap().split('\t').collect();
    assert_eq!(last[..1], ["sim3"]);
    assert_eq!(last[2], "30000", "predictions end where the contig ends");

    run.ranks(1).ok(&["report", "run"]);
    let page = fs::read_to_string(run.path("run/report.html")).unwrap();
    assert!(page.contains("CTCF: predicted probability") && page.contains("validation scores"));
}
