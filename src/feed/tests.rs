use std::{sync::atomic::AtomicBool, thread};

use super::*;
use crate::data::tests::{hidden, windows};
use tfbind_prep::schema::Central;

fn draws() -> Vec<Draw> {
    let draw = |row, shift, reverse_complement| Draw {
        row,
        between: false,
        shift,
        reverse_complement,
    };
    vec![
        draw(0, 0, false),
        draw(1, -2, false),
        draw(1, 1, true),
        draw(0, 2, true),
    ]
}

#[test]
fn rows_on_the_device_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(folder.path());
    let io = windows.io();
    let never = AtomicBool::new(false);
    let resident = Resident::load(&windows, Device::Cpu, &never).unwrap();
    let drawn = Rows::drawn(draws(), Arc::new(resident.unwrap()));
    let read = windows.read(&draws()).unwrap();
    let both = |rows: &Rows| (rows.input(io, Device::Cpu), rows.labels(io, Device::Cpu));
    let (here, there) = (both(&read), both(&drawn));
    assert!(here.0.equal(&there.0) && here.1.equal(&there.1));
    let one = both(&drawn.one(2));
    assert!(one.0.equal(&here.0.narrow(0, 2, 1)) && one.1.equal(&here.1.narrow(0, 2, 1)));
    assert_eq!(Resident::bytes(&windows), 2 * (12 * 5 + 2 * 8));
}

#[test]
fn hidden_bases_on_the_device_are_told_on_both_strands() {
    let folder = tempfile::tempdir().unwrap();
    for central in [Central::Base, Central::BasePair, Central::Purine] {
        let windows = hidden(folder.path(), central);
        let io = windows.io();
        let resident = Resident::load(&windows, Device::Cpu, &AtomicBool::new(false)).unwrap();
        let draws: Vec<Draw> = (0..12)
            .map(|i| Draw {
                reverse_complement: i % 2 == 1,
                ..Draw::from(i / 2)
            })
            .collect();
        let drawn = Rows::drawn(draws.clone(), Arc::new(resident.unwrap()));
        let read = windows.read(&draws).unwrap();
        let both = |rows: &Rows| (rows.input(io, Device::Cpu), rows.labels(io, Device::Cpu));
        let (here, there) = (both(&read), both(&drawn));
        assert!(
            here.0.equal(&there.0) && here.1.equal(&there.1),
            "{central:?}"
        );
    }
}

#[test]
fn channels_last_holds_the_same_and_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(folder.path());
    let (io, rows) = (windows.io(), windows.read(&draws()).unwrap());
    let compact = rows.compact(&rows.send(io, Device::Cpu));
    let form = Form {
        layout: Layout::ChannelsLast,
        ..Form::plain(io)
    };
    let (plain, last) = (Form::plain(io).input(&compact), form.input(&compact));
    let [batch, length] = [rows.len() as i64, io.length];
    assert_eq!(last.size(), [batch, 8, 1, length]);
    assert_eq!(last.stride(), [8 * length, 1, 8 * length, 8]);
    let last = last.squeeze_dim(2);
    assert!(last.narrow(1, 0, io.channels).equal(&plain));
    let rest = last.narrow(1, io.channels, 8 - io.channels);
    assert_eq!(rest.abs().max().double_value(&[]), 0.0);
}

#[test]
fn a_loader_goes_over_to_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let windows = Arc::new(windows(folder.path()));
    let filling = Filling::start(windows, Device::Cpu).unwrap();
    let place = filling.place();
    let start = std::time::Instant::now();
    while place.get().is_none() {
        assert!(start.elapsed().as_secs() < 10);
        thread::yield_now();
    }
    assert!(place.get().unwrap().is_ok());
}
