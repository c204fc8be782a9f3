use tfbind_prep::schema::{
    Contig, DataFile, Error, Locus, PredictionFile, PredictionHeader, PredictionWriter, Task,
};

#[test]
fn predictions_come_back_and_are_no_data_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.h5");
    let header = PredictionHeader {
        task: Task::PerBase,
        length: 4,
        bin: None,
        margin: 0,
        genome: "toy".into(),
        contigs: vec![Contig {
            name: "chr1".into(),
            size: 1000,
        }],
        targets: vec!["CTCF".into(), "REB1".into()],
        model: "none".into(),
    };
    let values: Vec<f32> = (0..5 * 8).map(|value| value as f32 / 40.0).collect();
    let loci: Vec<Locus> = (0..5)
        .map(|row| Locus {
            contig: 0,
            start: 4 * row,
            strand: 1,
        })
        .collect();
    let mut writer = PredictionWriter::create(&path, &header, 5).unwrap();
    writer.write_rows(2, &values[16..]).unwrap();
    writer.write_loci(&loci).unwrap();
    assert!(matches!(
        writer.write_rows(4, &values[..16]).unwrap_err(),
        Error::Rows {
            first: 4,
            end: 6,
            rows: 5,
            ..
        }
    ));
    assert!(matches!(
        writer.finish().unwrap_err(),
        Error::Unfinished {
            written: 3,
            rows: 5,
            ..
        }
    ));
    assert!(!path.exists());

    let mut writer = PredictionWriter::create(&path, &header, 5).unwrap();
    writer.write_rows(2, &values[16..]).unwrap();
    writer.write_rows(0, &values[..16]).unwrap();
    writer.write_loci(&loci).unwrap();
    writer.finish().unwrap();
    let file = PredictionFile::open(&path).unwrap();
    assert_eq!((file.header(), file.len()), (&header, 5));
    assert_eq!(file.loci().unwrap(), loci);
    assert_eq!(file.read_rows(1..4).unwrap(), values[8..32]);
    assert!(matches!(
        DataFile::open(&path).unwrap_err(),
        Error::WrongSchema { .. }
    ));
}
