"""The operator table: one class per operator, one file per family.

Each class holds attributes, `infer`, `reference`, `lower` and `samples`; tests are generated from
it. Operators have ONNX names and ONNX meaning at the newest opset. Start with activation.py.
"""
