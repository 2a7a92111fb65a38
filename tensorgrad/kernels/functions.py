"""Scalar functions that vectorise: exp, log, tanh, sigmoid, erf, erfc, and the tail of the normal distribution.

Each is a chain of multiplications, additions, divisions and selections without a branch or a call, so that a loop over it
compiles to vector instructions. The mathematics library's exp or erf is a call for each element, ten to fifty times slower.

The method is always the same: reduce the argument to a short interval, where a minimax polynomial (fitted for this file
by the Remez exchange) is as good as the arithmetic, and undo the reduction exactly. float32 results are within 2 units in
the last place, float64 within 1.5 (erfc: 6); NaN, infinities, signed zeros and subnormal numbers follow IEEE 754. Constants
are wrapped in float32 because the product of a float32 and a Python number would be computed in float64.
"""

import functools

import numpy as np
from numba.extending import overload

from tensorgrad.kernels.jit import inline

F = np.float32
D = np.float64
I32 = np.int32
I64 = np.int64


def by_dtype(single, double):
    """The function that is `single` of a 32-bit number and `double` of a 64-bit one, decided when its caller is compiled."""

    def function(x):
        return single(x) if x.itemsize == 4 else double(x)

    @overload(function, jit_options={"forceinline": True, "error_model": "numpy"})
    def choose(x):
        chosen = single if x.bitwidth == 32 else double
        return lambda x: chosen(x)

    return function


@inline
def minus(x, high, low):
    """(x - high) - low, in this order: a kernel may add high and low first, and lose low."""
    return (x - high) - low


@inline
def clip(x, low, high):
    """x bounded by two constants, in x's own type; nan stays nan, which min and max would lose."""
    x = type(x)(low) if x < low else x
    return type(x)(high) if x > high else x


def polynomial(dtype, *coefficients):
    """The function x -> c0 x^n + c1 x^(n-1) + ... + cn, by Horner's rule.

    Written out as one expression, because a loop over the coefficients is not unrolled in time to be vectorised.
    """
    names = {f"c{k}": dtype(c) for k, c in enumerate(coefficients)}
    horner = functools.reduce("({} * x + {})".format, names)
    return inline(eval(f"lambda x: {horner}", names))


# ---- exp: x = n log 2 + r with |r| <= log(2)/2, and e^x = 2^n (1 + r + r^2 P(r)) ----

_exp_p = polynomial(F, 0.00138145986, 0.00836871687, 0.041668388, 0.166665206, 0.499999934)
_exp64_p = polynomial(
    D, 2.5000058241998409e-08, 2.7630248395526228e-07, 2.7557586383957313e-06, 2.4801493098857687e-05,
    0.0001984126950656809, 0.001388888894363016, 0.0083333333334944665, 0.041666666666530155,
    0.16666666666666413, 0.50000000000000111,
)  # fmt: skip


@inline
def exp32(x):
    """e^x. Adding 1.5 2^23 rounds to the integer n and leaves n in the low bits. 2^n is applied in two halves, so
    that results too large overflow and results below the normal numbers are rounded once."""
    x = clip(x, -104, 89)
    t = x * F(1.44269504) + F(12582912)
    n = t - F(12582912)
    r = (x - n * F(0.693359375)) - n * F(-2.12194440e-4)
    y = (_exp_p(r) * (r * r) + r) + F(1)
    k = I32(F(t).view(I32) - I32(0x4B400000))
    half = I32(k >> 1)
    return y * I32(I32(half + I32(127)) << 23).view(F) * I32(I32(k - half + I32(127)) << 23).view(F)


@inline
def exp64(x):
    """As exp32, rounding with 1.5 2^52."""
    x = clip(x, -746, 710)
    t = x * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    y = (_exp64_p(r) * (r * r) + r) + 1.0
    k = I64(D(t).view(I64) - I64(0x4338000000000000))
    half = I64(k >> 1)
    return y * I64((half + 1023) << 52).view(D) * I64((k - half + 1023) << 52).view(D)


