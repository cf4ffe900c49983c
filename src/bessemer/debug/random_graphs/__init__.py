"""Random valid ONNX graphs, and what three independent ways of running them say about each.

`maker` grows a graph, one rule of `rules/` at a time; `oracles` run it, `verdict` compares with
tolerances taken from the graph's own conditioning, `minimise` shortens what disagrees.
"""
