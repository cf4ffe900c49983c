"""Graph passes, one file each; they change the graph, never the answer.

In: a graph from a frontend. Out: the same graph, cleaned, folded and merged. pipelines.py says
which passes run in which order; graph_pass.py has the two base classes; runner.py runs a
pipeline, checks each pass on data where asked, and rolls a wrong one back.
"""
