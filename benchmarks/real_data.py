"""What models of ours make of real data: film reviews, pronunciations, verses, dialogues.

    python benchmarks/real_data.py {reviews,pronunciation,verses,dialogues} --data FOLDER [--minilm DIR] [--work FOLDER]

Each prints the `minigpt` commands it runs, how long they took, and a table of figures on texts that no model has learned from.
FOLDER has movie_reviews_train.tsv and .._test.tsv (columns text, label), pronounce_.. (word, phonemes), verses_en_es_.. (en, es),
and dialogs_en.jsonl (messages).  DIR is all-MiniLM-L6-v2, for the reviews.  The peers are bag_of_words.py and word_by_word.py.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import machine, table

HERE = Path(__file__).parent


class Bench:
    """Where the data is and where models go."""

    def __init__(self, data: Path, work: Path, minilm: Path | None):
        self.data, self.work, self.minilm = data, work, minilm

    def minigpt(self, *arguments: Any) -> str:
        """Run a command, say it and its time; what it printed."""
        words = [str(argument) for argument in arguments]
        print(f"$ minigpt {shlex.join(words)}", flush=True)
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "minigpt", *words], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"it ended with {done.returncode}:\n{done.stdout}")
        seconds = time.perf_counter() - started
        print(f"  {int(seconds) // 60} min {seconds % 60:.0f} s\n", flush=True)
        return done.stdout

    def results(self, folder: str) -> dict[str, Any]:
        return json.loads((self.work / folder / "results.json").read_text())

    def score(self, folder: str, *arguments: Any) -> dict[str, float]:
        """Figures of `minigpt translate`."""
        return json.loads(self.minigpt("translate", self.work / folder, "--json", *arguments))


def reviews(b: Bench) -> None:
    """Positive or negative: a BERT of ours from nothing but these texts, MiniLM, and a bag of words."""
    train, test = b.data / "movie_reviews_train.tsv", b.data / "movie_reviews_test.tsv"
    b.minigpt("train", "--model", "bert", "--data", train, "--vocab-size", 4096, "--n-layer", 4, "--n-embd", 128,
              "--block-size", 64, "--batch-size", 32, "--max-steps", 3000, "--dropout", 0.1,
              "--out", b.work / "bert")  # fmt: skip
    learn = ("--task", "classify", "--data", train, "--test", test)
    b.minigpt("finetune", b.work / "bert", *learn, "--epochs", 5, "--learning-rate", 3e-4, "--truncate",
              "--out", b.work / "bert-reviews")  # fmt: skip
    rows = [["BERT of ours, 4 layers, 128 wide", _accuracy(b.results("bert-reviews"))]]
    if b.minilm is not None:
        b.minigpt("finetune", b.minilm, *learn, "--epochs", 3, "--out", b.work / "minilm-reviews")
        rows.append(["all-MiniLM-L6-v2, fine-tuned", _accuracy(b.results("minilm-reviews"))])
        b.minigpt("finetune", b.minilm, *learn, "--epochs", 2, "--lora-rank", 8, "--lora-targets", "all",
                  "--out", b.work / "minilm-lora")  # fmt: skip
        rows.append(["the same, by changes of rank 8", _accuracy(b.results("minilm-lora"))])
    print(table(["model", "accuracy", "macro F1"], [[name, *figures] for name, figures in rows]), "\n", flush=True)
    peer("bag_of_words.py", train, test)


def _accuracy(results: dict[str, Any]) -> list[str]:
    return [f"{results['test'][name]:.3f}" for name in ("accuracy", "macro_f1")]


def pronunciation(b: Bench) -> None:
    """English words to phonemes, by a T5 of ours from nothing but this table."""
    train, test = b.data / "pronounce_train.tsv", b.data / "pronounce_test.tsv"
    columns = ("--source-column", "word", "--target-column", "phonemes")
    b.minigpt("train", "--model", "t5", "--data", train, "--vocab-size", 256, "--n-layer", 3, "--n-embd", 128,
              "--dropout", 0.1, "--max-steps", 100, "--out", b.work / "t5")  # fmt: skip
    b.minigpt("finetune", b.work / "t5", "--task", "seq2seq", "--data", train, *columns, "--held-out", 0.01, "--epochs", 9,
              "--batch-size", 64, "--learning-rate", 1e-3, "--warmup", 0.02, "--label-smoothing", 0.1,
              "--out", b.work / "t5-pronounce")  # fmt: skip
    rows = []
    for name, beams in (("greedy", 1), ("4 beams", 4)):
        found = b.score("t5-pronounce", "--score", test, *columns, "--num-beams", beams, "--batch-size", 128,
                        "--max-new-tokens", 100)  # fmt: skip
        rows.append([name, f"{found['token_error_rate']:.4f}", f"{found['text_error_rate']:.4f}", f"{found['texts']:,}"])
    print(table(["decoding", "phoneme error rate", "word error rate", "words"], rows))


def verses(b: Bench) -> None:
    """English verses to Spanish ones, by a T5 of ours from nothing but this table."""
    train, test = b.data / "verses_en_es_train.tsv", b.data / "verses_en_es_test.tsv"
    columns = ("--source-column", "en", "--target-column", "es")
    b.minigpt("train", "--model", "t5", "--data", train, "--vocab-size", 4096, "--n-layer", 3, "--n-embd", 192,
              "--n-head", 6, "--dropout", 0.1, "--max-steps", 300, "--out", b.work / "t5-text")  # fmt: skip
    b.minigpt("finetune", b.work / "t5-text", "--task", "seq2seq", "--data", train, *columns, "--held-out", 0.01,
              "--epochs", 12, "--batch-size", 32, "--learning-rate", 1e-3, "--warmup", 0.02, "--label-smoothing", 0.1,
              "--judge", 200,
              "--out", b.work / "t5-verses")  # fmt: skip
    _curve(b.work / "t5-verses" / "metrics.jsonl")
    rows = []
    for name, beams in (("greedy", 1), ("4 beams", 4)):
        found = b.score("t5-verses", "--score", test, *columns, "--num-beams", beams, "--max-new-tokens", 120)
        rows.append([name, f"{found['bleu']:.1f}", f"{found['chrf']:.1f}"])
    print(table(["decoding", "BLEU", "chrF"], rows), "\n", flush=True)
    peer("word_by_word.py", train, test)


def _curve(metrics: Path) -> None:
    """BLEU of the verses held out, as training went on; curves.svg beside the model has it as a picture."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = [
        [f"{r['seconds'] / 60:.1f}", f"{r['val_loss']:.3f}", f"{r['bleu']:.1f}"] for r in records if r["val_loss"] is not None
    ]
    print(table(["minutes", "loss held out", "BLEU of 200 held out"], rows), "\n", flush=True)