exp = by_dtype(exp32, exp64)


@inline
def decay32(x):
    """e^x for x <= 0, with 0 for the results below the normal numbers, in three quarters of the time. 127, the bias of the
    exponent, is added with the rounding, so that the low bits of t are those of 2^n."""
    x = F(-88) if x < F(-88) else x
    t = x * F(1.44269504) + F(12582912 + 127)
    n = t - F(12582912 + 127)
    r = (x - n * F(0.693359375)) - n * F(-2.12194440e-4)
    return ((_exp_p(r) * (r * r) + r) + F(1)) * I32(F(t).view(I32) << 23).view(F)


decay = by_dtype(decay32, exp64)


@inline
def raised32(x):
    """2^64 e^x for -107 <= x <= 0, never too small: times 2^-64 it is rounded once, to the last subnormal number."""
    t = x * F(1.44269504) + F(12582912 + 127 + 64)
    n = t - F(12582912 + 127 + 64)
    r = (x - n * F(0.693359375)) - n * F(-2.12194440e-4)
    return ((_exp_p(r) * (r * r) + r) + F(1)) * I32(F(t).view(I32) << 23).view(F)


@inline
def fade32(x):
    """As decay32, to the last subnormal number."""
    return raised32(F(-104) if x < F(-104) else x) * F(2.0**-64)


fade = by_dtype(fade32, exp64)


# ---- log: x = 2^e (1 + f) with 1 + f in [sqrt 1/2, sqrt 2], and log x = e log 2 + f - f^2/2 + f^3 P(f) ----

_log_p = polynomial(
    F, 0.0674664383, -0.116756528, 0.118881613, -0.124055887, 0.142195525, -0.166679959, 0.200021187, -0.250000096,
    0.333333126,
)  # fmt: skip


@inline
def log32(x):
    """log x. Subnormal numbers are scaled by 2^23 first."""
    small = x < F(1.17549435e-38)
    bits = F(x * F(8388608) if small else x).view(I32)
    e = I32(I32(bits - I32(0x3F3504F3)) >> 23)
    f = I32(bits - I32(e << 23)).view(F) - F(1)
    n = F(e) - (F(23) if small else F(0))
    y = (_log_p(f) * f - F(0.5)) * (f * f) + n * F(-2.12194440e-4)
    y = (y + f) + n * F(0.693359375)
    y = y if x < F(np.inf) else x
    y = y if x > F(0) else F(np.nan)
    return F(-np.inf) if x == F(0) else y


# float64: log(1 + f) = 2 artanh s = 2s + s z P(z), s = f / (2 + f), z = s^2, where 2s = f - s f and s f = f^2/2 - s f^2/2

_log64_p = polynomial(
    D, 0.14796441423253034, 0.15314004095089767, 0.18183566032014883, 0.22222198542588475, 0.28571428742662713,
    0.39999999999413555, 0.6666666666666734,
)  # fmt: skip


@inline
def log64(x):
    """As log32; subnormal numbers are scaled by 2^52."""
    small = x < 2.2250738585072014e-308
    bits = D(x * 4503599627370496.0 if small else x).view(I64)
    e = I64(I64(bits - I64(0x3FE6A09E667F3BCD)) >> 52)
    f = I64(bits - I64(e << 52)).view(D) - 1.0
    n = (I64(e + I64(0x4338000000000000)).view(D) - 6755399441055744.0) - (52.0 if small else 0.0)
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    y = f - (half - (s * (half + z * _log64_p(z)) + n * 1.90821492927058770002e-10))
    y = y + n * 6.93147180369123816490e-01
    y = y if x < np.inf else x
    y = y if x > 0.0 else np.nan
    return -np.inf if x == 0.0 else y


log = by_dtype(log32, log64)


