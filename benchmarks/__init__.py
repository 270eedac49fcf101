"""How fast chainrule is, beside its peers and beside the matrix products alone."""
