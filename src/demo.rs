//! The teaching set: small models on generated data, what was published beside what comes out here. From "Deep Learning
//! by Example on Biowulf", class 2 (G. Denisov, NIH): recurrent and convolutional networks. Every model is trained by
//! the one loop, on a data file like any other.

mod bits;
mod detection;
mod discovery;
mod pwm;
mod stage;
mod table;
mod valley;
mod vanishing;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{cli::DemoArgs, comm::Comm, plan::word};
use detection::Detector;
use stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Demo {
    /// A SimpleRNN of 2 units learns whether 111 stands among ten bits
    MotifDetectionRnn,
    /// The same by a Conv1D of 2 filters
    MotifDetectionConv,
    /// What motif that Conv1D found: windows at its filter's maximum, counts, consensus and logo
    MotifDiscovery,
    /// The next bit of 0^n 1^n: a SimpleRNN forgets, an LSTM counts
    VanishingGradient,
    /// SGD along a narrow valley: small and large rate, momentum, Nesterov
    Valley,
}

pub fn run(comm: &dyn Comm, args: &DemoArgs) -> Result<ExitCode> {
    let Some(demo) = args.demo else {
        if comm.rank() == 0 {
            print!("{}", list());
        }
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(
        demo != Demo::Valley || (args.epochs.is_none() && args.seeds.is_none()),
        "demo valley takes steps until it is down: it has no --epochs and no --seeds"
    );
    let began = Instant::now();
    let name = word(demo);
    let stage = Stage::open(comm, &name, args)?;
    let table = match demo {
        Demo::MotifDetectionRnn => detection::show(&stage, &Detector::RNN)?,
        Demo::MotifDetectionConv => detection::show(&stage, &Detector::CONV)?,
        Demo::MotifDiscovery => discovery::show(&stage)?,
        Demo::VanishingGradient => vanishing::show(&stage)?,
        Demo::Valley => valley::show(&stage)?,
    };
    let text = format!("{name}: {table}");
    stage.write(stage::TABLE, &text)?;
    if comm.rank() == 0 {
        let seconds = began.elapsed().as_secs_f64();
        print!("{text}");
        println!("{seconds:.0} s; {}", stage.folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    let named = Demo::value_variants().iter().map(|demo| {
        let value = demo.to_possible_value().expect("none is hidden");
        let help = value.get_help().map(ToString::to_string);
        format!("{:<22}{}\n", value.get_name(), help.unwrap_or_default())
    });
    named.collect()
}
