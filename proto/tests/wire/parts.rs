//! Commands in parts combine across senders, repetitions and any order; a wrong piece spoils nothing for good.

use bytes::Bytes;
use chorus_proto::message::{Digest, Part};
use chorus_proto::types::ENTRY_BYTES_MAX;
use chorus_proto::wire::{
    ASSEMBLED_BYTES_MAX, ASSEMBLED_MAX, Added, Assembler, BadPart, PART_BYTES_MAX, PARTS_MAX, digest, split,
};
use fastrand::Rng;
use proptest::prelude::*;

fn command(seed: u64, length: usize) -> Bytes {
    let mut random = Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>().into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_two_senders_make_one_command_in_any_order(seed in any::<u64>(), length in 1..=ENTRY_BYTES_MAX) {
        let whole = command(seed, length);
        // Two senders, each with every piece; each piece arrives once or twice, from either.
        let mut arriving = [split(&whole), split(&whole)].concat();
        Rng::with_seed(seed).shuffle(&mut arriving);
        let mut assembler = Assembler::default();
        let mut made = 0;
        for part in arriving {
            match assembler.add(part) {
                Added::Whole(command) => {
                    prop_assert_eq!(&command, &whole);
                    made += 1;
                }
                Added::Kept | Added::Known => {}
                Added::Bad(bad) => prop_assert!(false, "{}", bad),
            }
        }
        prop_assert_eq!(made, 1);
        prop_assert_eq!(assembler.whole(&digest(&whole)), Some(whole));
    }
}

#[test]
fn every_length_is_cut_into_full_pieces_and_a_rest() {
    for length in [1, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 5_000, ENTRY_BYTES_MAX] {
        let whole = command(1, length);
        let parts = split(&whole);
        assert_eq!(parts.len(), length.div_ceil(PART_BYTES_MAX));
        assert!(parts.iter().rev().skip(1).all(|part| part.bytes.len() == PART_BYTES_MAX));
        assert!(
            parts.iter().all(|part| usize::from(part.parts) == parts.len() && part.digest == digest(&whole))
        );
        assert_eq!(parts.iter().map(|part| &part.bytes[..]).collect::<Vec<_>>().concat(), whole);
    }
    assert_eq!(split(&command(1, ENTRY_BYTES_MAX)).len(), PARTS_MAX);
}

#[test]
fn it_tells_which_pieces_are_missing() {
    let (whole, mut assembler) = (command(2, 4_000), Assembler::default());
    let (name, length, parts) = (digest(&whole), 4_000, split(&whole));
    assert_eq!(assembler.missing(&name, length), [0, 1, 2, 3]);
    assembler.add(parts[2].clone());
    assembler.add(parts[2].clone());
    assert_eq!(assembler.missing(&name, length), [0, 1, 3]);
    for part in [0, 1, 3] {
        assembler.add(parts[part].clone());
    }
    assert!(assembler.missing(&name, length).is_empty());
    assembler.forget(&name);
    assert_eq!((assembler.whole(&name), assembler.bytes()), (None, 0));
    assert_eq!(assembler.missing(&name, length), [0, 1, 2, 3]);
}

#[test]
fn a_damaged_piece_is_found_at_completion_and_the_command_can_come_again() {
    let (whole, mut assembler) = (command(3, 3_000), Assembler::default());
    let parts = split(&whole);
    let mut damaged = parts[0].bytes.to_vec();
    damaged[7] ^= 1;
    assembler.add(Part { bytes: damaged.into(), ..parts[0].clone() });
    assembler.add(parts[1].clone());
    assert_eq!(assembler.add(parts[2].clone()), Added::Bad(BadPart::Digest));
    assert_eq!(assembler.missing(&digest(&whole), 3_000), [0, 1, 2], "it begins anew");
    let last = parts.into_iter().map(|part| assembler.add(part)).last();
    assert_eq!(last, Some(Added::Whole(whole)));
}

#[test]
fn a_piece_that_cannot_belong_is_refused() {
    let (whole, mut assembler) = (command(4, 3_000), Assembler::default());
    let good = split(&whole).remove(0);
    let misfits = [
        Part { part: 3, ..good.clone() },
        Part { parts: 4, ..good.clone() },
        Part { part: 2, ..good.clone() },
        Part { length: 0, parts: 0, ..good.clone() },
        Part { length: ENTRY_BYTES_MAX as u32 + 1, ..good.clone() },
        Part { length: u32::MAX, parts: u16::MAX, ..good.clone() },
        Part { bytes: Bytes::new(), ..good.clone() },
    ];
    for misfit in misfits {
        assert_eq!(assembler.add(misfit), Added::Bad(BadPart::Misfit));
    }
    assert_eq!(assembler.bytes(), 0, "nothing was kept for them");
    assembler.add(good.clone());
    let liar = Part { length: 3_001, ..good.clone() };
    assert_eq!(assembler.add(liar), Added::Bad(BadPart::Disagrees));
    assert_eq!(assembler.add(good), Added::Kept);
}

#[test]
fn it_never_holds_more_than_its_bounds_and_lets_the_longest_silent_go() {
    let mut assembler = Assembler::default();
    let first = command(0, 2_000);
    assembler.add(split(&first).remove(0));
    for seed in 1..200 {
        // Touched again and again, the first stays.
        assembler.add(split(&first).remove(0));
        assembler.add(split(&command(seed, ENTRY_BYTES_MAX)).remove(0));
        assert!(assembler.bytes() <= ASSEMBLED_BYTES_MAX);
    }
    assert_eq!(assembler.missing(&digest(&first), 2_000), [1]);
    for seed in 1_000..1_200 {
        assembler.add(split(&command(seed, 2_000)).remove(0));
    }
    assert_eq!(assembler.bytes(), ASSEMBLED_MAX * 2_000);
    assert_eq!(assembler.missing(&digest(&first), 2_000), [0, 1], "it was the oldest");
}

#[test]
fn an_unknown_command_is_not_whole() {
    assert_eq!(Assembler::default().whole(&Digest([0; 32])), None);
}
