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
/// Pixels of a digit: DejaVu Sans at size 12, wider than other fonts.
const DIGIT: f64 = 7.7;

/// Text between tags, of SVG or HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

pub struct Svg {
    body: String,
    height: f64,
    /// Pixels on the right of the panels.
    right: f64,
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
    fn place(&self, right: f64, (x, y): (f64, f64)) -> (f64, f64) {
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
        let across = LEFT + along(x, self.x) * (WIDTH - LEFT - right);
        (across, self.top + self.height * (1.0 - up.clamp(0.0, 1.0)))
    }
}

impl Svg {
    pub fn new(height: f64) -> Self {
        Self {
            body: String::new(),
            height,
            right: RIGHT,
        }
    }

    /// Leaves room for words on the right of all panels that follow.
    pub fn keep_right(&mut self, pixels: f64) {
        self.right = pixels;
    }

    pub fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {0}\" width=\"{WIDTH}\" height=\"{0}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{1}</svg>\n",
            self.height, self.body
        )
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
        );
    }

    /// Words at a point of a panel, so many pixels to the right and down.
    pub fn text_at(
        &mut self,
        panel: &Panel,
        point: (f64, f64),
        (right, down): (f64, f64),
        colour: &str,
        text: &str,
    ) {
        let (x, y) = panel.place(self.right, point);
        self.text(x + right, y + down, "start", colour, text);
    }

    /// Frame and title.
    pub fn outline(&mut self, panel: &Panel, title: &str) {
        let (width, height, top) = (WIDTH - LEFT - self.right, panel.height, panel.top);
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#ccc\"/>"
        );
        self.text(LEFT, top - 5.0, "start", "black", title);
    }

    /// Frame, title, and the numbers at the ends of the upright axis.
    pub fn frame(&mut self, panel: &Panel, title: &str) {
        self.outline(panel, title);
        let (height, top) = (panel.height, panel.top);
        self.text(LEFT - 5.0, top + 11.0, "end", GREY, &short(panel.y.1));
        self.text(LEFT - 5.0, top + height, "end", GREY, &short(panel.y.0));
    }

    /// The numbers at the ends of the level axis, and its name.
    pub fn x_axis(&mut self, panel: &Panel, name: &str, ends: (&str, &str)) {
        let y = panel.top + panel.height + 15.0;
        self.text(LEFT, y, "start", GREY, ends.0);
        self.text((WIDTH + LEFT) / 2.0, y, "middle", GREY, name);
        self.text(WIDTH - self.right, y, "end", GREY, ends.1);
    }

    /// The name of the level axis, below the numbers of its ticks.
    pub fn x_name(&mut self, panel: &Panel, name: &str) {
        let y = panel.top + panel.height + 30.0;
        self.text((WIDTH + LEFT) / 2.0, y, "middle", GREY, name);
    }

    /// A line of the grid, and its number on the left.
    pub fn level(&mut self, panel: &Panel, y: f64, name: &str) {
        let ends = [panel.x.0, panel.x.1].map(|x| (x, y));
        self.line(panel, ends, "#e4e4e4", 1.0);
        let (_, y) = panel.place(self.right, ends[0]);
        self.text(LEFT - 6.0, y + 4.0, "end", GREY, name);
    }

    /// The same upright, with its number below.
    pub fn tick(&mut self, panel: &Panel, x: f64, name: &str) {
        let ends = [panel.y.0, panel.y.1].map(|y| (x, y));
        self.line(panel, ends, "#e4e4e4", 1.0);
        let (x, y) = panel.place(self.right, ends[0]);
        self.text(x, y + 15.0, "middle", GREY, name);
    }

    /// Ticks from the left on, each where its number has room beside the last.
    pub fn ticks(&mut self, panel: &Panel, ticks: &[(f64, String)]) {
        let mut taken = f64::NEG_INFINITY;
        for (x, name) in ticks {
            let (at, _) = panel.place(self.right, (*x, panel.y.0));
            let half = DIGIT * (name.chars().count() + 1) as f64 / 2.0;
            if at - half >= taken {
                self.tick(panel, *x, name);
                taken = at + half;
            }
        }
    }

    pub fn line(
        &mut self,
        panel: &Panel,
        points: impl IntoIterator<Item = (f64, f64)>,
        colour: &str,
        width: f64,
    ) {
        self.dashes(panel, points, colour, width, "");
    }

    /// A line of dashes and gaps of so many pixels.
    pub fn dashes(
        &mut self,
        panel: &Panel,
        points: impl IntoIterator<Item = (f64, f64)>,
        colour: &str,
        width: f64,
        dashes: &str,
    ) {
        let path = self::path(
            points
                .into_iter()
                .map(|point| panel.place(self.right, point)),
        );
        self.stroke(&path, colour, width, dashes);
    }

    fn stroke(&mut self, path: &str, colour: &str, width: f64, dashes: &str) {
        let dashes = match dashes {
            "" => String::new(),
            _ => format!(" stroke-dasharray=\"{dashes}\""),
        };
        let _ = writeln!(
            self.body,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>"
        );
    }

    pub fn dot(&mut self, panel: &Panel, point: (f64, f64), colour: &str) {
        let (x, y) = panel.place(self.right, point);
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\" stroke=\"white\"/>"
        );
    }

    /// An error bar.
    pub fn whisker(&mut self, panel: &Panel, x: f64, (low, high): (f64, f64), colour: &str) {
        let (x, bottom) = panel.place(self.right, (x, low));
        let (_, top) = panel.place(self.right, (panel.x.0, high));
        let (left, right) = (x - 4.0, x + 4.0);
        let path = format!(
            "M{left:.1} {top:.1}H{right:.1}M{x:.1} {top:.1}V{bottom:.1}M{left:.1} {bottom:.1}H{right:.1}"
        );
        self.stroke(&path, colour, 1.2, "");
    }

    /// A level bar along the panel's x, at so many pixels from the top and so many high.
    pub fn bar(
        &mut self,
        panel: &Panel,
        (from, to): (f64, f64),
        (top, height): (f64, f64),
        colour: &str,
    ) {
        let ((left, _), (end, _)) = (
            panel.place(self.right, (from, 0.0)),
            panel.place(self.right, (to, 0.0)),
        );
        self.fill((left, top), (end - left, height), colour);
    }

    /// For a legend.
    pub fn square(&mut self, at: (f64, f64), colour: &str) {
        self.fill(at, (11.0, 11.0), colour);
    }

    /// For a legend: a short line from here.
    pub fn sample(&mut self, (x, y): (f64, f64), dashes: &str, dotted: bool, colour: &str) {
        self.stroke(&format!("M{x:.1} {y:.1}h28"), colour, 1.5, dashes);
        if dotted {
            let x = x + 14.0;
            let _ = writeln!(
                self.body,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
            );
        }
    }

    fn fill(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    /// A track filled down to the lower end of its scale; of the points that share a pixel the highest is drawn.
    pub fn area(&mut self, panel: &Panel, points: &[(f64, f64)], colour: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let ends = ((first.0, panel.y.0), (last.0, panel.y.0));
        let right = self.right;
        let pixel = |point: &(f64, f64)| panel.place(right, *point).0.round();
        let highest = points
            .chunk_by(|a, b| pixel(a) == pixel(b))
            .filter_map(|same| same.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)));
        let around = std::iter::once(ends.0).chain(highest).chain([ends.1]);
        let path = self::path(around.map(|point| panel.place(right, point)));
        let _ = writeln!(
            self.body,
            "<path d=\"{path}Z\" fill=\"{colour}\" stroke=\"none\"/>"
        );
    }

    /// An outline in a box of 100 x 100, stretched between two points of a panel.
    pub fn shape(
        &mut self,
        panel: &Panel,
        low: (f64, f64),
        high: (f64, f64),
        outline: &str,
        colour: &str,
    ) {
        let ((left, bottom), (right, top)) =
            (panel.place(self.right, low), panel.place(self.right, high));
        let (across, down) = ((right - left) / 100.0, (bottom - top) / 100.0);
        let _ = writeln!(
            self.body,
            "<path transform=\"translate({left:.2} {top:.2}) scale({across:.4} {down:.4})\" d=\"{outline}\" \
             fill=\"{colour}\" fill-rule=\"evenodd\"/>"
        );
    }

    /// A box over the full height of the panel.
    pub fn span(&mut self, panel: &Panel, from: f64, to: f64, colour: &str) {
        let at = |x| panel.place(self.right, (x, 0.0)).0;
        let (left, right) = (at(from), at(to));
        self.fill(
            (left, panel.top),
            ((right - left).max(1.0), panel.height),
            colour,
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

/// 1, 2 and 5 of every power of ten; only the powers where there are many.
pub fn decades((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let steps: &[i64] = if high / low > 3000.0 {
        &[1]
    } else {
        &[1, 2, 5]
    };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| steps.iter().map(move |&step| round(step, power)));
    all.filter(|(level, _)| (low..=high).contains(level))
        .collect()
}

/// So many times a power of ten, and its name; from text, since a product would show its rounding.
pub fn round(times: i64, power: i32) -> (f64, String) {
    let value: f64 = format!("{times}e{power}")
        .parse()
        .expect("a number it wrote itself");
    (value, plain(value))
}

/// All digits, with an exponent where noughts would be many.
pub fn plain(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1e-4..1e6 => value.to_string(),
        _ => format!("{value:e}"),
    }
}

pub fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.0e}")
    } else {
        format!("{}", (value * 100.0).round() / 100.0)
    }
}
