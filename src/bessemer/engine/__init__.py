"""The compiled model as data, and its file.

plan.py describes it, check.py proves it consistent, manifest.py turns it into JSON, file.py writes
and reads the engine file. Nothing here runs anything. Start with plan.py.
"""
