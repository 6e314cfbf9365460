#!/usr/bin/env python3
"""Prints the golden numbers of random_weights_test.cc, from the formulas alone (plain Python, no library)."""

import math
import struct

MASK = (1 << 64) - 1


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def fnv1a64(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def fp32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def fp32_bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def value(seed, name, i, center, spread):
    h = splitmix64((splitmix64(seed ^ fnv1a64(name.encode())) + i) & MASK)
    u = (h >> 40) / (1 << 24)
    return fp32(center + spread * (2.0 * u - 1.0))


def bf16_bits(x):
    """Nearest of the two neighbours, ties to the even one."""
    low = fp32_bits(x) >> 16
    as_float = lambda bits: struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    below, above = abs(x - as_float(low)), abs(as_float(low + 1) - x)
    if below == above:
        return low if low % 2 == 0 else low + 1
    return low if below < above else low + 1


E4M3 = []  # the non-negative values, by code
for code in range(0x7F):
    exponent, mantissa = code >> 3, code & 7
    E4M3.append(mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


def e4m3_bits(x):
    magnitude = min(abs(x), 448.0)
    best = min(range(len(E4M3)), key=lambda c: (abs(E4M3[c] - magnitude), c % 2))
    return best | (0x80 if math.copysign(1.0, x) < 0 else 0)


def fp8_tensor(seed, name, rows, cols):
    """Bytes of the e4m3 weights and of their fp32 scales, 128 x 128 blocks."""
    spread = math.sqrt(3.0 / cols)
    w = [value(seed, name, i, 0.0, spread) for i in range(rows * cols)]
    codes = bytearray(rows * cols)
    scales = b""
    cache = {}
    for r0 in range(0, rows, 128):
        for c0 in range(0, cols, 128):
            block = [r * cols + c for r in range(r0, min(r0 + 128, rows)) for c in range(c0, min(c0 + 128, cols))]
            amax = max(max(abs(w[i]) for i in block), 1e-4)
            scale = 2.0 ** math.ceil(math.log2(amax / 448.0))
            scales += struct.pack("<f", scale)
            for i in block:
                q = w[i] / scale
                if q not in cache:
                    cache[q] = e4m3_bits(q)
                codes[i] = cache[q]
    return bytes(codes), scales


if __name__ == "__main__":
    for seed, name, i, center, spread in [
        (0, "lm_head.weight", 0, 0.0, math.sqrt(3.0 / 256)),
        (0, "lm_head.weight", 1, 0.0, math.sqrt(3.0 / 256)),
        (0, "lm_head.weight", 262143, 0.0, math.sqrt(3.0 / 256)),
        (1, "lm_head.weight", 0, 0.0, math.sqrt(3.0 / 256)),
        (0, "model.embed_tokens.weight", 5, 0.0, math.sqrt(3.0)),
        (7, "model.norm.weight", 200, 1.0, 0.17),
        (7, "model.layers.2.self_attn.indexer.k_norm.bias", 127, 0.0, 0.17),
        (7, "model.layers.3.mlp.gate.e_score_correction_bias", 15, 0.0, 0.087),
        (0xFFFFFFFFFFFFFFFF, "model.layers.60.mlp.experts.15.down_proj.weight", 2**33 + 1, 0.0, math.sqrt(3.0 / 128)),
    ]:
        v = value(seed, name, i, center, spread)
        print(f'{{{seed:#x}U, "{name}", {i}, {fp32_bits(v):#010x}, {bf16_bits(v):#06x}}},')
    codes, scales = fp8_tensor(3, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 576, 200)
    print(f"codes {fnv1a64(codes):#018x} scales {fnv1a64(scales):#018x} first {codes[:8].hex()} {scales[:4].hex()}")
