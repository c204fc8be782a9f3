//! The data file: what is written is read back, and what is wrong is named.

mod predictions;

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use tempfile::TempDir;
use tfbind_prep::schema::{Contig, DataFile, DataWriter, Error, Header, Locus, Task, Window};

fn header(tracks: usize) -> Header {
    Header {
        task: Task::PerBase,
        length: 20,
        margin: 3,
        genome: "toy".into(),
        contigs: vec![Contig {
            name: "chr1".into(),
            size: 1000,
        }],
        tracks: (0..tracks).map(|track| format!("track{track}")).collect(),
        targets: vec!["CTCF".into(), "REB1".into()],
        groups: vec!["TF".into(), String::new()],
        normalise: "log1p".into(),
        missing: "zero".into(),
        recipe: "length = 20\n".into(),
        recipe_hash: "ab".into(),
    }
}

/// Windows that differ in every value from row to row.
fn window(header: &Header, row: usize, masked: bool) -> Window {
    let label = |at: usize| match (at * 7 + row) % 5 {
        0 => 1,
        1 if masked => -1,
        _ => 0,
    };
    let (width, tracks) = (header.width(), header.tracks.len());
    Window {
        seq: (0..width)
            .map(|at| ((at + row) % 5) as u8 | if at % 3 == 0 { 0x80 } else { 0 })
            .collect(),
        signal: (0..width * tracks)
            .map(|at| f16::from_f32((at + row) as f32 / 4.0))
            .collect(),
        label: (0..header.targets.len() * header.label_len())
            .map(label)
            .collect(),
        locus: Locus {
            contig: 0,
            start: 20 * row as i64,
            strand: if row.is_multiple_of(2) { 1 } else { -1 },
        },
    }
}

fn write(path: &Path, header: &Header, masked: bool, windows: usize) {
    let mut writer = DataWriter::create(path, header, masked).unwrap();
    for row in 0..windows {
        let split = if row % 4 == 3 { "valid" } else { "train" };
        writer.push(split, &window(header, row, masked)).unwrap();
    }
    writer.add_missing("valid", 17).unwrap();
    writer.finish().unwrap();
}

fn read(path: &Path, split: &str, row: usize) -> Result<Window, Error> {
    let split = DataFile::open(path)?.split(split)?;
    let (mut seq, mut signal, mut label) = (vec![], vec![], vec![]);
    split.read_into(row, &mut seq, &mut signal, &mut label)?;
    Ok(Window {
        seq,
        signal,
        label,
        locus: split.loci()?[row],
    })
}

fn sample() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.h5");
    write(&path, &header(2), true, 8);
    (folder, path)
}

#[test]
fn windows_come_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    for (tracks, masked) in [(2, true), (2, false), (1, false), (0, true), (0, false)] {
        let path = folder.path().join("data.h5");
        let header = header(tracks);
        write(&path, &header, masked, 2050);
        let file = DataFile::open(&path).unwrap();
        assert_eq!(file.header(), &header);
        assert_eq!(file.splits(), ["train", "valid"]);
        assert_eq!(file.split("valid").unwrap().counts().missing_bases, 17);
        for (split, row, written) in [
            ("train", 0, 0),
            ("train", 5, 6),
            ("valid", 1, 7),
            ("train", 1537, 2049),
        ] {
            assert_eq!(
                read(&path, split, row).unwrap(),
                window(&header, written, masked)
            );
        }
    }
}

#[test]
fn counts_are_sums_over_labels() {
    let (_folder, path) = sample();
    let counts = DataFile::open(&path)
        .unwrap()
        .split("train")
        .unwrap()
        .counts();
    let labels: Vec<i8> = [0, 1, 2, 4, 5, 6]
        .iter()
        .flat_map(|&row| window(&header(2), row, true).label)
        .collect();
    let of = |value: i8| labels.iter().filter(|&&label| label == value).count() as u64;
    assert_eq!(
        (
            counts.windows,
            counts.positives,
            counts.negatives,
            counts.masked
        ),
        (6, of(1), of(0), of(-1))
    );
}

#[test]
fn equal_windows_make_equal_bytes() {
    let (_folder, path) = sample();
    let (_other_folder, other) = sample();
    assert!(fs::read(path).unwrap() == fs::read(other).unwrap());
}

#[test]
fn appends_to_a_batch_from_another_thread() {
    let (_folder, path) = sample();
    let split = DataFile::open(&path).unwrap().split("train").unwrap();
    let (seq, signal, label) = std::thread::spawn(move || {
        let (mut seq, mut signal, mut label) = (vec![], vec![], vec![]);
        for row in 0..3 {
            split
                .read_into(row, &mut seq, &mut signal, &mut label)
                .unwrap();
        }
        (seq, signal, label)
    })
    .join()
    .unwrap();
    assert_eq!(
        (seq.len(), signal.len(), label.len()),
        (3 * 26, 3 * 2 * 26, 3 * 2 * 20)
    );
}

