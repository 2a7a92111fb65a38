"""What NumPy has no function for, written down plainly: the references of samples.py.  Analytic ones take complex numbers."""

import math

import numpy as np


def softmax(x, axis=-1):
    e = np.exp(x - np.max(x.real, axis, keepdims=True))
    return e / np.sum(e, axis, keepdims=True)


def log_softmax(x, axis=-1):
    return np.log(softmax(x, axis))


def var(x, axis=None, correction=0.0, keepdims=False):
    n = x.size // max(1, np.size(np.sum(x, axis)))
    return np.sum((x - np.mean(x, axis, keepdims=True)) ** 2, axis, keepdims=keepdims) / (n - correction)


def norm(x, ord=2, axis=None, keepdims=False):
    if ord == 2:
        return np.sqrt(np.sum(x * x, axis, keepdims=keepdims))
    if abs(ord) == math.inf:
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    return np.sum(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1 / ord)


def layer_norm(x, weight=1.0, bias=0.0, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(var(x, -1, keepdims=True) + eps) * weight + bias


def rms_norm(x, weight=1.0, eps=1e-6):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def reduced(losses, reduction="mean"):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    targets = np.asarray(targets)
    logp = log_softmax(logits)
    if targets.shape == logits.shape:
        return reduced(-np.sum(logp * (targets * (1 - label_smoothing) + label_smoothing / logits.shape[-1]), -1), reduction)
    used = targets != ignore_index
    chosen = np.take_along_axis(logp, np.where(used, targets, 0)[..., None], -1)[..., 0]
    losses = np.where(used, -(1 - label_smoothing) * chosen - label_smoothing * logp.mean(-1), 0)
    return losses.sum() / max(1, used.sum()) if reduction == "mean" else reduced(losses, reduction)


def kl_div(log_q, p, reduction="sum"):
    return reduced(p * (np.log(p) - log_q), reduction)


def feed_forward(x, w1, w2, b1=0.0, b2=0.0, residual=0.0):
    return gelu(x @ w1.T + b1) @ w2.T + b2 + residual


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def attention(q, k, v, bias=0.0, mask=True, causal=False, scale=None):
    repeats = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeats, 1), np.repeat(v, repeats, 1)
    scores = q @ k.swapaxes(-1, -2) * (scale or 1 / math.sqrt(q.shape[-1])) + bias
    seen = np.broadcast_to(mask, scores.shape) & np.tri(
        *scores.shape[-2:], scores.shape[-1] - scores.shape[-2] if causal else scores.shape[-1], dtype=bool
    )
    e = np.where(seen, np.exp(scores), 0)
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total) @ v


def self_attention(qkv, heads, **params):
    batch, length, width = qkv.shape
    q, k, v = (x.reshape(batch, length, heads, width // 3 // heads).swapaxes(1, 2) for x in np.split(qkv, 3, -1))
    return attention(q, k, v, **params).swapaxes(1, 2).reshape(batch, length, width // 3)


def rotary(x, positions=None, base=10000.0, interleaved=False):
    d = x.shape[-1]
    t = np.arange(x.shape[-2]) if positions is None else np.asarray(positions)
    turn = np.exp(1j * np.multiply.outer(t, base ** (-np.arange(0, d, 2) / d)))
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., : d // 2], x[..., d // 2 :])
    y = np.stack([a * turn.real - b * turn.imag, a * turn.imag + b * turn.real], -1 if interleaved else -2)
    return y.reshape(x.shape)


def index_update(x, values, key):
    y = np.array(x, np.result_type(x, values))
    y[key] = values
    return y


def scatter_add(x, src, axis, index):
    y = np.array(x, np.result_type(x, src))
    for place in np.ndindex(*np.shape(index)):
        y[(*place[:axis], np.asarray(index)[place], *place[axis + 1 :])] += src[place]
    return y


def topk(x, k, axis=-1):
    places = np.take(np.argsort(-x.real, axis, kind="stable"), range(k), axis)
    return np.take_along_axis(x, places, axis), places


def conv(x, weight, bias=0.0, stride=1, padding=0, dilation=1, groups=1):
    """Convolution along all axes but the first two, one entry of the result at a time."""
    n = weight.ndim - 2
    stride, dilation = np.broadcast_to(stride, n), np.broadcast_to(dilation, n)
    if padding == "same":
        total = dilation * (np.array(weight.shape[2:]) - 1)
        widths = [(t // 2, t - t // 2) for t in total]
    else:
        widths = [(p, p) for p in np.broadcast_to(0 if padding == "valid" else padding, n)]
    x = np.pad(x, [(0, 0), (0, 0), *widths])
    kernel, each = np.array(weight.shape[2:]), weight.shape[0] // groups
    out = (np.array(x.shape[2:]) - dilation * (kernel - 1) - 1) // stride + 1
    y = np.zeros((x.shape[0], weight.shape[0], *out), np.result_type(x, weight, bias))
    for sample, channel, *place in np.ndindex(y.shape):
        first = channel // each * weight.shape[1]
        window = [slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(place, stride, dilation, kernel, strict=True)]
        seen = x[(sample, slice(first, first + weight.shape[1]), *window)]
        y[(sample, channel, *place)] = np.sum(seen * weight[channel]) + np.broadcast_to(bias, weight.shape[0])[channel]
    return y


def pool(reduction, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True):
    """The reduction of each window of the last two axes, leaving out what does not count."""
    kernel, pads, dilation = (np.broadcast_to(v, 2) for v in (kernel_size, padding, dilation))
    stride = kernel if stride is None else np.broadcast_to(stride, 2)
    size = np.array(x.shape[-2:])
    steps = (size + 2 * pads - dilation * (kernel - 1) - 1) / stride
    out = (np.ceil(steps) if ceil_mode else np.floor(steps)).astype(int) + 1
    out -= ((out - 1) * stride >= size + pads) & ceil_mode
    y = np.zeros((*x.shape[:-2], *out), x.dtype)
    for place in np.ndindex(*out):
        starts = np.array(place) * stride - pads
        rows, columns = (i + d * np.arange(k) for i, d, k in zip(starts, dilation, kernel, strict=True))
        inside = x[..., rows[(rows >= 0) & (rows < size[0])], :][..., columns[(columns >= 0) & (columns < size[1])]]
        counted = [np.sum(i < n + p) for i, n, p in zip((rows, columns), size, pads, strict=True)]
        count = np.prod(counted) if count_include_pad else inside.shape[-1] * inside.shape[-2]
        y[(..., *place)] = np.max(inside, (-2, -1)) if reduction == "max" else np.sum(inside, (-2, -1)) / count
    return y


def batch_norm(x, weight=1.0, bias=0.0, mean=None, var=None, eps=1e-5):
    axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    mean = np.mean(x, axes) if mean is None else np.float64(mean)
    centred = x - mean.reshape(shape)
    var = np.mean(centred**2, axes) if var is None else np.float64(var)
    return centred / np.sqrt(var.reshape(shape) + eps) * np.reshape(weight, shape) + np.reshape(bias, shape)
