"""Schedules: how a kernel's loops are split, ordered, vectorised, unrolled, shared between threads.

In: a kernel (lower/kernel.py). Out: loop IR. schedule.py holds the primitives, nest.py applies
them, rules/ chooses them. Start with schedule.py.
"""
