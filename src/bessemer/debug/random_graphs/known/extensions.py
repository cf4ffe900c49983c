"""Text, ai.onnx.ml and com.microsoft."""

import math

import numpy as np

from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.deviations import Case, known


@known("float-text", "Cast")
def _float_text(case: Case) -> bool:
    """Floats with a fixed number of digits, whole ones without a point; booleans as 0 and 1."""
    x = case.operand(0)
    if x is not None and x.dtype == bool:
        return bool((case.got == x.astype(int).astype(str)).all())
    if x is None or x.dtype.kind != "f" or case.want.shape != case.got.shape:
        return False
    a, b = (side.astype(np.float64).astype(x.dtype) for side in (case.want, case.got))
    return bool(np.allclose(a, b, rtol=1e-3 if x.dtype == np.float16 else 1e-7, atol=0,
                            equal_nan=True))


@known("split-empty", "StringSplit")
def _split_empty(case: Case) -> bool:
    """An empty string has no part; white space behind the last part is removed."""
    x = case.operand(0)
    if x is None:
        return False
    texts = [str(text) for text in x.reshape(-1)]
    if case.attribute("delimiter", ""):
        return "" in texts
    return case.attribute("maxsplit") is not None and any(t != t.rstrip() for t in texts)


@known("gather-strings", "Gather")
def _gather_strings(case: Case) -> bool:
    """Of each block of strings only the first is copied."""
    x = case.operand(0)
    if x is None or x.dtype != object or case.differs is None:
        return False
    axis = case.attribute("axis", 0) % x.ndim
    return bool(math.prod(x.shape[axis + 1 :]) > 1)


@known("case-beyond-ascii", "StringNormalizer")
def _case(case: Case) -> bool:
    """Letters beyond ASCII keep their case, or have another."""
    if case.want.shape != case.got.shape:
        return False
    texts = case.want[case.want != case.got]
    return all(not str(text).isascii() for text in texts)


@known("linear-two-classes", "LinearClassifier")
def _linear_two_classes(case: Case) -> bool:
    """One score for two classes: the other class gets 1 - score, not -score."""
    labels = case.attribute("classlabels_ints") or case.attribute("classlabels_strings") or []
    rows = len(case.attribute("intercepts", []))
    return len(labels) == 2 and rows == 1


@known("tree-two-classes", "TreeEnsembleClassifier")
def _tree_two_classes(case: Case) -> bool:
    """The label of two classes depends on the second score alone, with a limit of 0 or 0.5."""
    labels = case.attribute("classlabels_int64s") or case.attribute("classlabels_strings") or []
    return len(labels) == 2


@known("tree-without-votes", "TreeEnsembleClassifier", "TreeEnsembleRegressor")
def _tree_without_votes(case: Case) -> bool:
    """A class or target without a vote is never the label, and does not get its base value."""
    kind = "class" if case.node.op_type.endswith("Classifier") else "target"
    leaves = [mode for mode in case.attribute("nodes_modes", []) if mode == b"LEAF"]
    ids = case.attribute(f"{kind}_ids", [])
    labels = case.attribute("classlabels_int64s") or case.attribute("classlabels_strings") or []
    scores = len(labels) or case.attribute("n_targets", 1)
    return len(ids) < len(leaves) * scores


@known("tree-transform", "TreeEnsemble")
def _tree_transform(case: Case) -> bool:
    """The numbers of SOFTMAX and LOGISTIC are exchanged; one target is never transformed."""
    return bool(case.attribute("post_transform", 0))


@known("one-target", "TreeEnsembleRegressor", "LinearRegressor")
def _one_target(case: Case) -> bool:
    """The score of one target is not transformed."""
    transformed = case.attribute("post_transform", "NONE") != "NONE"
    targets = case.attribute("n_targets", case.attribute("targets", 1))
    return bool(transformed and targets == 1)


@known("svm-two-classes", "SVMClassifier")
def _svm_two_classes(case: Case) -> bool:
    """Two classes without probabilities: the label if no weight is negative, and the transforms."""
    return not case.attribute("prob_a") and len(case.attribute("vectors_per_class", [])) == 2


@known("svm-probabilities", "SVMClassifier")
def _svm_probabilities(case: Case) -> bool:
    """An iteration for the probabilities of more than two classes, which ends early."""
    return case.attribute("prob_a") is not None and case.close(0.01)


@known("bernoulli-inverted", "Less", "Not")
def _bernoulli(case: Case) -> bool:
    """Ones with the probability 1 - p, so that the mean is not where it must be."""
    return any(node.op_type == "Bernoulli" for node in case.model.graph.node)


@known("quantized-pool-ceil", "QLinearAveragePool")
def _pool_ceil(case: Case) -> bool:
    """What lies beyond the padded input is counted."""
    return bool(case.attribute("ceil_mode", 0) and case.attribute("count_include_pad", 0))


@known("quantized-softmax-range", "QLinearSoftmax")
def _softmax_range(case: Case) -> bool:
    """Numbers beyond the range of the type are wrong instead of its largest."""
    differs = case.want != case.got
    return bool((case.want[differs] == np.iinfo(case.want.dtype).max).all())


def _one_step(want: Array, got: Array) -> bool:
    if want.dtype.kind not in "iu" or want.shape != got.shape:
        return False
    return int(np.abs(want.astype(np.int64) - got.astype(np.int64)).max()) <= 1


@known("quantized-step", "QLinearSoftmax", "QLinearSigmoid", "QLinearAdd", "QLinearMul",
       "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat",
       "QLinearWhere")
def _quantized_step(case: Case) -> bool:
    """Functions of 8-bit numbers by tables or in fixed point: one step beside."""
    return _one_step(case.want, case.got)


@known("normalizer-integers", "Normalizer")
def _normalizer(case: Case) -> bool:
    """Squares of integers overflow."""
    x = case.operand(0)
    return x is not None and x.dtype.kind in "iu" and bool(
        np.abs(x.astype(np.float64)).max(initial=0) ** 2 * x.shape[-1] > np.iinfo(x.dtype).max)
