"""Loops: equations become a plan, and the plan becomes readable Numba source."""
