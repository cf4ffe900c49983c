"""Contests: one model through several runtimes, each in its own process, timed in turns.

Start with race.py. A runtime is one file in peers/; worker.py is the process it lives in.
"""
