"""Measuring: latency, throughput, accuracy, memory, energy, and other runtimes side by side.

In: callables that run one inference. Out: data that prints as a table or JSON.
Start with report.py (the five metrics) and latency.py (interleaved measuring).
"""