# ---- tanh: x (1 + x^2 P(x^2)) near 0, else 1 - 2 e / (1 + e) with e = e^-2x ----

_tanh_p = polynomial(F, -0.00559101654, 0.0205388205, -0.0537096577, 0.133310923, -0.333332695)
_tanh64_p = polynomial(
    D, -1.5752092328458844e-05, 7.648565572330085e-05, -0.00022798186195586902, 0.00058602696098072351,
    -0.0014548699743964848, 0.0035919717660295295, -0.0088632188343422524, 0.021869487409984716, -0.053968253924003333,
    0.1333333333324648, -0.33333333333332738,
)  # fmt: skip


@inline
def tanh32(x):
    """x (1 + s P(s)), s = x^2, near 0, else 1 - 2 e / (1 + e), e = e^-2|x|, with the sign of x; within 1.4 ULP."""
    s = x * x
    near = x * (F(1) + s * _tanh_p(s))
    e = decay32(F(-2) * abs(x))
    far = F(1) - (e + e) / (F(1) + e)
    far = -far if x < F(0) else far
    return near if s < F(0.4) else far


@inline
def tanh64(x):
    """As tanh32."""
    s = x * x
    near = x * (1.0 + s * _tanh64_p(s))
    e = exp64(-2.0 * abs(x))
    far = 1.0 - (e + e) / (1.0 + e)
    far = -far if x < 0.0 else far
    return near if s < 0.4 else far


tanh = by_dtype(tanh32, tanh64)


# ---- sigmoid: with e = e^-|x|, which cannot overflow, 1 / (1 + e) for x >= 0 and e / (1 + e) below ----


@inline
def sigmoid(x):
    """1 / (1 + e^-x) within 1.97 ULP: the quotient, less its share of what 1 + e lost in rounding, as if 1 + e were 1."""
    one = type(x)(1)
    e = fade(-abs(x))
    low = one + e
    y = (e if x < 0 else one) / low
    return y - y * (e - (low - one))


@inline
def logistic(x):
    """1 / (1 + e^-x) to 3 units in the last place, for use inside other functions."""
    one = type(x)(1)
    e = decay(-abs(x))
    return (e if x < 0 else one) / (one + e)


@inline
def logistic_bend(x):
    """s (1 - s) and |1 - 2 s| for s = logistic(x), with no cancellation where s is near 0 or 1."""
    one = type(x)(1)
    e = decay(-abs(x))
    r = one / (one + e)
    return e * r * r, (one - e) * r


# ---- erf and its complement: for x >= 0, erfc x = e^(-x^2) P(1 - 6 r) r with r = 1 / (x + 3) ----

_erf_p = polynomial(F, 7.8538616e-05, -0.00080101937, 0.00518832769, -0.0268538119, 0.112835851, -0.376126258, 0.128379166)
_ERFC = (
    -0.000324719454, -0.000481994673, 0.00308057797, -0.00122704588, -0.0268400613, 0.119529173, -0.310465971,
    0.590228292, -0.883394488, 1.07400691,
)  # fmt: skip
_erfc_p = polynomial(F, *_ERFC)
_erfc_wide_p = polynomial(D, *_ERFC)
_erf64_p = polynomial(
    D, -7.7794658160706919e-10, 1.3710978771185197e-08, -1.6206313329059389e-07, 1.6447131506868005e-06,
    -1.4924712295970096e-05, 0.00012055293576533761, -0.00085483259293000298, 0.0052239776061181135,
    -0.026866170643111413, 0.11283791670944185, -0.37612638903183521, 0.12837916709551256,
)  # fmt: skip
_erfc64_p = polynomial(
    D, -3.4218148121463218e-09, -2.1102500233462822e-09, 3.8350261471771547e-08, 4.5124171001514997e-08,
    -2.1724234284984923e-07, -4.0483740103632417e-07, 9.8579433878974996e-07, 2.7623798038114958e-06,
    -4.7424952266828993e-06, -1.746903541645183e-05, 3.0395920844428744e-05, 0.00010756103289130435,
    -0.00027677736845380536, -0.00054830961308394242, 0.0030340619390012125, -0.0012124166347607765,
    -0.026827234619975344, 0.11952776128764286, -0.31046726190071816, 0.59022835710409582, -0.88339445316988219,
    1.0740069070883398,
)  # fmt: skip


