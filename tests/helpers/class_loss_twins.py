"""Losses for rare classes and hard pixels, and matched gradients, as slow code in NumPy, pixel by pixel."""

import math

import numpy as np

from triptych.types import IGNORE


def labelled(logits: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """(probabilities, class) of every labelled pixel."""
    found = []
    for b, y, x in np.ndindex(*target.shape):
        if target[b, y, x] != IGNORE:
            exponents = np.exp(logits[b, :, y, x] - logits[b, :, y, x].max())
            found.append((exponents / exponents.sum(), int(target[b, y, x])))
    return found


def cross_entropy(found, weights):
    total = sum(weights[c] * -math.log(p[c]) for p, c in found)
    return total / sum(weights[c] for _, c in found)


def focal(found, weights):
    return sum(weights[c] * (1 - p[c]) ** 2 * -math.log(p[c]) for p, c in found) / len(found)


def dice(found, weights):
    terms = {}
    for k in sorted({c for _, c in found}):
        overlap = sum(p[k] for p, c in found if c == k)
        total = sum(p[k] for p, _ in found) + sum(c == k for _, c in found)
        terms[k] = 1 - 2 * overlap / total
    return sum(weights[k] * term for k, term in terms.items()) / sum(weights[k] for k in terms)


def lovasz(found, weights):
    """The Lovasz extension by its definition: thresholds of the errors, from the set of all pixels downwards."""
    terms = {}
    for k in sorted({c for _, c in found}):
        errors = np.array([abs((c == k) - p[k]) for p, c in found])
        truth = np.array([c == k for _, c in found])
        order = np.argsort(-errors, kind="stable")

        def loss(wrong: np.ndarray, truth: np.ndarray = truth) -> float:
            """1 - IoU where the pixels in `wrong` are predicted wrongly."""
            predicted = truth ^ wrong
            return 1 - (predicted & truth).sum() / (predicted | truth).sum()

        value, before = 0.0, 0.0
        for count in range(1, len(order) + 1):
            wrong = np.zeros(len(order), bool)
            wrong[order[:count]] = True
            value += errors[order[count - 1]] * (loss(wrong) - before)
            before = loss(wrong)
        terms[k] = value
    return sum(weights[k] * term for k, term in terms.items()) / sum(weights[k] for k in terms)


def hard(found, weights):
    ranked = sorted(found, key=lambda each: each[0][each[1]])
    fewest = math.ceil(len(found) / 16)
    kept = [each for i, each in enumerate(ranked) if i < fewest or each[0][each[1]] < 0.7]
    return cross_entropy(kept, weights)


TWINS = {
    "cross-entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "cross-entropy-dice": lambda found, weights: cross_entropy(found, weights) + dice(found, weights),
    "lovasz": lovasz,
    "ohem": hard,
}


def twin(name: str, raw: np.ndarray, target: np.ndarray, weights: tuple[float, ...] = ()) -> float:
    """The loss of that name in `losses.classes.SEGMENTATION`; 0 without a label."""
    found = labelled(raw, target)
    return TWINS[name](found, weights or (1.0,) * raw.shape[1]) if found else 0.0


def matched_gradients(raw: np.ndarray, target: np.ndarray) -> float:
    """The gradient matching term of `scale_invariant_gradient_depth`, without its weight."""
    total = 0.0
    error = raw - np.log(target)
    for scale in (1, 2, 4, 8):
        some = error[..., ::scale, ::scale]
        for pairs in (np.abs(some[..., 1:, :] - some[..., :-1, :]), np.abs(some[..., 1:] - some[..., :-1])):
            known = pairs[~np.isnan(pairs)]
            total += known.mean() / 4 if known.size else 0.0
    return total
