"""Micro-benchmarks: parts of the product beside what others would use, as ratios that a baseline guards."""
