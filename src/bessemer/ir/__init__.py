"""The graph IR: Graph, Node, Value, types, layouts, operator base, text, verifier, interpreter.

In: what frontends build. Out: what passes change and `lower` reads. Start with graph.py.
"""
