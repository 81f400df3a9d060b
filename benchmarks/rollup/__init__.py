"""Rollups of a fleet's day, beside polars."""
