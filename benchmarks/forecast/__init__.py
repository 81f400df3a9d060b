"""Forecasts of labelled series beside the rules that monitoring systems ship."""
