"""Annotation files with a few changes, as a slip of the hand or a damaged disk makes them."""

import random

PIECES = [
    b",", b"\n", b"\r\n", b"\t", b"\xff", b"\x00", b"\xef\xbb\xbf", b"nan", b"NaN", b"1e999", b"-", b".",
    b'"', b"'", b"###", b"#", b" ", b"99999999", b"\xe2\x80\xa8", b"[", b"]", b"{", b"}", b"[[", b"]]",
    b":", b"null", b"true", b"\\ud800", b"\\", b"[[1,2],[3,4]]", b"[]", b"x: [[", b"9" * 400, b"-0",
    b"\xff\xfe", b"1,1,9,9,9,1,1,9,x\n", b'3, 5, 40, 15, "a"\n', b'0,"a"', b"Latin,", b"1e300",
    b"0.1,0.1,0.2,0.1,0.2,0.2,0.1,0.2,x\n",
]  # fmt: skip


def mutated(rng: random.Random, good: bytes) -> bytes:
    """A file with up to four changes."""
    data = bytearray(good)
    for _ in range(rng.randint(0, 4)):
        place = rng.randint(0, len(data))
        change = rng.randrange(5)
        if change <= 1:
            data[place:place] = rng.choice(PIECES)
        elif change == 2:
            del data[place : place + rng.randint(1, 12)]
        elif change == 3 and place < len(data):
            data[place] = rng.randrange(256)
        elif rng.random() < 0.3:
            data = data[:place]
    return bytes(data)
