"""Pipelines of scikit-learn, as skl2onnx writes them, against ONNX Runtime."""

import numpy as np
import pytest

import bessemer

convert = pytest.importorskip("skl2onnx").convert_sklearn
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn")
pytestmark = [
    pytest.mark.rivals, pytest.mark.filterwarnings("ignore"), pytest.mark.slow
]  # fmt: skip


def flowers():
    from sklearn.datasets import load_iris

    data, kinds = load_iris(return_X_y=True)
    return data.astype(np.float32), np.array(["setosa", "versicolor", "virginica"])[kinds]


def classifiers():
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    return [
        LogisticRegression(), SVC(probability=True), SVC(kernel="poly"),
        RandomForestClassifier(5), GradientBoostingClassifier(n_estimators=4), GaussianNB(),
        KNeighborsClassifier(), MLPClassifier((8,)),
    ]  # fmt: skip


def same(found, expected):
    if isinstance(expected, list):
        assert [set(row) for row in found] == [set(row) for row in expected]
        found, expected = ([[row[key] for key in sorted(row)] for row in rows]
                           for rows in (found, expected))
    if np.asarray(expected).dtype.kind in "OU":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def check(pipeline, kind, feed, options=None):
    model = convert(pipeline, initial_types=[("x", kind([None, feed.shape[1]]))], options=options,
                    target_opset={"": 18, "ai.onnx.ml": 3})
    expected = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": feed})
    found = bessemer.build(model, shapes={"x": feed.shape}, strict=False).run({"x": feed})
    for a, b in zip(found.values(), expected, strict=True):
        same(a, b)


@pytest.mark.parametrize("number", range(8))
def test_classifiers_with_zip_map(number):
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data, kinds = flowers()
    model = classifiers()[number]
    check(make_pipeline(StandardScaler(), model).fit(data, kinds), FloatTensorType, data[::7])


@pytest.mark.parametrize("ngrams", [(1, 1), (1, 2)])
def test_text(ngrams):
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["the cat sat on the mat", "a dog ate the cat", "birds fly high", "the mat is on fire"]
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=ngrams), LogisticRegression())
    check(pipeline.fit(texts, [0, 1, 0, 1]), StringTensorType, np.array(texts, object)[:, None],
          {TfidfVectorizer: {"locale": "C"}})
