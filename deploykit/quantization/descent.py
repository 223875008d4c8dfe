"""Rounding up or down by what it does to the output of the layer."""
import numpy as np

_BLOCK = 64

def settled(matrix, scale, integers, gram, most, sweeps=3):
    """matrix [o,k] float64/32, scale [o], integers [o,k], gram [k,k]."""
    scale = scale.reshape(-1, 1).astype(np.float32)
    w = matrix.astype(np.float32)
    q = integers.astype(np.float32)
    gram = gram.astype(np.float32)
    diag = np.maximum(np.diag(gram), 1e-30)
    err = q * scale - w
    slope = err @ gram
    k = w.shape[1]
    for _ in range(sweeps):
        for start in range(0, k, _BLOCK):
            end = min(start + _BLOCK, k)
            inner = gram[start:end, start:end]
            own = slope[:, start:end].copy()
            moved = np.zeros_like(own)
            for j in range(end - start):
                now = q[:, start + j]
                best = np.clip(np.rint(now - own[:, j] / diag[start + j] / scale[:, 0]), -most, most)
                d = (best - now) * scale[:, 0]
                moved[:, j] = d
                q[:, start + j] = best
                own += d[:, None] * inner[j]
            slope += moved @ gram[start:end]
    return q.astype(np.int8)
