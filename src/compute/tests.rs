use super::*;

const H200: Card = Card {
    free_bytes: 139 << 30,
    major: 9,
};
const HERE: Facts = Facts {
    gpu: Some(Some(H200)),
    synced: false,
    adam: true,
    plain_only: false,
    libtorch: false,
    data_bytes: 3 << 30,
};

#[test]
fn a_cpu_computes_plainly_but_for_libtorchs_layout() {
    let cpu = Facts { gpu: None, ..HERE };
    let chosen = Compute::choose(Typed::default(), cpu).unwrap();
    assert_eq!(chosen, Compute::PLAIN);
    let layout = |plain_only| {
        let libtorch = true;
        let facts = Facts {
            plain_only,
            libtorch,
            ..cpu
        };
        let chosen = Compute::choose(Typed::default(), facts).unwrap();
        assert_eq!(
            chosen.engine(EngineChoice::Libtorch),
            EngineChoice::Libtorch
        );
        chosen.layout
    };
    assert_eq!(
        [layout(false), layout(true)],
        [Layout::ChannelsLast, Layout::Plain]
    );
    let refused = |typed| Compute::choose(typed, cpu).unwrap_err().to_string();
    let none = Typed::default();
    let precision = Some(Precision::Tf32);
    assert!(refused(Typed { precision, ..none }).contains("no TF32"));
    let replay = Some(Replay::On);
    assert!(refused(Typed { replay, ..none }).contains("needs a GPU"));
    let feed = Some(Feed::Resident);
    assert!(refused(Typed { feed, ..none }).contains("on a GPU"));
}

#[test]
fn a_layout_that_is_typed_is_libtorchs() {
    let cpu = Facts { gpu: None, ..HERE };
    let engine = |layout, engine| {
        let typed = Typed {
            layout: Some(layout),
            ..Typed::default()
        };
        Compute::choose(typed, cpu).unwrap().engine(engine)
    };
    let auto = EngineChoice::Auto;
    assert_eq!(engine(LayoutChoice::Auto, auto), auto);
    for layout in [LayoutChoice::Plain, LayoutChoice::ChannelsLast] {
        assert_eq!(engine(layout, auto), EngineChoice::Libtorch);
        // Which then refuses.
        let native = EngineChoice::Native;
        assert_eq!(engine(layout, native), native);
    }
}

#[test]
fn a_gpu_takes_what_it_has_room_for() {
    let replay = Some(Replay::Auto);
    let typed = Typed {
        replay,
        ..Typed::default()
    };
    let chosen = Compute::choose(typed, HERE).unwrap();
    assert_eq!(chosen.precision, Precision::Tf32);
    assert_eq!(chosen.layout, Layout::ChannelsLast);
    assert!(!Compute::choose(Typed::default(), HERE).unwrap().replay);
    assert!(chosen.replay && chosen.resident && chosen.look_every == LOOK_EVERY);
    let large = Facts {
        data_bytes: 100 << 30,
        ..HERE
    };
    assert!(!Compute::choose(Typed::default(), large).unwrap().resident);
    let typed = Typed {
        feed: Some(Feed::Resident),
        ..Typed::default()
    };
    assert!(Compute::choose(typed, large).unwrap().resident);
    let larger = Facts {
        data_bytes: 200 << 30,
        ..HERE
    };
    let error = Compute::choose(typed, larger).unwrap_err().to_string();
    assert!(
        error.contains("214.7 GB") && error.contains("149.3 GB"),
        "{error}"
    );
}

#[test]
fn a_v100_and_a_build_without_headers_do_less() {
    let v100 = Facts {
        gpu: Some(Some(Card { major: 7, ..H200 })),
        ..HERE
    };
    let chosen = Compute::choose(Typed::default(), v100).unwrap();
    assert_eq!(
        (chosen.precision, chosen.layout),
        (Precision::F32, Layout::Plain)
    );
    let typed = Typed {
        precision: Some(Precision::Bf16),
        ..Typed::default()
    };
    assert!(Compute::choose(typed, v100).is_err());
    let bare = Facts {
        gpu: Some(None),
        ..HERE
    };
    let chosen = Compute::choose(Typed::default(), bare).unwrap();
    assert!(!chosen.replay && !chosen.resident);
    let typed = Typed {
        replay: Some(Replay::On),
        ..Typed::default()
    };
    let error = Compute::choose(typed, bare).unwrap_err().to_string();
    assert!(error.starts_with("--replay on: "), "{error}");
    let synced = Facts {
        synced: true,
        ..HERE
    };
    assert!(Compute::choose(typed, synced).is_err());
    let sgd = Facts {
        adam: false,
        ..HERE
    };
    assert_eq!(
        Compute::choose(Typed::default(), sgd).unwrap().look_every,
        1
    );
}

#[test]
fn bf16_on_a_cpu_is_the_native_engines_where_the_cpu_has_it() {
    let form = Compute {
        precision: Precision::Bf16,
        ..Compute::PLAIN
    };
    let expected = match engine::bf16() {
        true => EngineChoice::Auto,
        false => EngineChoice::Libtorch,
    };
    assert_eq!(form.engine(EngineChoice::Auto), expected);
    let layout = Layout::ChannelsLast;
    let other = Compute { layout, ..form };
    assert_eq!(other.engine(EngineChoice::Auto), EngineChoice::Libtorch);
    assert_eq!(form.engine(EngineChoice::Libtorch), EngineChoice::Libtorch);
}
