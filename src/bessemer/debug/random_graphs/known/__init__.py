"""Where ONNX Runtime is known to differ; docs/fuzzing.md has the sentences."""
