"""Older opsets brought to the newest one, one adapter per change, in files by kind of change.

In: a SourceNode at its model's opset. Out: one at the newest opset, or nodes written directly.
table.py holds the table and applies it; every other file fills it with `@until`.
"""
