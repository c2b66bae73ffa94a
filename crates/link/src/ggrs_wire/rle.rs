//! Walks the inputs of a packet without expanding them.
//!
//! ggrs passes the bytes of an input packet to `bitfield_rle::decode`, which allocates whatever
//! length the packet claims, reads past its end on a varint that does not stop, and overflows
//! on a long one (`decode_len_with_offset`; `varinteger::decode_with_offset`). The expansion
//! is then split by 16-bit lengths (`compression.rs`, `delta_decode`). This walk finds the same
//! lengths.

/// Longest varint that is read, in bytes. Three count to 2^21, far above the longest valid run.
const MAX_VARINT: usize = 3;

/// Why encoded inputs are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A run length does not end, or is longer than any valid one.
    Varint,
    /// A literal run reaches past the packet.
    Literal,
    /// The last input is truncated.
    Truncated,
    /// More inputs than allowed.
    TooMany,
    /// An input of another length than allowed.
    Shape(usize),
}

/// Counts the inputs in `encoded`: at most `max_count`, each of a length that `fits` accepts.
pub(super) fn count_inputs(
    encoded: &[u8],
    max_count: usize,
    fits: impl Fn(usize) -> bool,
) -> Result<usize, Malformed> {
    let mut bytes = Expansion {
        rest: encoded,
        run: RleRun::Fill { byte: 0, left: 0 },
    };
    let mut count = 0;
    while let Some(low) = bytes.next()? {
        let high = bytes.next()?.ok_or(Malformed::Truncated)?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        if !fits(len) {
            return Err(Malformed::Shape(len));
        }
        bytes.skip(len)?;
        count += 1;
        if count > max_count {
            return Err(Malformed::TooMany);
        }
    }
    Ok(count)
}

/// Writes `encoded` without its first `count` inputs into `out`, which is at least as long: each input is
/// a difference to the one before, so the rest is a packet that begins there.
pub(super) fn without_first<'a>(
    count: u32,
    encoded: &[u8],
    out: &'a mut [u8],
) -> Result<&'a [u8], Malformed> {
    let mut bytes = Expansion {
        rest: encoded,
        run: RleRun::Fill { byte: 0, left: 0 },
    };
    for _ in 0..count {
        let low = bytes.next()?.ok_or(Malformed::Truncated)?;
        let high = bytes.next()?.ok_or(Malformed::Truncated)?;
        bytes.skip(usize::from(u16::from_le_bytes([low, high])))?;
    }
    // What is left of the run, and the runs behind it as they are.
    let (code, literal) = match bytes.run {
        RleRun::Fill { byte, left } => ((left << 2) | usize::from(byte & 2) | 1, &[][..]),
        RleRun::Literal(literal) => (literal.len() << 1, literal),
    };
    let header = if code > 3 || code == 2 {
        put_varint(code, out)
    } else {
        // An empty run.
        0
    };
    let literal_end = header + literal.len();
    let end = literal_end + bytes.rest.len();
    out[header..literal_end].copy_from_slice(literal);
    out[literal_end..end].copy_from_slice(bytes.rest);
    Ok(&out[..end])
}

/// Writes a varint as [`Expansion::read_run`] reads it. Returns its length.
fn put_varint(mut value: usize, out: &mut [u8]) -> usize {
    let mut length = 0;
    loop {
        let low = value.to_le_bytes()[0] & 127;
        value >>= 7;
        out[length] = if value == 0 { low } else { low | 128 };
        length += 1;
        if value == 0 {
            return length;
        }
    }
}

enum RleRun<'a> {
    Fill { byte: u8, left: usize },
    Literal(&'a [u8]),
}

/// The expansion, one byte at a time.
struct Expansion<'a> {
    rest: &'a [u8],
    run: RleRun<'a>,
}

