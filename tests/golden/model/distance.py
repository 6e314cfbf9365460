"""How far two runs of the fp8 mode lie apart, and how far they may.

Logits, of rows whose experts are not on the fence, the reference's selection forced on the other run:
    relative rms = rms(a - b) / rms(b)                        bound 2e-3
    p99          = 99th percentile of |a - b| / rms(b)        bound 1e-2

Selection, under the reference's scores. kth: the reference's smallest selected score of the row; deviation: of the
row's visible scores. Only rows with more than index_topk visible keys have a choice.
    strict regret of a row: largest (kth - score) / deviation over the keys the other run chose and the reference did
                            not; bound 1e-3 on the 99th percentile over a layer's rows
    mean regret of a row:   (mean score of the reference's set - mean score of the other set) / deviation; never more
                            than the strict one; bound 1e-3 on the largest of a layer's rows
A set of another size has infinite regret. The regret bounds are for a layer whose input is exact (layer 0). Behind
another layer the input has been through that layer's rounding, where one bf16 step tips over e4m3 steps and these the
next: there the largest mean regret may be 1e-2 and the strict one is not bounded (README.md, "Why one layer").
"""

import numpy as np

RELATIVE_RMS, P99, REGRET, DEEP_MEAN_REGRET = 2e-3, 1e-2, 1e-3, 1e-2


def logits_distance(other, reference):
    rms = np.sqrt(np.mean(reference**2))
    gap = np.abs(other - reference) / rms
    return float(np.sqrt(np.mean(gap**2))), float(np.quantile(gap, 0.99))


def regret(reference_scores, reference_selected, other_selected, k):
    """Per row with more than k visible keys: (strict, mean), one layer. Selections are [T, k] with -1."""
    strict, mean = [], []
    for t in range(k, len(reference_scores)):
        visible = reference_scores[t, :t + 1]
        ours = reference_selected[t]
        theirs = other_selected[t][other_selected[t] >= 0]
        if len(theirs) != len(ours):
            strict.append(np.inf)
            mean.append(np.inf)
            continue
        swapped = np.setdiff1d(theirs, ours)
        deviation = visible.std()
        strict.append((visible[ours].min() - visible[swapped].min()) / deviation if len(swapped) else 0.0)
        mean.append((visible[ours].mean() - visible[theirs].mean()) / deviation)
    return np.array(strict), np.array(mean)
