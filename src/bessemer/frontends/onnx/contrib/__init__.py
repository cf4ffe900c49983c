"""Operators of com.microsoft, which optimisers and quantisers emit, as standard operators.

In: a SourceNode of that domain. Out: nodes of the newest opset, written directly; an operator that
these cannot express becomes one of ours under the same name (`bessemer.ops`).
table.py holds the decorator; every other file is one family of operators.
"""
