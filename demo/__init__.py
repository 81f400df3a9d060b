"""``make demo``: the real pipeline on real servers, from nothing to an alert."""
