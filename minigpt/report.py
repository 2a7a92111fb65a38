"""report.html: a training run in one self-contained page, made from the records of metrics.jsonl and the facts of the run."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minigpt.plot import drawn

Record = Mapping[str, Any]
SAMPLES = 6  # about so many are shown
FEW = 30  # fewer points than this are drawn as points too: one alone makes no line
SIZE = (4.7, 3.1)  # inches of a chart: readable on a phone as it is
_BLUE, _PALE, _ORANGE, _GREY = "#08519c", "#9ecae1", "#d9641a", "#888888"
_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;margin:0 auto;padding:1rem;max-width:76rem}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.15rem;margin:2em 0 .6em;border-bottom:1px solid #ddd}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1rem 0}
.figures div{background:#f4f7fb;border-radius:.5rem;padding:.6rem .8rem}.figures b{display:block;font-size:1.35rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(21rem,100%),1fr));gap:1rem}
figure{margin:0}figure img{width:100%;height:auto}figcaption{font-size:.85rem;color:#555}
table{border-collapse:collapse;font-size:.92rem}td,th{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr:nth-child(even){background:#f8f8f8}
.wide{overflow-x:auto}pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f6f6;padding:.7rem;border-radius:.4rem;font-size:.85rem}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:0 1.5rem}
h3{font-size:1rem;margin:1em 0 .3em}
"""


def report(records: Sequence[Record], facts: Mapping[str, Any]) -> str:
    """The page. `facts` are those that `minigpt.facts` collects: name, model, baselines, statistics, settings, energy."""
    title = f"minigpt on {html.escape(facts['name'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{html.escape(facts['model'])}</p>{_figures(records, facts)}"
        f'<h2>Learning</h2><div class="charts">{_charts(records, facts)}</div>'
        f"<h2>Against counting</h2>{_comparison(records, facts)}"
        f"<h2>Samples as training went on</h2>{_samples(records)}"
        f'<div class="columns"><section><h2>The text</h2>{_table(facts["statistics"].items())}</section>'
        f"<section><h2>Settings</h2>{_table(facts['settings'].items())}</section></div>"
        f"<h2>Energy</h2><p>{html.escape(facts['energy'])}</p></body></html>\n"
    )


def _figures(records: Sequence[Record], facts: Mapping[str, Any]) -> str:
    evaluated = [r for r in records if r["val_loss"] is not None]
    boxes = [("step", f"{records[-1]['step']:,}")] if records else []
    if evaluated:
        loss = min(r["val_loss"] for r in evaluated)
        boxes.append(("lowest validation loss, nats a token", f"{loss:.4f}"))
        if facts["tokens_per_character"] is not None:
            boxes.append(("bits a character", f"{loss * facts['tokens_per_character'] / math.log(2):.3f}"))
    if records:
        boxes += [
            ("tokens a second, at the end", f"{records[-1]['tokens_per_second']:,.0f}"),
            ("minutes", f"{records[-1]['seconds'] / 60:.1f}"),
        ]
    return f'<div class="figures">{"".join(f"<div><b>{value}</b>{name}</div>" for name, value in boxes)}</div>'


def _charts(records: Sequence[Record], facts: Mapping[str, Any]) -> str:
    evaluated = [r for r in records if r["val_loss"] is not None]
    known = facts["tokens_per_character"] is not None
    bits = [("Bits a character on the validation text", lambda a: _bits(a, evaluated, facts))] if known else []
    charts = [
        (
            "Loss in nats a token; dashed, counting and the uniform distribution",
            lambda a: _losses(a, records, evaluated, facts),
        ),
        *bits,
        ("Learning rate", lambda a: _line(a, records, "lr")),
        ("Norm of the whole gradient, before clipping", lambda a: _line(a, records, "grad_norm", log=True)),
        ("Norm of the gradient by layer", lambda a: _layers(a, evaluated, "grad_norm")),
        ("|update| / |weights| by layer; about 1e-3 is a good pace", lambda a: _layers(a, evaluated, "update_ratio")),
        ("Tokens a second", lambda a: _line(a, records, "tokens_per_second")),
        ("Memory of the process, MB", lambda a: _line(a, [r for r in evaluated if r.get("memory_mb")], "memory_mb")),
    ]
    return "".join(_chart(caption, draw) for caption, draw in charts)


