"""The costs of a recording against closed forms."""

import numpy as np
import pytest

import tensorgrad as tg

RNG = np.random.default_rng(0)


def normal(*shape, dtype=np.float32):
    return tg.tensor(RNG.standard_normal(shape), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(("batch", "m", "k", "n"), [((), 7, 5, 3), ((4,), 7, 5, 3), ((2, 3), 1, 8, 6)])
def test_matmul_is_2mnk(batch, m, k, n):
    c = tg.cost(normal(*batch, m, k) @ normal(*batch, k, n))
    times = int(np.prod(batch))
    assert c.flops == times * 2 * m * n * k
    assert c.bytes_read == times * 4 * (m * k + k * n)
    assert c.bytes_written == times * 4 * m * n


def test_a_matrix_and_a_shared_stack_count_every_product():
    assert tg.cost(normal(4, 5) @ normal(6, 5, 2)).flops == 6 * 2 * 4 * 5 * 2


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernels", [True, False])
def test_attention_is_4bhtsd_and_a_softmax(causal, kernels):
    b, h, t, s, d = 2, 3, 16, 16, 8

    def forward():
        return tg.cost(tg.attention(normal(b, h, t, d), normal(b, h, s, d), normal(b, h, s, d), causal=causal))

    if kernels:
        c = forward()
    else:
        with tg.definitions():
            c = forward()
    products, scores = 4 * b * h * t * s * d, b * h * t * s
    assert products + 4 * scores <= c.flops <= products + 7 * scores


def test_linear_is_2mnk_and_a_bias():
    layer = tg.nn.Linear(5, 3)
    assert tg.cost(layer(normal(7, 5))).flops == 2 * 7 * 5 * 3 + 7 * 3


def test_a_transformers_products():
    """2 T (12 C^2 L + C V) in the linear maps and 4 T^2 C L in attention, for T tokens of one sequence, width C, L layers."""
    width, layers, tokens, heads = 32, 3, 16, 4
    blocks = [
        [normal(3 * width, width), normal(width, width), normal(4 * width, width), normal(width, 4 * width)]
        for _ in range(layers)
    ]
    x = normal(1, tokens, width)
    for qkv, out, up, down in blocks:
        q, k, v = (part.reshape(1, tokens, heads, -1).swapaxes(1, 2) for part in tg.split(tg.linear(x, qkv), 3, axis=-1))
        x = x + tg.linear(tg.attention(q, k, v, causal=True).swapaxes(1, 2).reshape(1, tokens, width), out)
        x = x + tg.linear(tg.gelu(tg.linear(x, up)), down)
    rows = tg.cost(x).ops
    assert sum(row.flops for row in rows if row.op == "linear") == 2 * tokens * 12 * width**2 * layers
    attention = sum(row.flops for row in rows if row.op == "attention")
    assert attention == 4 * tokens**2 * width * layers + 6 * tokens**2 * heads * layers


@pytest.mark.parametrize(
    "f",
    [
        tg.softmax,
        tg.log_softmax,
        tg.silu,
        tg.gelu,
        lambda x: tg.gelu(x, approximate="tanh"),
        lambda x: tg.layer_norm(x, normal(1000), normal(1000)),
        lambda x: tg.layer_norm(x),
        lambda x: tg.rms_norm(x, normal(1000)),
        lambda x: tg.cross_entropy(x, np.zeros(len(x), int)),
        lambda x: tg.linear(x, normal(100, 1000), normal(100)),
        lambda x: tg.linear(x, normal(1000, 1000), normal(1000), residual=x),
        lambda x: tg.feed_forward(x, normal(30, 1000), normal(1000, 30), normal(30), normal(1000), residual=x),
    ],
    ids=[
        "softmax",
        "log_softmax",
        "silu",
        "gelu",
        "gelu_tanh",
        "layer_norm",
        "layer_norm_plain",
        "rms_norm",
        "cross_entropy",
        "linear",
        "linear_residual",
        "feed_forward",
    ],
)
def test_a_fused_op_counts_what_its_definition_does(f):
    """To one operation for each entry: the maximum that softmax subtracts, which is a constant to the definition."""
    x = normal(6, 1000)
    fused = tg.cost(f(x))
    with tg.definitions():
        defined = tg.cost(f(x))
    assert len(defined.ops) > len(fused.ops)
    assert 0.99 * defined.flops <= fused.flops <= 1.01 * (defined.flops + x.size)


def test_elementwise_ops_count_one_for_each_entry_and_views_nothing():
    x = normal(4, 6)
    c = tg.cost(tg.exp(x.T.reshape(2, 12)[0]) + 1)
    assert [(row.op, row.flops, row.bytes_written) for row in c.ops if row.flops] == [("exp", 12, 48), ("add", 12, 48)]
    assert [row.bytes_read for row in c.ops if row.op == "permute_dims"] == [0]


def test_peak_memory_is_every_array_once():
    n = 1000
    x = normal(n)
    y = x
    for _ in range(10):
        y = tg.sin(y)
    assert tg.cost(y).peak_memory == 11 * 4 * n
    assert tg.cost(y.reshape(10, 100).T, y).peak_memory == 11 * 4 * n


def test_saved_arrays_are_held():
    x = normal(50, 200)
    y = tg.layer_norm(x)
    assert len(y.saved) == 2
    made = [y._array, *y.saved]  # each in a buffer a little larger than itself
    assert 0 <= tg.cost(y).peak_memory - x.data.nbytes - sum(a.nbytes for a in made) <= 3 * 512


def test_a_backward_pass_costs_about_twice_the_forward():
    w, x = normal(40, 30), normal(20, 30)
    loss = tg.sum(tg.linear(x, w))
    forward = tg.cost(loss).flops
    loss.backward(create_graph=True)
    assert tg.cost(loss, w.grad, x.grad).flops - forward == pytest.approx(2 * forward, rel=0.1)


def test_totals_are_the_sums_of_the_rows_and_print():
    c = tg.cost({"y": [tg.tanh(normal(3, 4) @ normal(4, 5))]})
    assert c.flops == sum(row.flops for row in c.ops) == 2 * 3 * 4 * 5 + 15
    text = str(c)
    assert "matmul" in text and f"{c.flops:,}" in text and f"peak memory {c.peak_memory:,} bytes" in text


def test_nothing_recorded_costs_nothing():
    c = tg.cost(tg.tensor([1.0, 2.0]))
    assert (c.flops, c.bytes_read, c.bytes_written, c.peak_memory, c.ops) == (0, 0, 0, 8, [])
