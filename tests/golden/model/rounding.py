"""The number formats of the fp8 mode, on float64 arrays. Every function returns float64 values of the format."""

import numpy as np

F8_MAX = 448.0
BLOCK = 128


def to_f32(x):
    return x.astype(np.float32).astype(np.float64)


def to_bf16(x):
    """Nearest, ties to even, 8 significant bits. Magnitudes here stay far from bf16's subnormals."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 256.0), exponent - 8)


def to_e4m3(x):
    """Nearest, ties to even, 4 significant bits, subnormal steps of 2^-9, clamped to +-448."""
    x = np.clip(x, -F8_MAX, F8_MAX)
    exponent = np.frexp(x)[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, -6) - 3)
    return np.rint(x / step) * step


def power_of_two_scale(amax):
    scale = np.maximum(amax.astype(np.float32), np.float32(1e-4)) / np.float32(F8_MAX)
    mantissa, exponent = np.frexp(scale.astype(np.float64))
    return np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))


def fp32_scale(amax):
    """What a power-of-two scale is not: amax / 448 itself."""
    return (np.maximum(amax.astype(np.float32), np.float32(1e-4)) / np.float32(F8_MAX)).astype(np.float64)


def quantise_rows(x, scale_of=power_of_two_scale):
    """[..., n] -> (e4m3 values [..., n], scales [..., n / 128]): one scale per 128 consecutive channels."""
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    scale = scale_of(np.abs(blocks).max(-1))
    return to_e4m3(blocks / scale[..., None]).reshape(x.shape), scale


def dequantised_rows(x, scale_of=power_of_two_scale):
    values, scale = quantise_rows(x, scale_of)
    return values * np.repeat(scale, BLOCK, axis=-1)


def quantise_matrix(w):
    """[rows, cols] -> (e4m3 values, scales [ceil(rows / 128), ceil(cols / 128)])."""
    rows, cols = w.shape
    tall, wide = -(-rows // BLOCK), -(-cols // BLOCK)
    padded = np.zeros((tall * BLOCK, wide * BLOCK))
    padded[:rows, :cols] = w
    blocks = padded.reshape(tall, BLOCK, wide, BLOCK)
    scale = power_of_two_scale(np.abs(blocks).max((1, 3)))
    values = to_e4m3(blocks / scale[:, None, :, None]).reshape(padded.shape)[:rows, :cols]
    return values, scale


def expand_scale(scale, shape):
    return np.repeat(np.repeat(scale, BLOCK, 0), BLOCK, 1)[:shape[0], :shape[1]]


def hadamard(n):
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h
