import numpy as np
import pytest

from tensorgrad import random
from tensorgrad.kernels.philox import random_row

# The known answers published with the generator (Random123, kat_vectors, philox4x32 with 10 rounds): counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_answers(counter, key, words):
    assert tuple(map(int, random.philox([np.uint64(c) for c in counter], key))) == words


@pytest.mark.parametrize("seed", [0, 1, (1 << 63) - 1, (77 << 32) + 5])
def test_the_kernel_makes_the_words_of_the_definition(seed):
    wanted = random.words(3, 4096 + 192, seed)
    for row in range(3):
        words = np.empty(4096, np.uint32)
        random_row(words, seed, row, 192)
        np.testing.assert_array_equal(words, wanted[row, 192:])


def test_rows_beyond_32_bits():
    words = np.empty(64, np.uint32)
    random_row(words, 9, (3 << 32) + 5, 0)
    lanes = np.arange(16, dtype=np.uint64)
    wanted = random.philox([lanes, np.uint64(0), np.uint64(5), np.uint64(3)], (9, 0))
    np.testing.assert_array_equal(words, np.concatenate(wanted))


def test_words_are_uniform_and_their_bits_independent():
    words = random.words(64, 4096, 3).astype(np.uint32)
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1).astype(float) - 0.5
    correlation = 4 * bits.T @ bits / len(bits) - np.eye(32)
    assert np.abs(bits.mean(0)).max() < 5 * 0.5 / len(bits) ** 0.5
    assert np.abs(correlation).max() < 5.5 / len(bits) ** 0.5
    counts = np.bincount(words.ravel() >> 20, minlength=4096)
    assert abs(((counts - 64) ** 2 / 64).sum() - 4095) < 5 * (2 * 4095) ** 0.5
