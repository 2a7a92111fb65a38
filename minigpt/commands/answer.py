"""`minigpt answer`: questions answered with words of a text, or of the passages of a folder that are about them."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.commands.inputs import add_texts, given_texts, read_lines
from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.answering import Answer
    from minigpt.knowledge import Found, Knowledge

EPILOG = """Passages are found by the words that they share with the question, and with --embedder also by meaning; those that
were used are shown, and it is said if none is about the question, or none has an answer."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, besides the model's folder."""
    parser.epilog = EPILOG
    add_texts(parser, "questions")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--context", metavar="TEXT", help="text that the answers are in")
    where.add_argument("--context-file", metavar="FILE", help="the same, as a file")
    where.add_argument("--knowledge", metavar="FOLDER", help="folder of texts to look for passages in")
    parser.add_argument("--embedder", metavar="DIR", help="model that finds passages by meaning, as embed has it")
    parser.add_argument("--passages", type=int, default=5, metavar="N", help="passages to read for a question (default: 5)")
    parser.add_argument("--longest", type=int, default=30, metavar="N", help="tokens of an answer at most (default: 30)")
    parser.add_argument("--threshold", type=float, default=0.0, metavar="X", help="least score over no answer (default: 0)")
    parser.add_argument("--json", action="store_true", help="an object a line")


def run(options: dict[str, Any]) -> int:
    """Answer each question; with --knowledge, show where the answer was looked for."""
    for name in ("passages", "longest"):
        if options[name] < 1:
            raise UserError(f"--{name} must be at least 1, not {options[name]}")
    if not math.isfinite(options["threshold"]):
        raise UserError(f"--threshold must be a finite number, not {options['threshold']}")
    if options["embedder"] is not None and options["knowledge"] is None:
        raise UserError("--embedder finds passages, so it needs --knowledge")
    questions, context = given_texts(options), _context(options)
    from minigpt.answering import answer
    from minigpt.checkpoint import load

    model, tokenizer = load(options["folder"])
    knowledge = None if options["knowledge"] is None else _knowledge(options)
    for question in questions:
        found = [] if knowledge is None else knowledge.about(question, options["passages"])
        contexts = [context] if knowledge is None else [each.passage.text for each in found]
        best = answer(model, tokenizer, question, contexts, options["longest"], options["threshold"])
        record = _record(question, best, found, knowledge is not None)
        print(json.dumps(record, ensure_ascii=False) if options["json"] else _lines(record), flush=True)
    return 0


def _context(options: dict[str, Any]) -> str:
    if options["context_file"] is not None:
        return "\n".join(read_lines(options["context_file"], "lines"))
    return options["context"] or ""


def _knowledge(options: dict[str, Any]) -> Knowledge:
    from minigpt.checkpoint import load
    from minigpt.knowledge import Knowledge, read_passages

    passages = read_passages(Path(options["knowledge"]))
    return Knowledge(passages, None if options["embedder"] is None else load(options["embedder"]))


def _record(question: str, best: tuple[int, Answer] | None, found: list[Found], looked: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"question": question, "answer": None if best is None else best[1].text}
    if best is not None:
        record |= {"score": best[1].score, "begin": best[1].begin, "end": best[1].end}
    if looked:
        record["from"] = None if best is None else best[0]
        record["passages"] = [
            {"file": f.passage.file, "line": f.passage.line, "bm25": f.bm25, "cosine": f.cosine, "text": f.passage.text}
            for f in found
        ]
    return record


def _lines(record: dict[str, Any]) -> str:
    """The answer, and below it the passages that were read, the one with the answer marked."""
    passages = record.get("passages", [])
    if record["answer"] is not None:
        first = f"{record['answer']}\t{record['score']:.2f}"
    elif "passages" not in record:
        first = "(the text has no answer)"
    else:
        first = "(none of these passages has an answer)" if passages else "(nothing in these texts is about that question)"
    lines = [first]
    for i, passage in enumerate(passages):
        near = "" if passage["cosine"] is None else f", cosine {passage['cosine']:.2f}"
        text = " ".join(passage["text"].split())
        shown = text if len(text) <= 100 else text[:99] + "…"
        place = f"{passage['file']}:{passage['line']} (bm25 {passage['bm25']:.2f}{near})"
        lines.append(f"{'*' if i == record['from'] else ' '} {place} {shown}")
    return "\n".join(lines)
