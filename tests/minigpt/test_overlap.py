"""Figures of texts: by hand, by closed forms, and as sacrebleu has them."""

import math
import random

import pytest
import sacrebleu

from minigpt.errors import UserError
from minigpt.overlap import bleu, chrf, edit_distance, exact_match, normalised, text_error_rate, token_error_rate, token_f1


def test_normalising_is_squads():
    assert normalised("  The cat's, a\tHAT -- an  other!") == "cats hat other"
    assert normalised("the") == "" and normalised("theatre an-other") == "theatre another"


def test_exact_match_and_f1_by_hand():
    predicted = ["The Cat", "on the mat", "no", "", "a b b c"]
    wanted = [["cat"], ["sat on mat"], ["yes", "no."], [""], ["b b d", "c"]]
    assert exact_match(predicted, wanted) == pytest.approx(3 / 5)
    # on mat / sat on mat: 2 of 2 and of 3; b b c without the article / b b d: 2 of 3 and of 3
    assert token_f1(predicted, wanted) == pytest.approx((1 + 4 / 5 + 1 + 1 + 2 / 3) / 5)
    assert token_f1(["x"], [[""]]) == 0 and token_f1([""], [["x"]]) == 0


def plain_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(plain_distance(a[1:], b) + 1, plain_distance(a, b[1:]) + 1, plain_distance(a[1:], b[1:]) + (a[0] != b[0]))


def test_edit_distance_is_that_of_its_definition():
    rng = random.Random(0)
    for _ in range(150):
        a, b = ("".join(rng.choices("abc", k=rng.randrange(6))) for _ in range(2))
        assert edit_distance(a, b) == plain_distance(a, b) == edit_distance(b, a), (a, b)
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("K IH1 T".split(), "K IH0 T S".split()) == 2


def test_error_rates_by_hand():
    predicted = ["T AH0 M EY1 T OW2", "R EH1 D", "N OW1"]
    wanted = [["T AH0 M AA1 T OW2", "T AH0 M EY1 T OW2"], ["R IY1 D", "R EH1 D Z"], ["N  OW1 W"]]
    # nearest: equal (6 phonemes), one of 3 or of 4, where the longer counts, and one of 3
    assert token_error_rate(predicted, wanted) == pytest.approx(2 / (6 + 4 + 3))
    assert text_error_rate(predicted, wanted) == pytest.approx(2 / 3)
    assert text_error_rate(["N  OW1"], [["N OW1"]]) == 0
    assert token_error_rate(["a b c d"], [["a"]]) == 3


def test_bleu_of_one_text_by_hand():
    """Precisions 5/6, 3/5, 1/4 and, smoothed, 1/6 of the words, pairs, triples and quadruples; no brevity penalty."""
    found = bleu(["the cat sat on the mat"], [["the cat is on the mat"]])
    assert found == pytest.approx(100 * math.exp(sum(map(math.log, (5 / 6, 3 / 5, 1 / 4, 1 / 6))) / 4))
    assert bleu(["a b c d e"], [["a b c d e"]]) == pytest.approx(100)


def test_bleu_and_chrf_are_sacrebleus():
    predicted = ["Al principio creó Dios los cielos.", "Y la tierra estaba vacía", "Y dijo Dios"]
    first = ["En el principio crió Dios los cielos y la tierra.", "Y la tierra estaba desordenada y vacía", "Y dijo Dios:"]
    single = [[text] for text in first]
    assert bleu(predicted, single) == sacrebleu.BLEU().corpus_score(predicted, [first]).score
    assert chrf(predicted, single) == sacrebleu.CHRF().corpus_score(predicted, [first]).score
    several = [[first[0]], [first[1], predicted[1]], [first[2]]]
    references = [first, [None, predicted[1], None]]
    assert bleu(predicted, several) == sacrebleu.BLEU().corpus_score(predicted, references).score > bleu(predicted, single)
    assert chrf(predicted, several) == sacrebleu.CHRF().corpus_score(predicted, references).score > chrf(predicted, single)


@pytest.mark.parametrize("figure", [exact_match, token_f1, token_error_rate, text_error_rate, bleu, chrf])
def test_what_makes_no_figure_is_refused(figure):
    with pytest.raises(UserError, match="2 predictions do not go with 1 texts"):
        figure(["a", "b"], [["a"]])
    with pytest.raises(UserError, match="0 predictions"):
        figure([], [])
    for wanted in ("a", []):
        with pytest.raises(UserError, match="a list of the texts that are right"):
            figure(["a"], [wanted])


def test_an_error_rate_of_nothing_is_refused():
    with pytest.raises(UserError, match="needs texts with words"):
        token_error_rate(["a"], [[""]])
