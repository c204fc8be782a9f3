use super::contig::{Plan, SimulatedContig, Site};
use super::{GenomeOptions, PlantedCell, PlantedGenome, name};
use crate::error::Error;
use crate::text::TextFile;

const COLUMNS: usize = 60;

/// Sequence, sites, peaks and what was planted; the signal is not text.
pub fn write(options: &GenomeOptions, plan: &Plan) -> Result<PlantedGenome, Error> {
    let create = |name: &str| TextFile::create(&options.out.join(name));
    let mut fasta = create("genome.fa")?;
    let mut fai = create("genome.fa.fai")?;
    let mut sizes = create("chrom.sizes")?;
    let mut truth = create("truth.tsv")?;
    let mut matrix = create("ctcf.pfm")?;
    matrix.put(plan.motif.to_jaspar("SIM0001.1", &plan.motif.name))?;
    truth.put("contig\tstart\tend\tstrand\tsequence")?;
    let (mut peaks, mut cells) = (Vec::new(), Vec::new());
    for suffix in options.suffixes() {
        truth.put(format!("\topen{suffix}\tbound{suffix}"))?;
        peaks.push(create(&format!("ctcf{suffix}.narrowPeak"))?);
        cells.push(PlantedCell {
            name: suffix.strip_prefix('.').map(str::to_owned),
            ..PlantedCell::default()
        });
    }
    let mut cofactor_matrix = None;
    if let Some(motif) = &plan.cofactor {
        truth.put("\tcofactor_start\tcofactor_strand")?;
        let mut file = create("cofactor.pfm")?;
        file.put(motif.to_jaspar("SIM0002.1", &motif.name))?;
        cofactor_matrix = Some(file);
    }
    truth.put("\n")?;

    let mut planted = PlantedGenome {
        with_cofactor: plan.cofactor.as_ref().map(|_| 0),
        cells,
        out: options.out.clone(),
        ..PlantedGenome::default()
    };
    for index in 0..options.contigs {
        let (name, size) = (name(index), options.contig_length);
        let contig = SimulatedContig::new(plan, index);
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
        for (number, site) in contig.sites.iter().enumerate() {
            truth.put(format!("{name}\t{}", site_columns(site)))?;
            for (cell, peaks) in peaks.iter_mut().enumerate() {
                let open = contig.cells[cell].open[number];
                let peak = &contig.cells[cell].peaks[number];
                let bound = u8::from(peak.is_some());
                truth.put(format!("\t{}\t{bound}", u8::from(open)))?;
                if let Some(peak) = peak {
                    let (start, end, value, score) = (peak.start, peak.end, peak.value, peak.score);
                    let summit = peak.summit - start;
                    peaks.put(format!(
                        "{name}\t{start}\t{end}\t.\t{score}\t.\t{value:.3}\t-1\t-1\t{summit}\n"
                    ))?;
                }
                planted.cells[cell].open += u64::from(open);
                planted.cells[cell].bound += u64::from(bound);
            }
            if let Some(with) = &mut planted.with_cofactor {
                *with += u64::from(site.cofactor.is_some());
                truth.put(match &site.cofactor {
                    Some(at) => format!("\t{}\t{}", at.start, strand(at.forward)),
                    None => "\t.\t.".to_owned(),
                })?;
            }
            truth.put("\n")?;
            planted.sites += 1;
        }
        for (cell, planted) in planted.cells.iter_mut().enumerate() {
            planted.empty_regions += contig.cells[cell].empty_regions();
        }
    }
    let files = [fasta, fai, sizes, truth, matrix].into_iter();
    for file in files.chain(peaks).chain(cofactor_matrix) {
        file.close()?;
    }
    Ok(planted)
}

fn site_columns(site: &Site) -> String {
    let sequence = String::from_utf8_lossy(&site.sequence);
    let (start, end) = (site.start, site.start + site.sequence.len() as u64);
    format!("{start}\t{end}\t{}\t{sequence}", strand(site.forward))
}

fn strand(forward: bool) -> char {
    if forward { '+' } else { '-' }
}
