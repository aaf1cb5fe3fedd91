//! Lines from a pipe or a file.

use std::io::{BufRead, Read as _};

use super::super::Failure;

/// A line with the largest value that a key may have fits.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// The lines, each a text or what is wrong with it; nothing more after a failed read.
pub(super) fn lines(mut input: impl BufRead) -> impl Iterator<Item = Result<String, Failure>> {
    let mut over = false;
    std::iter::from_fn(move || match next(&mut input).filter(|_| !over)? {
        Ok(line) => Some(line),
        Err(broken) => {
            over = true;
            Some(Err(broken))
        }
    })
}

/// Outer error: the input is broken. Inner error: this line is.
fn next(input: &mut impl BufRead) -> Option<Result<Result<String, Failure>, Failure>> {
    let mut line = Vec::new();
    let broken = |error| Failure::refused(format!("standard input cannot be read: {error}"));
    match input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(broken(error))),
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
        if let Err(error) = input.skip_until(b'\n') {
            return Some(Err(broken(error)));
        }
        return Some(Ok(Err(Failure::wrong(format!("a line has more than {LINE_BYTES_MAX} bytes")))));
    }
    let text = String::from_utf8(line).map_err(|_| Failure::wrong("a line is not UTF-8"));
    Some(Ok(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_said_and_the_next_one_is_read() {
        let long = "x".repeat(300 * 1024);
        let input = [b"one\n\xff\n", long.as_bytes(), b"\nlast"].concat();
        let lines: Vec<Result<String, i32>> =
            lines(&input[..]).map(|line| line.map_err(|failure| failure.exit_code().into())).collect();
        assert_eq!(lines, [Ok("one\n".to_owned()), Err(2), Err(2), Ok("last".to_owned())]);
    }
}
