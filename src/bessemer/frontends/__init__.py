"""Model formats: each module reads one format into a `Graph`.

In: a file, bytes, or an object of another library. Out: a Graph in the one operator set.
Start with formats.py (the registry and `import_model`), then onnx/.
"""

from bessemer.frontends.formats import FORMATS, import_model, model_format

__all__ = ["FORMATS", "import_model", "model_format"]
