//! Kills training at random instants, resumes it, and proves that nothing is lost: chains of killed and resumed runs end
//! with the same bits as a run that nobody disturbed, and no kill leaves a job hanging.

mod chain;
#[allow(dead_code)] // the tests use the rest
#[path = "../../tests/common.rs"]
mod common;
mod job;
mod kill;
mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Parser;
use tfbind_mpi::sampler::SplitMix;

use crate::{
    chain::{Chain, KILLS, Reference, WINDOWS},
    common::Run,
    kill::{Kill, Moment},
};

/// Kill and resume training, and compare with undisturbed runs.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// Chains take these in turn; 1 runs without mpirun
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    ranks: Vec<usize>,
    /// Of the instants and victims
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Kills of one row of a table.
#[derive(Default)]
struct Row {
    kills: usize,
    cut_checkpoints: usize,
    resumed: usize,
    slowest: Duration,
    hangs: usize,
}

impl Row {
    fn add(&mut self, kill: &Kill, resumed: bool) {
        self.kills += 1;
        self.cut_checkpoints += usize::from(kill.cut_a_checkpoint);
        self.resumed += usize::from(resumed);
        self.slowest = self.slowest.max(kill.took);
        self.hangs += usize::from(kill.hung);
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut folder = Run::new();
    folder.write_data(WINDOWS, |_, _| {});
    let mut references = BTreeMap::new();
    for ranks in BTreeSet::from_iter(args.ranks.iter().copied()) {
        references.insert(ranks, Reference::make(&folder, ranks)?);
    }
    let (mut whole, mut failed) = (Row::default(), 0);
    let mut by_victims: BTreeMap<String, Row> = BTreeMap::new();
    let mut by_moment: BTreeMap<Moment, Row> = BTreeMap::new();
    for (number, &ranks) in args.ranks.iter().cycle().enumerate() {
        if whole.kills >= args.kills {
            break;
        }
        let (began, name) = (Instant::now(), format!("chain-{}", number + 1));
        let most = KILLS.min(args.kills - whole.kills);
        let mut random = SplitMix::keyed(&[args.seed, number as u64]);
        let Chain { kills, differences } =
            references[&ranks].chain(&folder, &name, ranks, most, &mut random);
        let equal = differences.is_empty();
        for kill in &kills {
            let kind = match kill.moment {
                Moment::Writing => &format!("{} in writing", kill.victims.kind()),
                _ => kill.victims.kind(),
            };
            let row = by_victims.entry(format!("{ranks:>5}  {kind}"));
            row.or_default().add(kill, equal);
            by_moment.entry(kill.moment).or_default().add(kill, equal);
            whole.add(kill, equal);
        }
        let shown: Vec<String> = kills.iter().map(Kill::to_string).collect();
        println!(
            "{name:<9} {ranks} ranks  {:>4} kills  {}  {:.1} s  {}",
            whole.kills,
            if equal { "bit-equal" } else { "DIFFERS" },
            began.elapsed().as_secs_f64(),
            shown.join(", ")
        );
        if equal {
            fs::remove_dir_all(folder.path(&name))?;
            continue;
        }
        failed += 1;
        folder.dir.disable_cleanup(true);
        for difference in differences {
            println!("    {difference}");
        }
        println!("    kept: {}", folder.path(&name).display());
        ensure!(!kills.is_empty(), "{name}: training fails without a kill");
    }
    println!("\n* a checkpoint was being written: its partial file stayed behind\n");
    let columns = "  kills  cut checkpoints  resumed bit-equal  slowest end  hangs";
    println!("{:<32}{columns}", "ranks  killed");
    for (kind, row) in &by_victims {
        println!("{}", line(kind, row));
    }
    println!("\n{:<32}{columns}", "during");
    for (moment, row) in &by_moment {
        println!("{}", line(&moment.to_string(), row));
    }
    println!(
        "\nfaults: {} kills, {} resumed bit-equal, slowest end {:.2} s, {} hangs",
        whole.kills,
        whole.resumed,
        whole.slowest.as_secs_f64(),
        whole.hangs
    );
    let proved = whole.resumed == whole.kills && whole.hangs == 0 && failed == 0;
    Ok(ExitCode::from(u8::from(!proved)))
}

fn line(name: &str, row: &Row) -> String {
    let slowest = format!("{:.2} s", row.slowest.as_secs_f64());
    format!(
        "{name:<32}{:>7}{:>17}{:>19}{slowest:>13}{:>7}",
        row.kills, row.cut_checkpoints, row.resumed, row.hangs
    )
}
