"""Choosing schedules: candidates, a cost model, measurement, records. Start with tuner.py."""
