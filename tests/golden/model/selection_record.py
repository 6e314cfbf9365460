"""What a vector file keeps of a layer's index scores: the selected sets, margins, and the keys near the threshold.

Of a row with more than k visible keys, under the reference's scores: `kth` is the k-th largest score, `margin` the
difference between it and the next, `deviation` the (population) standard deviation over the visible keys. Rows with
k keys or fewer have no choice: their margin is stored as 3e38. A near key is one whose distance
(score - kth) / deviation lies within +-window, WINDOW unless told; distances of selected keys are >= 0.
"""

import numpy as np

WINDOW = 0.05
NO_CHOICE = np.float32(3e38)


def exact_selection(scores, k):
    """bool [T, T]: the k largest of each row, lowest position first among equals."""
    rows = len(scores)
    chosen = np.zeros((rows, rows), bool)
    for t in range(rows):
        visible = scores[t, :t + 1]
        chosen[t, np.argsort(-visible, kind="stable")[:k]] = True
    return chosen


def record(scores, k, windows=None):
    """scores: one [T, T] array per layer, None for one without an indexer, whose rows have no choice; windows: one per
    layer. Returns the arrays of the vector file."""
    windows = windows or [WINDOW] * len(scores)
    layers, rows = len(scores), len(scores[0])
    margin = np.full((layers, rows), NO_CHOICE, np.float32)
    deviation = np.zeros((layers, rows), np.float32)
    offsets, positions, distances = [0], [], []
    for layer in range(layers):
        if scores[layer] is None:
            offsets.extend([len(positions)] * rows)
            continue
        for t in range(rows):
            visible = scores[layer][t, :t + 1].astype(np.float64)
            deviation[layer, t] = visible.std()
            if t + 1 > k:
                top = -np.sort(-visible)[:k + 1]
                margin[layer, t] = top[k - 1] - top[k]
                distance = (visible - top[k - 1]) / visible.std()
                near = np.nonzero(np.abs(distance) <= windows[layer])[0]
                positions.extend(near.tolist())
                distances.extend(distance[near].tolist())
            offsets.append(len(positions))
    return dict(margin=margin, deviation=deviation, near_offsets=np.array(offsets, np.int32),
                near_positions=np.array(positions, np.int32), near_distances=np.array(distances, np.float32))


def bitmask(selected):
    """bool [L, T, T] -> U8 [L, T, ceil(T / 8)], bit p % 8 of byte p / 8 is position p."""
    return np.packbits(selected, axis=-1, bitorder="little")
