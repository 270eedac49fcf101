"""Mathematics: a model becomes equations, derived gradients, and printed formulas."""
