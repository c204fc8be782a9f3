//! The names of forms: `tf32+last+replay+resident` and the like; what is not named is plain.

use std::{fmt, str::FromStr};

use tfbind_mpi::{
    compute::{Compute, Precision},
    model::Layout,
};

/// Where a step's rows come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Rows that lie in the host's memory: the copies alone
    Memory,
    /// The data file, through the loader
    File,
    /// The GPU
    Resident,
}

#[derive(Clone, Debug)]
pub struct Form {
    name: String,
    pub compute: Compute,
    pub source: Source,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut form = Form {
            name: name.into(),
            compute: Compute {
                look_every: 16,
                ..Compute::PLAIN
            },
            source: Source::Memory,
        };
        for word in name.split('+') {
            match word {
                "f32" => form.compute.precision = Precision::F32,
                "tf32" => form.compute.precision = Precision::Tf32,
                "bf16" => form.compute.precision = Precision::Bf16,
                "last" => form.compute.layout = Layout::ChannelsLast,
                "replay" => form.compute.replay = true,
                "looking" => form.compute.look_every = 1,
                "file" => form.source = Source::File,
                "resident" => form.source = Source::Resident,
                _ => return Err(format!("{word}: not a part of a form")),
            }
        }
        form.compute.resident = form.source == Source::Resident;
        Ok(form)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.name)
    }
}
