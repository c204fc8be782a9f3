//! Small pictures as SVG text: lines, filled tracks, boxes.

use std::fmt::Write;

pub const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 15.0;

/// Colours that differ in lightness as well as in hue.
pub const BLUE: &str = "#2b5c8a";
pub const ORANGE: &str = "#d9731a";
pub const GREEN: &str = "#3a8f5c";
const GREY: &str = "#777";

pub struct Svg {
    body: String,
    height: f64,
}

/// A strip of the picture with its own scales.
pub struct Panel {
    pub top: f64,
    pub height: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub log: bool,
}

impl Panel {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let along = |value: f64, (low, high): (f64, f64)| {
            (value - low) / (high - low).max(f64::MIN_POSITIVE)
        };
        let up = match self.log {
            true => along(
                y.max(f64::MIN_POSITIVE).ln(),
                (self.y.0.ln(), self.y.1.ln()),
            ),
            false => along(y, self.y),
        };
        let across = LEFT + along(x, self.x) * (WIDTH - LEFT - RIGHT);
        (across, self.top + self.height * (1.0 - up.clamp(0.0, 1.0)))
    }
}

impl Svg {
    pub fn new(height: f64) -> Self {
        Self {
            body: String::new(),
            height,
        }
    }

    pub fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {0}\" width=\"{WIDTH}\" height=\"{0}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{1}</svg>\n",
            self.height, self.body
        )
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
        );
    }

    /// Frame, title, and the numbers at the ends of the upright axis.
    pub fn frame(&mut self, panel: &Panel, title: &str) {
        let (width, height, top) = (WIDTH - LEFT - RIGHT, panel.height, panel.top);
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#ccc\"/>"
        );
        self.text(LEFT, top - 5.0, "start", "black", title);
        self.text(LEFT - 5.0, top + 11.0, "end", GREY, &short(panel.y.1));
        self.text(LEFT - 5.0, top + height, "end", GREY, &short(panel.y.0));
    }

    /// The numbers at the ends of the level axis, and its name.
    pub fn x_axis(&mut self, panel: &Panel, name: &str, ends: (&str, &str)) {
        let y = panel.top + panel.height + 15.0;
        self.text(LEFT, y, "start", GREY, ends.0);
        self.text((WIDTH + LEFT) / 2.0, y, "middle", GREY, name);
        self.text(WIDTH - RIGHT, y, "end", GREY, ends.1);
    }

    pub fn line(
        &mut self,
        panel: &Panel,
        points: impl IntoIterator<Item = (f64, f64)>,
        colour: &str,
        width: f64,
    ) {
        let path = self::path(points.into_iter().map(|point| panel.place(point)));
        let _ = writeln!(
            self.body,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    /// A track filled down to the lower end of its scale; of the points that share a pixel the highest is drawn.
    pub fn area(&mut self, panel: &Panel, points: &[(f64, f64)], colour: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let ends = ((first.0, panel.y.0), (last.0, panel.y.0));
        let pixel = |point: &(f64, f64)| panel.place(*point).0.round();
        let highest = points
            .chunk_by(|a, b| pixel(a) == pixel(b))
            .filter_map(|same| same.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)));
        let around = std::iter::once(ends.0).chain(highest).chain([ends.1]);
        let path = self::path(around.map(|point| panel.place(point)));
        let _ = writeln!(
            self.body,
            "<path d=\"{path}Z\" fill=\"{colour}\" stroke=\"none\"/>"
        );
    }

    /// A box over the full height of the panel.
    pub fn span(&mut self, panel: &Panel, from: f64, to: f64, colour: &str) {
        let ((left, _), (right, _)) = (panel.place((from, 0.0)), panel.place((to, 0.0)));
        let _ = writeln!(
            self.body,
            "<rect x=\"{left:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            panel.top,
            (right - left).max(1.0),
            panel.height
        );
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (i, (x, y)) in points.enumerate() {
        let _ = write!(out, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    out
}

fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.0e}")
    } else {
        format!("{}", (value * 100.0).round() / 100.0)
    }
}
