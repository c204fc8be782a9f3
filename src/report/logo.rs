//! Sequence logos: letters as high as they tell something (Schneider & Stephens 1990).

use super::svg::{BLUE, ORANGE, Panel, Svg};

/// Outlines in a box of 100 x 100, and colours.
fn letter(letter: char) -> (&'static str, &'static str) {
    match letter {
        '0' => (
            "M50 0C18 0 2 20 2 50C2 80 18 100 50 100C82 100 98 80 98 50C98 20 82 0 50 0ZM50 17C68 17 77 28 77 50C77 72 68 \
             83 50 83C32 83 23 72 23 50C23 28 32 17 50 17Z",
            ORANGE,
        ),
        '1' => ("M14 24L46 0H64V82H90V100H16V82H44V24L14 42Z", BLUE),
        _ => panic!("no outline of the letter {letter}"),
    }
}

/// Letters with their heights in the panel's y; a column is 1 wide in its x, from 0 on.
pub fn draw(svg: &mut Svg, panel: &Panel, columns: &[Vec<(char, f64)>]) {
    for (place, column) in columns.iter().enumerate() {
        let mut letters = column.clone();
        letters.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut below = 0.0;
        for (symbol, height) in letters {
            let (outline, colour) = letter(symbol);
            let (from, to) = (place as f64 + 0.05, place as f64 + 0.95);
            svg.shape(panel, (from, below), (to, below + height), outline, colour);
            below += height;
        }
    }
}