#[test]
fn a_file_that_cannot_be_opened_says_why() {
    let (folder, path) = sample();
    let open = |name: &str| DataFile::open(folder.path().join(name)).unwrap_err();
    assert!(matches!(open("none.h5"), Error::Absent { .. }));

    fs::write(folder.path().join("text.h5"), "chr1\t0\t100\n").unwrap();
    assert!(matches!(open("text.h5"), Error::NotHdf5 { size: 11, .. }));
    fs::write(folder.path().join("empty.h5"), "").unwrap();
    assert!(matches!(open("empty.h5"), Error::NotHdf5 { size: 0, .. }));

    let bytes = fs::read(&path).unwrap();
    for keep in [40, 400, bytes.len() / 2, bytes.len() - 1] {
        fs::write(folder.path().join("cut.h5"), &bytes[..keep]).unwrap();
        assert!(
            matches!(open("cut.h5"), Error::Damaged { .. }),
            "{keep} bytes"
        );
    }

    hdf5::File::create(folder.path().join("other.h5")).unwrap();
    assert!(matches!(open("other.h5"), Error::NotOurs { .. }));
}

fn edit(path: &Path, change: impl FnOnce(&hdf5::File) -> hdf5::Result<()>) {
    let file = hdf5::File::open_rw(path).unwrap();
    change(&file).unwrap();
}

#[test]
fn another_version_asks_for_a_new_preparation() {
    let (_folder, path) = sample();
    edit(&path, |file| {
        file.attr("schema_version")?.write_scalar(&3u32)
    });
    let error = DataFile::open(&path).unwrap_err();
    assert!(matches!(
        error,
        Error::Version {
            found: 3,
            expected: 2,
            ..
        }
    ));
    assert!(
        error.to_string().contains("prepare the file again"),
        "{error}"
    );
}

#[test]
fn missing_and_misshapen_datasets_are_named() {
    let (_folder, path) = sample();
    edit(&path, |file| file.unlink("valid/seq"));
    match DataFile::open(&path).unwrap_err() {
        Error::MissingDataset { dataset, .. } => assert_eq!(dataset, "valid/seq"),
        other => panic!("{other}"),
    }

    let (_folder, path) = sample();
    edit(&path, |file| {
        file.dataset("train/signal")?.resize([4, 2, 26])
    });
    match DataFile::open(&path).unwrap_err() {
        Error::Shape {
            dataset,
            found,
            expected,
            ..
        } => {
            assert_eq!(
                (dataset.as_str(), found, expected),
                ("train/signal", vec![4, 2, 26], vec![6, 2, 26])
            );
        }
        other => panic!("{other}"),
    }

    let (_folder, path) = sample();
    edit(&path, |file| {
        file.unlink("train/seq")?;
        file.new_dataset::<f32>()
            .shape([6, 26])
            .create("train/seq")
            .map(drop)
    });
    assert!(matches!(
        DataFile::open(&path).unwrap_err(),
        Error::Type { .. }
    ));

    let (_folder, path) = sample();
    match DataFile::open(&path).unwrap().split("test").unwrap_err() {
        Error::NoSplit { present, .. } => assert_eq!(present, "train, valid"),
        other => panic!("{other}"),
    }
}

#[test]
fn wrong_values_are_found_as_they_are_read() {
    let (_folder, path) = sample();
    edit(&path, |file| {
        let mut seq = file.dataset("train/seq")?.read_2d::<u8>()?;
        seq[[2, 5]] = 0x85;
        file.dataset("train/seq")?.write(&seq)?;
        let mut label = file.dataset("train/label")?.read::<i8, ndarray::Ix3>()?;
        label[[1, 1, 9]] = 2;
        file.dataset("train/label")?.write(&label)?;
        let mut signal = file.dataset("train/signal")?.read::<f16, ndarray::Ix3>()?;
        signal[[3, 1, 4]] = f16::NEG_INFINITY;
        signal[[4, 0, 7]] = f16::NAN;
        file.dataset("train/signal")?.write(&signal)
    });
    assert!(read(&path, "train", 0).is_ok());
    assert!(matches!(
        read(&path, "train", 2).unwrap_err(),
        Error::Base {
            row: 2,
            column: 5,
            found: 0x85,
            ..
        }
    ));
    match read(&path, "train", 1).unwrap_err() {
        Error::Label {
            row: 1,
            target,
            column: 9,
            found: 2,
            ..
        } => assert_eq!(target, "REB1"),
        other => panic!("{other}"),
    }
    match read(&path, "train", 3).unwrap_err() {
        Error::Signal {
            track,
            column: 4,
            found,
            ..
        } => {
            assert_eq!((track.as_str(), found), ("track1", f32::NEG_INFINITY));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(
        read(&path, "train", 4).unwrap_err(),
        Error::Signal { column: 7, .. }
    ));
    assert!(matches!(
        read(&path, "train", 6).unwrap_err(),
        Error::NoRow {
            row: 6,
            rows: 6,
            ..
        }
    ));
}

#[test]
fn a_writer_dropped_before_its_end_leaves_the_older_file() {
    let (folder, path) = sample();
    let before = fs::read(&path).unwrap();
    let mut writer = DataWriter::create(&path, &header(2), false).unwrap();
    let masked = window(&header(2), 1, true);
    assert!(matches!(
        writer.push("train", &masked).unwrap_err(),
        Error::MaskedLabel { .. }
    ));
    let short = Window {
        seq: vec![0; 25],
        ..window(&header(2), 1, false)
    };
    assert!(matches!(
        writer.push("train", &short).unwrap_err(),
        Error::WindowShape {
            array: "seq",
            found: 25,
            expected: 26,
            ..
        }
    ));
    drop(writer);
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("none/data.h5");
    assert!(matches!(
        DataWriter::create(nowhere, &header(0), true).unwrap_err(),
        Error::Io { .. }
    ));
}