impl Expansion<'_> {
    fn next(&mut self) -> Result<Option<u8>, Malformed> {
        loop {
            match &mut self.run {
                RleRun::Fill { byte, left } if *left > 0 => {
                    *left -= 1;
                    return Ok(Some(*byte));
                }
                RleRun::Literal([first, rest @ ..]) => {
                    let first = *first;
                    self.run = RleRun::Literal(rest);
                    return Ok(Some(first));
                }
                RleRun::Fill { .. } | RleRun::Literal([]) => {
                    if self.rest.is_empty() {
                        return Ok(None);
                    }
                    self.read_run()?;
                }
            }
        }
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        for _ in 0..count {
            self.next()?.ok_or(Malformed::Truncated)?;
        }
        Ok(())
    }

    fn read_run(&mut self) -> Result<(), Malformed> {
        let mut code = 0_usize;
        for at in 0..MAX_VARINT {
            let byte = *self.rest.get(at).ok_or(Malformed::Varint)?;
            code |= usize::from(byte & 127) << (7 * at);
            if byte & 128 == 0 {
                self.rest = &self.rest[at + 1..];
                return self.start_run(code);
            }
        }
        Err(Malformed::Varint)
    }

    /// Bit 0 distinguishes a fill from a literal; bit 1 is the bit that a fill repeats.
    fn start_run(&mut self, code: usize) -> Result<(), Malformed> {
        self.run = if code & 1 == 1 {
            RleRun::Fill {
                byte: if code & 2 == 2 { 255 } else { 0 },
                left: code >> 2,
            }
        } else {
            let (literal, rest) = self
                .rest
                .split_at_checked(code >> 1)
                .ok_or(Malformed::Literal)?;
            self.rest = rest;
            RleRun::Literal(literal)
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Expansion {
            rest: encoded,
            run: RleRun::Fill { byte: 0, left: 0 },
        };
        let mut expanded = Vec::new();
        while let Some(byte) = bytes.next()? {
            expanded.push(byte);
        }
        Ok(expanded)
    }

    /// Inputs as ggrs encodes them: each behind its length, in runs.
    fn encode(inputs: &[Vec<u8>], cut: usize) -> (Vec<u8>, Vec<u8>) {
        let mut plain = Vec::new();
        for input in inputs {
            plain.extend_from_slice(&u16::try_from(input.len()).unwrap().to_le_bytes());
            plain.extend_from_slice(input);
        }
        let mut encoded = Vec::new();
        let mut put = |code: usize, literal: &[u8]| {
            let mut header = [0; 4];
            let length = put_varint(code, &mut header);
            encoded.extend_from_slice(&header[..length]);
            encoded.extend_from_slice(literal);
        };
        let same = |a: &u8, b: &u8| a == b && matches!(a, 0 | 255);
        for run in plain.chunk_by(same) {
            match run {
                [byte @ (0 | 255), ..] => put((run.len() << 2) | usize::from(byte & 2) | 1, &[]),
                _ => run.chunks(cut).for_each(|part| put(part.len() << 1, part)),
            }
        }
        (plain, encoded)
    }

    proptest! {
        #[test]
        fn the_rest_of_a_packet_holds_the_rest_of_its_inputs(
            inputs in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0_u8, 0, 255, 7]), 0..9), 1..40),
            cut in 1_usize..5,
            count in 0_usize..50,
        ) {
            let (plain, encoded) = encode(&inputs, cut);
            prop_assert_eq!(expand(&encoded).unwrap(), plain);
            let mut out = [0; 1_024];
            let rest = without_first(u32::try_from(count).unwrap(), &encoded, &mut out[..encoded.len()]);
            match inputs.get(count..) {
                Some(inputs) => prop_assert_eq!(expand(rest.unwrap()).unwrap(), encode(inputs, cut).0),
                None => prop_assert_eq!(rest, Err(Malformed::Truncated)),
            }
        }

        #[test]
        fn any_bytes_are_cut_or_refused(encoded: Vec<u8>, count in 0_u32..200) {
            let mut out = vec![0; encoded.len()];
            if let Ok(rest) = without_first(count, &encoded, &mut out) {
                prop_assert!(rest.len() <= encoded.len());
            }
        }
    }
}
