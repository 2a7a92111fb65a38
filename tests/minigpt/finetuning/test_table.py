"""Tables are read as their format says, and whatever is wrong with one is said with its line."""

import csv
import json

import pytest

from minigpt.errors import UserError
from minigpt.finetuning.table import read_table


def table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path)


def test_tabs_separate_and_quotes_are_quotes(tmp_path):
    got = table(tmp_path, "a.tsv", '\ufefftext\tlabel\r\n"so," he\tpos\r\n\r\nx\u2028y\tneg\n')
    assert got.texts("text", "--t") == ['"so," he', "x\u2028y"] and got.labels("label", "--l") == ["pos", "neg"]
    assert got.lines == (2, 4) and len(got) == 2


def test_csv_agrees_with_the_standard_library(tmp_path):
    rows = [["a,b", 'say "x"', "two\nlines"], ["", " ", "z" * 200_000], ["é", "\t", "3"]]
    path = tmp_path / "a.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["p", "q", "r"], *rows])
    limit = csv.field_size_limit()
    got = read_table(path)
    assert [list(row.values()) for row in got.rows] == rows and got.lines == (2, 4, 5)
    assert csv.field_size_limit() == limit


def test_json_lines_keep_their_types(tmp_path):
    rows = [{"text": "a", "label": 1, "tags": ["X", "Y"]}, {"text": "b\n", "label": True, "tags": "X Y"}]
    got = table(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n\n" for row in rows))
    assert got.labels("label", "--l") == ["1", "True"] and got.lists("tags", "--t") == [["X", "Y"]] * 2


def test_alternatives_are_none_one_or_several(tmp_path):
    values = ["a b", ["a", "", "b"], "", " ", None, []]
    got = table(tmp_path, "a.jsonl", "".join(json.dumps({"answer": value}) + "\n" for value in values))
    assert got.alternatives("answer", "--a") == [("a b",), ("a", "b"), (), (), (), ()]


@pytest.mark.parametrize("value", ["5", "0", "1.5", "true", "false", "{}", '{"text": ["a"]}', "[5]", '["a", null]', "NaN"])
def test_what_is_no_text_is_no_alternative(tmp_path, value):
    got = table(tmp_path, "a.jsonl", '{"answer": null}\n{"answer": ' + value + "}\n")
    with pytest.raises(UserError) as caught:
        got.alternatives("answer", "--a")
    assert str(caught.value) == (
        f"{tmp_path}/a.jsonl, line 2 has {value} in column 'answer', not a text, a list of texts, or null for none"
    )


def test_rows_that_are_equal_both_count(tmp_path):
    assert len(table(tmp_path, "a.tsv", "text\nsame\nsame\n")) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", r"a.txt must be a table that ends in .tsv, .csv, .jsonl"),
        ("a.tsv", "", "has no rows"),
        ("a.tsv", "text\tlabel\n", "has no rows"),
        ("a.tsv", "a\tb\n1\t2\n\n1\t2\t3\n", r"line 4 has 3 fields, but the header has 2 \(a, b\)"),
        ("a.csv", 'a,b\n"1\n2",2\n1\n', r"line 4 has 1 fields, but the header has 2"),
        ("a.csv", 'a,b\n1,"2\n', "line 2 is not comma-separated values"),
        ("a.tsv", "a\ta\n1\t2\n", "has two columns named 'a'"),
        ("a.tsv", b"text\nok\nno \xff\n", "line 3 is not UTF-8 text: byte 0xff at offset 11"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', r"line 3 is \[1\], not an object"),
    ],
)
def test_malformed_tables(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, name, content)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read the data file"):
        read_table(tmp_path / "none.tsv")


ROWS = '{"text": "a", "label": "x", "n": 2.5}\n\n{"text": " ", "label": "", "n": 1, "words": []}\n'


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("texts", "review", r"a.jsonl has no column 'review' \(it has 'text', 'label', 'n'\); name the column with --c"),
        ("texts", "n", "line 1 has 2.5 in column 'n', not a text"),
        ("labels", "n", "line 1 has 2.5 in column 'n', not the name of a class"),
        ("texts", "text", "line 3 has an empty text in column 'text'"),
        ("labels", "label", "line 3 has an empty class in column 'label'"),
        ("lists", "words", r"line 1 has no column 'words'"),
        ("lists", "text", r"line 3 has \[\] in column 'text', not words"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, kind, column, message):
    got = table(tmp_path, "a.jsonl", ROWS)
    with pytest.raises(UserError, match=message):
        getattr(got, kind)(column, "--c")
