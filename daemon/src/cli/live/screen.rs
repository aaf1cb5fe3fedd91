//! The terminal while it is ours: another screen, without a cursor, and everything as before afterwards.

use std::io::{self, Write as _};

use crossterm::style::{Attribute, Color, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, execute, queue};

/// How a line looks. Every look says the same as its words do: without colours nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Heading,
    Quiet,
    Good,
    Warning,
    Bad,
}

/// One line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) look: Look,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(look: Look, text: impl Into<String>) -> Self {
        Self { look, text: text.into() }
    }
}

/// The terminal; dropping it gives it back.
pub(super) struct Screen {
    colours: bool,
    /// What stands there is not what was drawn.
    stale: bool,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        // https://no-color.org
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        enable_raw_mode()?;
        let screen = Self { colours, stale: true };
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// The next drawing begins with an empty screen.
    pub(super) fn forget(&mut self) {
        self.stale = true;
    }

    /// Draws as much as there is room for.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let (columns, rows) = size()?;
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        if std::mem::take(&mut self.stale) {
            queue!(out, Clear(ClearType::All))?;
        }
        for (line, row) in lines.iter().zip(0..rows) {
            queue!(out, cursor::MoveTo(0, row))?;
            self.dress(&mut out, line.look)?;
            let text: String = line.text.chars().take(columns.into()).collect();
            write!(out, "{text}")?;
            queue!(out, ResetColor, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < usize::from(rows) {
            queue!(out, Clear(ClearType::FromCursorDown))?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }

    fn dress(&self, out: &mut impl io::Write, look: Look) -> io::Result<()> {
        let (colour, attribute) = match look {
            Look::Plain => (None, None),
            Look::Heading => (None, Some(Attribute::Bold)),
            Look::Quiet => (None, Some(Attribute::Dim)),
            Look::Good => (Some(Color::DarkGreen), None),
            Look::Warning => (Some(Color::DarkYellow), None),
            Look::Bad => (Some(Color::DarkRed), None),
        };
        if let Some(colour) = colour.filter(|_| self.colours) {
            queue!(out, SetForegroundColor(colour))?;
        }
        if let Some(attribute) = attribute {
            queue!(out, SetAttribute(attribute))?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _gone = disable_raw_mode();
    }
}
