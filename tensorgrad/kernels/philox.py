"""Random numbers that are a function of their place: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3", section 3.3).

Ten rounds scramble a counter of four 32-bit words under a key of two. Whoever knows the key makes the number of any place
again, in any order and on any thread, so that a mask of dropout need not be stored. Here the key is a 63-bit seed, and the
number at (row, column) is word w of the counter (16 block + lane, 0, row mod 2^32, row div 2^32), where

    column = 64 block + 16 w + lane

so that sixteen counters side by side fill 64 columns in order, whatever the width of the machine's vectors. A row has at most
2^34 columns. Per number: 10 products of 32 bits, 10 shifts and 10 exclusive ors, 0.5 ns.
"""

import numpy as np

from tensorgrad.kernels.jit import inline, serial

U64 = np.uint64
GROUP = 64  # columns that are made together


@serial
def random_row(words, seed, row, first):
    """words[j] is the number at (row, first + j); their count and `first` are multiples of GROUP."""
    low, high = U64(seed) & U64(0xFFFFFFFF), U64(seed) >> U64(32)
    for j in range(0, words.size, GROUP):
        _fill(words[j : j + GROUP], U64((first + j) // 4), U64(row) & U64(0xFFFFFFFF), U64(row) >> U64(32), low, high)


@serial
def _fill(words, counter, row_low, row_high, low, high):
    for lane in range(16):
        a, b, c, d = philox(counter + U64(lane), U64(0), row_low, row_high, low, high)
        words[lane] = a
        words[lane + 16] = b
        words[lane + 32] = c
        words[lane + 48] = d


@inline
def philox(a, b, c, d, low, high):
    """The four words of counter (a, b, c, d) under the key (low, high); 64-bit integers, of which the low halves count."""
    a, b, c, d = _round(a, b, c, d, low, high)
    for _ in range(9):
        low, high = low + U64(0x9E3779B9), high + U64(0xBB67AE85)
        a, b, c, d = _round(a, b, c, d, low, high)
    return np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)


@inline
def _round(a, b, c, d, low, high):
    x = (a & U64(0xFFFFFFFF)) * U64(0xD2511F53)
    y = (c & U64(0xFFFFFFFF)) * U64(0xCD9E8D57)
    return (y >> U64(32)) ^ b ^ low, y, (x >> U64(32)) ^ d ^ high, x
