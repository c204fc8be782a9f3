//! `simulate`: a small genome in which neither the motif nor open chromatin alone tells where CTCF
//! binds, but both together do.

mod contig;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bigtools::Value;
use clap::Args;

use crate::bigwig;
use crate::error::Error;
use crate::motif::Motif;
use crate::schema::Contig;
use contig::SimulatedContig;

const COLUMNS: usize = 60;
const MIN_SPACING: u64 = 3000;

#[derive(Debug, Clone, Args)]
pub struct SimulateOptions {
    /// Folder for the files; created if it is not there
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value_t = 10)]
    pub contigs: usize,
    #[arg(long, default_value_t = 400_000)]
    pub contig_length: u64,
    /// Bases between planted sites, from 3000
    #[arg(long, default_value_t = 4000)]
    pub site_spacing: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl SimulateOptions {
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
        Ok(())
    }
}

/// How many of what were planted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    pub sites: u64,
    pub open: u64,
    pub bound: u64,
    pub empty_regions: u64,
}

pub fn simulate(options: &SimulateOptions) -> Result<Planted, Error> {
    options.check()?;
    let folder = &options.out;
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let motif = Motif::ctcf();
    let planted = write_text_files(options, &motif)?;

    // The index of a bigWig is in byte order of names; a contig comes out the same a second time.
    let contigs: Vec<_> = (0..options.contigs)
        .map(|index| Contig {
            name: name(index),
            size: options.contig_length,
        })
        .collect();
    let mut order: Vec<_> = (0..options.contigs).collect();
    order.sort_by_key(|&index| name(index));
    let runs = order.iter().flat_map(|&index| {
        let contig = SimulatedContig::new(options, &motif, index);
        contig
            .signal()
            .into_iter()
            .map(move |run: Value| Ok((name(index), run)))
    });
    bigwig::write(&folder.join("dnase.bigWig"), &contigs, runs)?;
    Ok(planted)
}

fn name(index: usize) -> String {
    format!("sim{}", index + 1)
}

/// A text file being written, which knows its path for errors.
struct TextFile {
    path: PathBuf,
    out: BufWriter<File>,
    written: u64,
}

impl TextFile {
    fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        let out = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
        Ok(Self {
            path,
            out,
            written: 0,
        })
    }

    fn put(&mut self, text: impl AsRef<[u8]>) -> Result<(), Error> {
        self.written += text.as_ref().len() as u64;
        self.out
            .write_all(text.as_ref())
            .map_err(Error::io(&self.path))
    }

    fn close(mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::io(&self.path))
    }
}

fn write_text_files(options: &SimulateOptions, motif: &Motif) -> Result<Planted, Error> {
    let create = |name| TextFile::create(&options.out, name);
    let mut fasta = create("genome.fa")?;
    let mut fai = create("genome.fa.fai")?;
    let mut sizes = create("chrom.sizes")?;
    let mut peaks = create("ctcf.narrowPeak")?;
    let mut truth = create("truth.tsv")?;
    let mut matrix = create("ctcf.pfm")?;
    matrix.put(motif.to_jaspar("SIM0001.1", "CTCF"))?;
    truth.put("contig\tstart\tend\tstrand\tsequence\topen\tbound\n")?;

    let mut planted = Planted::default();
    for index in 0..options.contigs {
        let (name, size) = (name(index), options.contig_length);
        let contig = SimulatedContig::new(options, motif, index);
        fasta.put(format!(">{name}\n"))?;
        let offset = fasta.written;
        for line in contig.letters.chunks(COLUMNS) {
            fasta.put(line)?;
            fasta.put("\n")?;
        }
        fai.put(format!(
            "{name}\t{size}\t{offset}\t{COLUMNS}\t{}\n",
            COLUMNS + 1
        ))?;
        sizes.put(format!("{name}\t{size}\n"))?;
        for site in &contig.sites {
            let strand = if site.forward { '+' } else { '-' };
            let sequence = String::from_utf8_lossy(&site.sequence);
            let (start, end) = (site.start, site.start + motif.len() as u64);
            let (open, bound) = (u8::from(site.open), u8::from(site.peak.is_some()));
            truth.put(format!(
                "{name}\t{start}\t{end}\t{strand}\t{sequence}\t{open}\t{bound}\n"
            ))?;
            if let Some(peak) = &site.peak {
                let (start, end, value, score) = (peak.start, peak.end, peak.value, peak.score);
                let summit = peak.summit - start;
                peaks.put(format!(
                    "{name}\t{start}\t{end}\t.\t{score}\t.\t{value:.3}\t-1\t-1\t{summit}\n"
                ))?;
            }
            planted.sites += 1;
            planted.open += u64::from(open);
            planted.bound += u64::from(bound);
        }
        planted.empty_regions += contig.empty_regions();
    }
    for file in [fasta, fai, sizes, peaks, truth, matrix] {
        file.close()?;
    }
    Ok(planted)
}
