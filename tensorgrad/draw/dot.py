"""The recorded graph as a picture: parameters and inputs flow through ops, inside nested modules, to the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import graphviz

from .. import tree
from ..graph import Tensor
from .annotate import SHOWABLE, Annotator, argument_names, title
from .fold import Folds
from .labels import label
from .outline import Outline, Path, memory, pass_name
from .render import picture
from .view import Node, View

FONT = "Helvetica,Arial,sans-serif"
INK, FAINT, LINE = "#243142", "#66768a", "#8a98aa"

# fill and border of ops in each pass, forward first
PASSES = [("#e9f0fa", "#6f8fbd"), ("#fbeee2", "#c98f5a"), ("#f1eaf8", "#957cb8"), ("#e4f2f2", "#5f9d9f")]

STYLES: dict[str, dict[str, str]] = {
    "parameter": {"shape": "ellipse", "fillcolor": "#e3f2e6", "color": "#68a077", "margin": "0.02,0.02"},
    "input": {"shape": "invhouse", "fillcolor": "#fff3d6", "color": "#c7a252", "margin": "0.06,0.02"},
    "constant": {"shape": "box", "fillcolor": "#f5f5f5", "color": "#b5b5b5", "style": "filled,dashed"},
    "op": {"shape": "box"},
    "module": {"shape": "folder", "margin": "0.16,0.08", "style": "filled"},
    "result": {"shape": "box", "fillcolor": "#33475f", "color": "#33475f", "fontcolor": "white", "peripheries": "2"},
}


class Picture(graphviz.Digraph):
    """A graphviz.Digraph that shows itself in a notebook without the `dot` program."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": picture(self.source, "svg").decode()}


def draw(
    *outputs: Any,
    inputs: Mapping[str, Tensor] | Sequence[Tensor] | None = None,
    depth: int | None = None,
    show: Sequence[str] = ("shape", "dtype"),
) -> Picture:
    """The graph recorded on the way to `outputs` (Tensors, or containers of them) as a graphviz.Digraph.

    Leaves with requires_grad are parameters, others inputs; `inputs` names them, as a dict, or a list to go by their own names.
    `depth` is how many levels of modules to draw, the last of them as one node for each module; all unless given, or as many
    as can be read.  `show` may hold shape, dtype, value, grad (norm of the gradient of the sum of the outputs), flops, bytes,
    time (of the op run again), formula.  Gradients computed with create_graph=True, or by a transform inside another, are drawn
    beside the pass that they belong to.  Raises ValueError for an unknown word in `show` and a negative depth, TypeError when
    there is no Tensor to draw, RuntimeError for a freed graph.
    """
    tensors = tree.flatten(outputs)[0]
    if not tensors:
        raise TypeError("draw() needs at least one Tensor to draw")
    if depth is not None and depth < 0:
        raise ValueError(f"draw: depth must be at least 0, got {depth}")
    if unknown := [word for word in show if word not in SHOWABLE]:
        raise ValueError(f"draw: show holds {unknown[0]!r}, expected some of {', '.join(SHOWABLE)}")
    if not isinstance(inputs, Mapping):
        inputs = {x.name or f"input {i}": x for i, x in enumerate(inputs or (), 1)}
    view = View(Outline(tensors, {memory(x._array): (name, x) for name, x in inputs.items()}), tensors, depth)
    return _dot(view, Annotator(tensors, show))


