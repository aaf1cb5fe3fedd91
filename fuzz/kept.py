"""Moves kept inputs between one file, as fuzz/src/corpus.rs reads it, and a directory of single inputs, as libFuzzer does."""

import pathlib
import struct
import sys


def unpack(file: pathlib.Path, directory: pathlib.Path) -> None:
    kept, at, number = file.read_bytes(), 0, 0
    while at < len(kept):
        (length,) = struct.unpack_from(">I", kept, at)
        at += 4
        if at + length > len(kept):
            sys.exit(f"{file} is cut off")
        (directory / f"kept-{number:04}").write_bytes(kept[at : at + length])
        at, number = at + length, number + 1


def pack(directory: pathlib.Path, file: pathlib.Path) -> None:
    # In one order, whatever order they come in, and each once.
    inputs = sorted({path.read_bytes() for path in directory.iterdir()}, key=lambda it: (len(it), it))
    file.write_bytes(b"".join(struct.pack(">I", len(it)) + it for it in inputs))


match sys.argv[1:]:
    case ["unpack", file, directory]:
        unpack(pathlib.Path(file), pathlib.Path(directory))
    case ["pack", directory, file]:
        pack(pathlib.Path(directory), pathlib.Path(file))
    case _:
        sys.exit("kept.py unpack FILE DIR | pack DIR FILE")
