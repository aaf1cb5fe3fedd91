//! Kept inputs: one file a target, because hundreds of small files are hundreds of blocks. A file is a row of inputs, each
//! behind its length, four bytes, big-endian. `fuzz/kept.py` writes them.

/// The inputs of a file.
///
/// # Errors
/// When the file ends within one.
pub fn unpack(mut file: &[u8]) -> Result<Vec<&[u8]>, CutOff> {
    let mut inputs = Vec::new();
    while !file.is_empty() {
        let (length, rest) = file.split_first_chunk().ok_or(CutOff)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CutOff)?;
        let (input, rest) = rest.split_at_checked(length).ok_or(CutOff)?;
        inputs.push(input);
        file = rest;
    }
    Ok(inputs)
}

/// A file of inputs that ends within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_stand_behind_their_lengths() {
        let file = [0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0, 0, 2, 8, 9];
        assert_eq!(unpack(&file), Ok(vec![&[][..], &[7], &[8, 9]]));
        assert_eq!(unpack(&file[..14]), Err(CutOff));
        assert_eq!(unpack(&file[..2]), Err(CutOff));
    }
}
