"""Bessemer: turns a trained model into a fast engine."""
__version__ = "0.1.0"
