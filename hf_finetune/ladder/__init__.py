"""The ladder: how a model gets better, one rung at a time. Today one rung: `full`."""