def _dot(view: View, annotator: Annotator) -> Picture:
    graph = Picture(
        graph_attr={"fontname": FONT, "fontsize": "11", "labeljust": "l", "nodesep": "0.22", "ranksep": "0.32"},
        node_attr={"fontname": FONT, "fontsize": "11", "fontcolor": INK, "style": "filled,rounded", "penwidth": "1.1",
                   "margin": "0.12,0.06", "height": "0.3", "width": "0.3"},
        edge_attr={"color": LINE, "arrowsize": "0.6", "fontname": FONT, "fontsize": "8", "fontcolor": FAINT},
    )  # fmt: skip
    ids = {node: f"n{i}" for i, node in enumerate(view.nodes)}
    passes = sorted({node.path[0] for node in view.nodes})
    _group(graph, () if len(passes) > 1 else ("",), view, ids, annotator)
    if len(passes) > 1:
        _side_by_side(graph, passes)
    fed = {node for source, node, _ in view.edges if source.role in ("parameter", "constant")}
    for source, node, place in view.edges:
        far = node in fed and source.path != node.path  # leaves a row for parameters, so that groups need not stand side by side
        _edge(graph, ids, (source, node, place), 2 if far else 1)
    return graph


def _side_by_side(graph: graphviz.Digraph, passes: Sequence[str]) -> None:
    """Order the clusters of passes from left to right, by invisible nodes in their top rows."""
    hidden = {"style": "invis", "shape": "point", "width": "0", "height": "0"}
    graph.node("top", ordering="out", **hidden)
    for mark in passes:
        with graph.subgraph(name=f"cluster_{mark}") as cluster:
            cluster.node(f"top{mark}", **hidden)
        graph.edge("top", f"top{mark}", style="invis")


def _group(graph: graphviz.Digraph, path: Path, view: View, ids: dict[Node, str], annotator: Annotator) -> None:
    """The nodes that lie in the group `path`, then the groups inside it, each as a cluster."""
    for node in ids:
        if node.path == path:
            graph.node(ids[node], label=_label(node, annotator), **_style(node))
    deep = len(path) + 1
    for child in dict.fromkeys(node.path[:deep] for node in ids if node.path[: deep - 1] == path and len(node.path) >= deep):
        with graph.subgraph(name="cluster_" + ".".join(child)) as cluster:
            cluster.attr(**_frame(child), label=_heading(child, view.folds))
            _group(cluster, child, view, ids, annotator)


def _heading(path: Path, folds: Folds) -> str:
    name = path[-1] if len(path) > 1 else pass_name(path[0])
    if path in folds.times:
        name = f"{name} .. {folds.last[path]}   × {folds.times[path]}"
    return name


def _frame(path: Path) -> dict[str, str]:
    if len(path) == 1:
        _, line = PASSES[len(path[0]) % len(PASSES)]
        return {"style": "rounded", "color": line, "fontcolor": line, "fontsize": "13", "margin": "14"}
    fill = "#f8fafc" if len(path) % 2 else "#f1f4f8"
    return {"style": "rounded,filled", "color": "#ccd5e0", "fillcolor": fill, "fontcolor": FAINT}


def _style(node: Node) -> dict[str, str]:
    fill, line = PASSES[len(node.path[0]) % len(PASSES)]
    return {"fillcolor": fill, "color": line} | STYLES[node.role]


def _label(node: Node, annotator: Annotator) -> str:
    times = f" × {node.times}" if node.times > 1 else ""
    return label(title(node) + times, annotator.lines(node), "#c9d4e2" if node.role == "result" else FAINT)


def _edge(graph: graphviz.Digraph, ids: dict[Node, str], edge: tuple[Node, Node, int], minlen: int) -> None:
    """Forward edges run down the page and those of the backward pass up, so that each op stands by its derivative."""
    source, node, place = edge
    names = argument_names(node.items[0]) if node.role == "op" else []
    name = names[place] if place < len(names) else ""
    weight = "8" if source.role in ("op", "module") else "1"  # keeps the flow straight, and parameters at its side
    if len(source.path[0]) < len(node.path[0]):
        graph.edge(ids[source], ids[node], style="dashed", color="#b9c2cd", constraint="false")
    elif len(node.path[0]) == 1:
        graph.edge(ids[node], ids[source], dir="back", taillabel=name, weight=weight, minlen=str(minlen))
    else:
        graph.edge(ids[source], ids[node], headlabel=name, weight=weight, minlen=str(minlen))
