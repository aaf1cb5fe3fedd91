//! Ratios as bars, for documents: an SVG that needs no script, style sheet or font of its own.

use std::fmt::Write as _;

/// A picture of ratios.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// What is drawn, and what the line means.
    pub title: &'a str,
    /// The ratio at which a line stands; bars that reach it have another colour.
    pub line: f64,
    /// What each bar is, and its length.
    pub bars: Vec<(String, f64)>,
}

/// Width of the picture, where bars begin, and the length of the longest.
const WIDTH: f64 = 820.0;
const LEFT: f64 = 330.0;
const LONGEST: f64 = 420.0;
/// Height of a row.
const ROW: usize = 22;
/// Height of what is above the rows.
const HEAD: usize = 30;

impl Bars<'_> {
    /// The picture as a file holds it.
    #[must_use]
    pub fn svg(&self) -> String {
        let scale = LONGEST / self.bars.iter().map(|(_, ratio)| *ratio).fold(2.0 * self.line, f64::max);
        let height = HEAD + ROW * self.bars.len() + 10;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"10\" y=\"18\">{}</text>\n",
            escaped(self.title)
        );
        for (n, (name, ratio)) in self.bars.iter().enumerate() {
            let top = HEAD + n * ROW;
            let base = top + 12;
            let colour = if *ratio >= self.line { "#2a7" } else { "#c63" };
            let length = scale * ratio;
            let digits = if *ratio < 10.0 { 2 } else { 0 };
            let _infallible = writeln!(
                text,
                "<text x=\"10\" y=\"{base}\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{base}\">{ratio:.digits$}</text>",
                escaped(name),
                LEFT + length + 6.0,
            );
        }
        let line = LEFT + scale * self.line;
        let _infallible = writeln!(
            text,
            "<line x1=\"{line:.1}\" x2=\"{line:.1}\" y1=\"26\" y2=\"{height}\" stroke=\"#333\"/>\n</svg>"
        );
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_ratios_and_reach_the_line_or_not() {
        let bars = vec![("a <b>".to_owned(), 40.0), ("c".to_owned(), 10.0)];
        let svg = Bars { title: "T & U", line: 20.0, bars }.svg();
        assert!(svg.contains("T &amp; U") && svg.contains("a &lt;b&gt;"), "{svg}");
        assert!(svg.contains("width=\"420.0\" height=\"15\" fill=\"#2a7\""), "{svg}");
        assert!(svg.contains("width=\"105.0\" height=\"15\" fill=\"#c63\""), "{svg}");
        assert!(svg.contains("<line x1=\"540.0\" x2=\"540.0\""), "{svg}");
    }
}
