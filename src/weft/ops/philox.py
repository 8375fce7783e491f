"""Counter-based random numbers: the reference of native/base/random.h.

Philox4x32-10, Salmon et al., 2011: a number is a function of (seed, stream, position) alone, so that a
request draws the same wherever and with whomever it runs.
"""

from __future__ import annotations

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four random 32-bit words for four words of counter and two of key."""
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * counter[0], _MULTIPLIERS[1] * counter[2]
        counter = (
            (second >> 32) ^ counter[1] ^ key[0],
            second & _WORD,
            (first >> 32) ^ counter[3] ^ key[1],
            first & _WORD,
        )
        key = ((key[0] + _WEYL[0]) & _WORD, (key[1] + _WEYL[1]) & _WORD)
    return counter


def uniform(seed: int, stream: int, position: int) -> float:
    """A number in (0, 1), an odd multiple of 2⁻²⁴, for a 64-bit seed, a stream and a position in it."""
    return ((_words(seed, stream, position)[0] >> 9) + 0.5) * 2.0**-23


def uniform_f64(seed: int, stream: int, position: int) -> float:
    """A number in (0, 1), an odd multiple of 2⁻⁵³, for a 64-bit seed, a stream and a position in it."""
    words = _words(seed, stream, position)
    return ((words[1] << 32 | words[0]) >> 12) * 2.0**-52 + 2.0**-53


def _words(seed: int, stream: int, position: int) -> tuple[int, int, int, int]:
    counter = (position & _WORD, position >> 32 & _WORD, stream & _WORD, stream >> 32 & _WORD)
    return philox(counter, (seed & _WORD, seed >> 32 & _WORD))
