//! Writing bigWig from runs of equal values.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bigtools::beddata::BedParserStreamingIterator;
use bigtools::{BigWigWrite, Value};

use crate::error::Error;
use crate::partial::PartialFile;
use crate::schema::Contig;

/// Writes runs that come in byte order of contig names, then by start.
///
/// The index of a bigWig is searched by name, hence the order. Only contigs with a run are listed.
pub fn write(
    path: &Path,
    contigs: &[Contig],
    runs: impl Iterator<Item = Result<(String, Value), Error>>,
) -> Result<(), Error> {
    let partial = PartialFile::beside(path).map_err(Error::io(path))?;
    let sizes: Result<HashMap<_, _>, _> = contigs
        .iter()
        .map(|contig| u32::try_from(contig.size).map(|size| (contig.name.clone(), size)))
        .collect();
    let sizes = sizes.map_err(|_| {
        Error::Request(format!(
            "{}: bigWig holds contigs of up to 4 Gb, bedGraph longer ones too",
            path.display()
        ))
    })?;
    let writer = BigWigWrite::create_file(partial.path(), sizes).map_err(Error::io(path))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .map_err(Error::io(path))?;
    // The writer stops at the end of the runs, so a failure ends them and is looked at afterwards.
    let (mut failure, mut written) = (None, false);
    let runs = runs.map_while(|run| match run {
        Ok(run) => {
            written = true;
            Some(run)
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let result = writer.write(
        BedParserStreamingIterator::wrap_infallible_iter(runs, false),
        runtime,
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    if !written {
        return Err(Error::NothingToExport {
            path: path.to_owned(),
        });
    }
    result.map_err(|error| Error::Io {
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    partial.commit().map_err(Error::io(path))
}