@inline
def erf32(x):
    """erf x = x + x P(x^2) below 1, else 1 - erfc |x| with the sign of x."""
    size = abs(x)
    near = x + x * _erf_p(x * x)
    r = F(1) / (size + F(3))
    far = F(1) - decay32(-x * x) * (_erfc_p(F(1) - F(6) * r) * r)
    far = -far if x < F(0) else far
    return near if size < F(1) else far


@inline
def erf64(x):
    """As erf32."""
    size = abs(x)
    near = x + x * _erf64_p(x * x)
    r = 1.0 / (size + 3.0)
    far = 1.0 - exp64(-x * x) * (_erfc64_p(1.0 - 6.0 * r) * r)
    far = -far if x < 0.0 else far
    return near if size < 1.0 else far


erf = by_dtype(erf32, erf64)


@inline
def erfc32(x):
    """erfc x, computed in float64: rounding x^2 alone would cost x^2 units in the last place."""
    wide = D(x)
    r = 1.0 / (abs(wide) + 3.0)
    tail = exp64(-wide * wide) * (_erfc_wide_p(1.0 - 6.0 * r) * r)
    return F(2.0 - tail if wide < 0.0 else tail)


@inline
def erfc64(x):
    """erfc x = 1 - erf x below 1/2. Beyond, x^2 = high^2 + rest with high the upper half of the digits of |x|, squared exactly,
    and e^-rest is four terms of its series."""
    size = clip(abs(x), 0, 28)
    near = 1.0 - (x + x * _erf64_p(x * x))
    high = I64(D(size).view(I64) & I64(-0x8000000)).view(D)
    rest = (size - high) * (size + high)
    r = 1.0 / (size + 3.0)
    shrink = 1.0 - rest * (1.0 - rest * (0.5 - rest * 0.16666666666666666))
    tail = exp64(-high * high) * shrink * (_erfc64_p(1.0 - 6.0 * r) * r)
    far = 2.0 - tail if x < 0.0 else tail
    return near if size < 0.5 else far


erfc = by_dtype(erfc32, erfc64)


# ---- the tail of the normal distribution: P(X > |x|) = e^(-x^2/2) P(r) r with r = 1 / (|x| + 3) ----

_TAIL = 97.9921571, -154.645425, 74.3485266, -5.46157286, 4.64541658, 1.10683113, 0.401277053
_tail_p = polynomial(F, *_TAIL)
_lowered_tail_p = polynomial(F, *(c * 2.0**-64 for c in _TAIL))


@inline
def normal_tail32(x):
    """P(X > |x|) of a standard normal X, to a relative error of 1e-6 for |x| < 5 and of 3e-4 beyond."""
    r = F(1) / (abs(x) + F(3))
    return decay32(F(-0.5) * (x * x)) * (_tail_p(r) * r)


normal_tail = by_dtype(normal_tail32, inline(lambda x: 0.5 * erfc64(abs(x) * 0.7071067811865476)))


@inline
def weighted_tail32(x):
    """|x| P(X > |x|), to 37 units in the last place for |x| < 6; the last product alone can fall below the normal numbers."""
    size = abs(x)
    size = F(14.6) if size > F(14.6) else size
    r = F(1) / (size + F(3))
    return raised32(F(-0.5) * (size * size)) * (_lowered_tail_p(r) * r * size)


weighted_tail = by_dtype(weighted_tail32, inline(lambda x: clip(abs(x), 0, 64) * normal_tail(x)))