def _chart(caption: str, draw: Callable[[Any], None]) -> str:
    def figure(fig: Any) -> None:
        axes = fig.add_subplot()
        draw(axes)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)

    svg = base64.b64encode(drawn(figure, SIZE).encode()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{svg}"><figcaption>{text}</figcaption></figure>'


def _losses(axes: Any, records: Sequence[Record], evaluated: Sequence[Record], facts: Mapping[str, Any]) -> None:
    axes.plot([r["step"] for r in records], [r["loss"] for r in records], color=_PALE, lw=1, label="training")
    axes.plot(
        [r["step"] for r in evaluated],
        [r["val_loss"] for r in evaluated],
        color=_BLUE,
        lw=1.8,
        marker="o",
        ms=3,
        label="validation",
    )
    for name, loss in facts["baselines"].items():
        axes.axhline(loss, color=_GREY if name == "uniform" else _ORANGE, ls="--", lw=1)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "xytext": (-2, 2), "ha": "right"}
        axes.annotate(f"{name} {loss:.2f}", (1, loss), fontsize=8, **place)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _bits(axes: Any, evaluated: Sequence[Record], facts: Mapping[str, Any]) -> None:
    scale = facts["tokens_per_character"] / math.log(2)
    axes.plot([r["step"] for r in evaluated], [r["val_loss"] * scale for r in evaluated], color=_BLUE, lw=1.8, marker="o", ms=3)


def _line(axes: Any, records: Sequence[Record], key: str, log: bool = False) -> None:
    shown = [r for r in records if r[key] is not None and math.isfinite(r[key])]
    marker = "o" if len(shown) < FEW else None
    axes.plot([r["step"] for r in shown], [r[key] for r in shown], color=_BLUE, lw=1.2, marker=marker, ms=3)
    if log and any(r[key] > 0 for r in shown):
        axes.set_yscale("log")


def _layers(axes: Any, evaluated: Sequence[Record], key: str) -> None:
    import matplotlib

    seen = [r for r in evaluated if "layers" in r]
    names = list(seen[-1]["layers"]) if seen else []
    colours = matplotlib.colormaps["viridis"]
    for i, name in enumerate(names):
        values = [max(r["layers"][name][key], 1e-12) for r in seen]
        colour = colours(i / max(len(names) - 1, 1) * 0.9)
        axes.plot([r["step"] for r in seen], values, color=colour, lw=1.2, marker="o", ms=2.5, label=name)
    if seen:
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _comparison(records: Sequence[Record], facts: Mapping[str, Any]) -> str:
    evaluated = [r["val_loss"] for r in records if r["val_loss"] is not None]
    losses = dict(facts["baselines"]) | ({"this model": evaluated[-1]} if evaluated else {})
    density = facts["tokens_per_character"]
    bits = lambda loss: "" if density is None else f'<td class="n">{loss * density / math.log(2):.3f}'
    rows = "".join(
        f'<tr><td>{name}<td class="n">{loss:.4f}<td class="n">{math.exp(min(loss, 700)):,.2f}{bits(loss)}'
        for name, loss in sorted(losses.items(), key=lambda item: item[1])
    )
    head = '<tr><th>model<th class="n">nats a token<th class="n">perplexity'
    head += "" if density is None else '<th class="n">bits a character'
    return f'<div class="wide"><table>{head}{rows}</table></div>'


def _samples(records: Sequence[Record]) -> str:
    seen = [r for r in records if r.get("sample")]
    picked = seen[:-1][:: max(1, len(seen) // SAMPLES)] + seen[-1:]
    shown = "".join(f"<div><h3>Step {r['step']:,}</h3><pre>{html.escape(r['sample'])}</pre></div>" for r in picked)
    return f'<div class="columns">{shown}</div>' if shown else "<p>None were drawn.</p>"


def _table(rows: Any) -> str:
    texts = [(str(name), f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in rows]
    cells = "".join(f'<tr><td>{html.escape(name)}<td class="n">{html.escape(text)}' for name, text in texts)
    return f'<div class="wide"><table>{cells}</table></div>'
