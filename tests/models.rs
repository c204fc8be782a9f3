//! The layer tables that users compare with the published ones.

use crate::common::Run;

fn table(arguments: &[&str]) -> String {
    Run::new().ok(&[&["models"], arguments].concat())
}

#[test]
fn the_unet_has_the_published_layers_and_parameters() {
    let table = table(&["unet"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let params = |name: &str| -> i64 {
        let row = rows
            .iter()
            .find(|row| row.first() == Some(&name))
            .unwrap_or_else(|| panic!("{name}\n{table}"));
        row[5].parse().unwrap()
    };
    // conv1d .. conv1d_22, conv1d_transpose .. _4: the table of the NTHU report
    let convolutions = [
        540, 1590, 2332, 3410, 5115, 7656, 11368, 16856, 25112, 37376, 55808, 83276, 73152, 36360,
        32640, 16176, 14592, 7200, 6342, 3108, 2856, 1386, 15,
    ];
    for (i, expected) in convolutions.into_iter().enumerate() {
        let name = if i == 0 {
            "conv1d".to_string()
        } else {
            format!("conv1d_{i}")
        };
        assert_eq!(params(&name), expected, "{name}");
    }
    for (i, expected) in [15768, 6960, 3104, 1365, 602].into_iter().enumerate() {
        let name = if i == 0 {
            "conv1d_transpose".to_string()
        } else {
            format!("conv1d_transpose_{i}")
        };
        assert_eq!(params(&name), expected, "{name}");
    }
    // 61 layers, the heading, three totals
    assert_eq!(table.lines().count(), 61 + 1 + 3);
    assert!(table.ends_with(
        "total parameters: 475,969\ntrainable parameters: 474,017\nnon-trainable parameters: 1,952\n"
    ));
    let concatenated = rows
        .iter()
        .find(|row| row.first() == Some(&"concatenate"))
        .unwrap();
    assert_eq!(
        concatenated[2..],
        [
            "(None,",
            "640,",
            "145)",
            "0",
            "conv1d_transpose,",
            "batch_normalization_9"
        ]
    );
}

#[test]
fn other_inputs_and_the_baseline_have_their_published_counts() {
    assert!(table(&["unet", "--channels", "6"]).contains("total parameters: 476,074"));
    assert!(
        table(&["unet", "--up-activation", "none", "--length", "32"])
            .contains("total parameters: 475,969")
    );
    assert!(table(&["cnn"]).contains("total parameters: 66,561"));
}

#[test]
fn impossible_models_are_refused() {
    let run = Run::new();
    assert!(
        run.fails(&["models", "unet", "--length", "100"])
            .contains("multiple of 32, found 100")
    );
    assert!(
        run.fails(&["models", "cnn", "--up-activation", "relu"])
            .contains("belongs to the unet")
    );
}
