"""The report is one whole page that asks nothing of the network; the facts behind it; the view for a terminal."""

import base64
import json
import math
import mmap
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from minigpt import diagnostics, energy, facts
from minigpt.errors import UserError
from minigpt.lock import locked
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.report import report
from minigpt.watch import bars, records, running, watch


class Page(HTMLParser):
    """Notes which tags are left open and what is loaded from where."""

    VOID = ("meta", "img", "tr", "td", "th")

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.images, self.text = [], [], 0, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.images += tag == "img"
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_run_leaves_a_page_that_needs_nothing_else(trained):
    page = Page((trained / "report.html").read_text())
    assert page.open == [] and page.images == 8
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    seen = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    for expected in (
        f"{seen['val_loss']:.4f}",
        "uniform",
        "trigram",
        "bottles.txt",
        "max_steps",
        "CO2-equivalent",
        seen["sample"],
    ):
        assert expected in page.text


def test_a_single_evaluation_is_seen_in_every_chart():
    """A line through one point is nothing to see, so it is drawn as a point."""
    record = {"step": 1, "loss": 3.0, "val_loss": 2.5, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 9.0, "seconds": 1.0}
    record |= {"memory_mb": 80.0, "layers": {"wte": {"grad_norm": 0.1, "update_ratio": 1e-3}}}
    about = {"name": "a", "model": "b", "energy": "c", "baselines": {}, "statistics": {}, "settings": {}}
    page = report([record], about | {"tokens_per_character": 0.5})
    pictures = [base64.b64decode(found).decode() for found in re.findall(r"base64,([^\"]+)", page)]
    assert len(pictures) == 8
    for picture in pictures:
        assert re.search(r"<use [^>]*fill: #(?!000000)", picture)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_an_error_and_without_scrolling_sideways(trained, tmp_path, width):
    probe = (
        "<script>document.title=document.documentElement.scrollWidth+' '+[...document.images].every(i=>i.naturalWidth)</script>"
    )
    page = tmp_path / "page.html"
    page.write_text((trained / "report.html").read_text().replace("</body>", probe + "</body>"))
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, f"--window-size={width},900", f"file://{page}"], capture_output=True, text=True, timeout=60)
    assert "CONSOLE" not in done.stderr
    shown, whole = re.search(r"<title>(\d+) (\w+)</title>", done.stdout).groups()
    assert int(shown) <= max(width, 500) and whole == "true"  # a headless window is at least 500 wide


def test_layers_add_up_to_the_whole():
    model = GPT(GPTConfig(vocab_size=7, block_size=4, n_layer=2, n_head=1, n_embd=8), np.random.default_rng(0))
    ids = np.arange(4)[None]
    model.loss(ids, ids).backward()
    before = diagnostics.weights(model)
    for p in model.parameters():
        p.data = p.data * 1.25
    found = diagnostics.layers(model, before)
    assert list(found) == ["wte", "wpe", "h.0", "h.1", "ln_f"]
    assert all(layer["update_ratio"] == pytest.approx(0.25) for layer in found.values())
    total = math.sqrt(sum(float(np.sum(p.grad.data.astype(float) ** 2)) for p in model.parameters()))
    assert math.sqrt(sum(layer["grad_norm"] ** 2 for layer in found.values())) == pytest.approx(total)


def test_memory_is_that_of_this_process():
    before = diagnostics.memory()
    kept = np.frombuffer(mmap.mmap(-1, 50_000_000), np.uint8)  # never memory that was freed before
    kept[:] = 1
    assert 45 < diagnostics.memory() - before < 80


def test_energy_by_counters_that_begin_anew_and_by_estimate(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    assert energy.Meter(3).watts() == (30.0, False)
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("9999999")
    (package / "energy_uj").write_text("8000000")
    meter = energy.Meter(3)
    (package / "energy_uj").write_text("1000000")
    watts, measured = meter.watts()
    assert measured and meter.joules == pytest.approx(3.0) and watts > 0
    print_of = energy.Footprint(20.0, False, 1800)
    assert (print_of.kilowatt_hours, print_of.grams) == pytest.approx((0.01, 4.8))
    assert "4.8 g of CO2-equivalent" in str(print_of)


def test_watching_a_run_that_is_over(trained, tmp_path):
    console = Console(record=True, width=90, force_terminal=True, file=open(tmp_path / "out", "w"))
    watch(trained, console)
    text = console.export_text()
    assert "30 of 30, finished" in text and "validation loss" in text
    with pytest.raises(UserError, match="is not the folder of a training run"):
        watch(tmp_path, console)


def test_watching_ends_with_the_run(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    console = Console(width=90, force_terminal=True, file=open(tmp_path / "out", "w"))
    looks = []
    with locked(folder):
        assert running(folder)

        class Enough(Exception):
            pass

        def wait(seconds):
            looks.append(seconds)
            if len(looks) == 3:
                raise Enough

        with pytest.raises(Enough):
            watch(folder, console, wait)
    assert looks == [1.0] * 3 and not running(folder)
    with open(folder / "metrics.jsonl", "a") as log:
        log.write('{"step": 31, "lo')  # a line that is being written
    assert records(folder)[-1]["step"] == 30


def test_bars():
    assert bars([1, 2, 8], 10) == "▁▂█"
    assert bars([5, 5], 10) == "▁▁" and bars([], 10) == "" and bars([1.0, None], 10) == "▁!"
    assert len(bars(list(range(1000)), 80)) <= 80


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"max_steps": "x", "name": "n"}', "[" * 100_000])
def test_damaged_facts_are_one_sentence(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        facts.read(tmp_path)
