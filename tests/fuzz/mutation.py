"""Random damage for files, and the loop that feeds damaged files to a reader and judges what it does."""

from __future__ import annotations

import argparse
import random
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from weft.errors import WeftError

# Numbers that break readers: limits of types, and what is just beyond them.
EDGES = (
    0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**40, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 2, 2**64 - 1,
)  # fmt: skip
MAX_SECONDS_AN_INPUT = 5
MAX_GROWTH_BYTES = 256 << 20

Make = Callable[[random.Random], bytes]
Read = Callable[[bytes], None]


def damage(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """`data` after one to four random mutations."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if not changed:
            return bytes(changed)
        rng.choice(_MUTATIONS)(changed, others, rng)
    return bytes(changed)


def _flip_bit(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice(
        (0, 1, 9, 32, 34, 44, 91, 93, 123, 125, 127, 128, 255, rng.randrange(256))
    )


def _set_number(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    number = rng.choice((*EDGES, len(data), len(data) - 1, len(data) + 1)) & 0xFFFFFFFFFFFFFFFF
    raw = struct.pack("<Q", number)[: rng.choice((1, 2, 4, 4, 8, 8))]
    at = rng.randrange(len(data))
    data[at : at + len(raw)] = raw


def _cut_short(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _delete(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 8, 32))]


def _insert(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 4, 8, 32)))


def _repeat(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data))
    part = bytes(data[at : at + rng.choice((1, 8, 24, 64, 200))])
    data[at:at] = part * rng.choice((1, 1, 2, 8))


def _splice(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    data[at:] = other[start : start + rng.choice((8, 64, 4096))]


_MUTATIONS = (
    _flip_bit,
    _set_byte,
    _set_number,
    _set_number,
    _set_number,
    _cut_short,
    _delete,
    _insert,
    _repeat,
    _splice,
)


def fuzz(make: Make, read: Read, runs: int, seed: int, failures: Path | None = None) -> Counter[str]:
    """Feed `runs` inputs of `make` to `read`; counts of its outcomes by error class ("read" for none).

    Input i depends on (seed, i) alone. Any exception that is not weft's own, an input that takes seconds of
    the processor, and memory beyond a bound end the run with AssertionError; the input is then written to
    `failures`.
    """
    outcomes: Counter[str] = Counter()
    peak_before = _peak_bytes()
    for number in range(runs):
        rng = random.Random((seed << 40) | number)
        data = make(rng)
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS_AN_INPUT)
        try:
            read(data)
            outcomes["read"] += 1
        except WeftError as error:
            outcomes[type(error).__name__] += 1
            assert len(str(error)) < 4000 and "\n" not in str(error), (
                f"input {number}: a long message: {error}"
            )
        except BaseException as error:
            if failures is not None:
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"seed{seed}-input{number}.bin").write_bytes(data)
            raise AssertionError(f"input {number} of seed {seed}: {type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    growth = _peak_bytes() - peak_before
    assert growth < MAX_GROWTH_BYTES, (
        f"memory grew by {growth >> 20} MiB, at most {MAX_GROWTH_BYTES >> 20} expected"
    )
    return outcomes


def main(name: str, make: Make, read: Read) -> None:
    """The command line of a fuzzer: how many inputs, from which seed."""
    parser = argparse.ArgumentParser(description=f"Feed damaged files to the {name} reader.")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    limit = 2 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = time.perf_counter()
    outcomes = fuzz(make, read, options.runs, options.seed, options.failures)
    seconds = time.perf_counter() - start
    print(
        f"{name}: {options.runs} inputs, seed {options.seed}, {seconds:.1f} s "
        f"({1e6 * seconds / max(options.runs, 1):.0f} µs each): {dict(outcomes)}"
    )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _timed_out(signum: int, frame: object) -> None:
    raise TimeoutError(f"an input took more than {MAX_SECONDS_AN_INPUT} s")


signal.signal(signal.SIGPROF, _timed_out)
