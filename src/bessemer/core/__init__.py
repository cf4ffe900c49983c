"""Errors, dtypes, shapes, registry, settings: what every other folder may use.

Knows nothing of models. Start with errors.py and dtypes.py.
"""