def dialogues(b: Bench) -> None:
    """A small GPT of ours, first on Python's manual, then on the assistant's words."""
    dialogs = b.data / "dialogs_en.jsonl"
    b.minigpt("train", "--tokenizer", "bpe", "--vocab-size", 2048, "--block-size", 128, "--out", b.work / "gpt")
    b.minigpt("finetune", b.work / "gpt", "--task", "chat", "--data", dialogs, "--epochs", 20, "--learning-rate", 1e-3,
              "--truncate", "--out", b.work / "gpt-chat")  # fmt: skip
    found = b.results("gpt-chat")
    before, after = found["before"]["perplexity"], found["held_out"]["perplexity"]
    print(table(["dialogues held out", "perplexity"], [["before", f"{before:.1f}"], ["after", f"{after:.1f}"]]), "\n")
    with open(dialogs, encoding="utf-8") as file:
        asked = [json.loads(next(file))["messages"][:2] for _ in range(5)]
    rows = [[q["content"], a["content"], b.minigpt("chat", b.work / "gpt-chat", q["content"], "--temperature", 0)]
            for q, a in asked]  # fmt: skip
    print(table(["question", "learned", "answered"], [[" ".join(text.split()) for text in row] for row in rows]))


def peer(name: str, *arguments: Path) -> None:
    """Another benchmark's table."""
    subprocess.run([sys.executable, str(HERE / name), *map(str, arguments)], check=True)


TASKS = {f.__name__: f for f in (reviews, pronunciation, verses, dialogues)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minilm", type=Path, metavar="DIR")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where models go (default: a folder that is removed)")
    chosen = parser.parse_args()
    print(machine(), "\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        TASKS[chosen.task](Bench(chosen.data, chosen.work or Path(scratch), chosen.minilm))


if __name__ == "__main__":
    main()
