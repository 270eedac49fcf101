"""How large a spec may be. Every limit is checked before the work that it bounds; docs/reliability.md lists them.

The first group is checked on the text of a spec, without SymPy; the second on formulas, whose cost for SymPy grows
faster than their length; the third on what a model asks of the machine.
"""

from __future__ import annotations

from typing import Final

# Files and the tables in them
LARGEST_SPEC: Final = 1_000_000  # bytes of a file
MOST_LINES: Final = 20_000  # of a file in TOML, and assignments in it
MOST_KEY_PARTS: Final = 16  # of a dotted key: TOML readers take memory in the square of it
DEEPEST_TABLE: Final = 16  # tables and lists in one another
MOST_VALUES: Final = 100_000  # in all tables and lists
LONGEST_TEXT: Final = 100_000  # characters of one value
LONGEST_KEY: Final = 200
LONGEST_NAME: Final = 60
LARGEST_INTEGER: Final = 2**63 - 1  # TOML has no larger ones

# Formulas
LONGEST_FORMULA: Final = 20_000  # characters
MOST_NODES: Final = 2_000  # of a formula's syntax tree
DEEPEST_BRACKETS: Final = 100
DEEPEST_FORMULA: Final = 200  # levels of its syntax tree: a sum of 200 terms has as many
LARGEST_LITERAL: Final = 10**18  # of whole numbers; larger ones are written with a decimal point
LARGEST_EXPONENT: Final = 1_000
LARGEST_ARGUMENT: Final = 1e15  # of floor and ceil of a constant, which SymPy computes to the last digit
MOST_DIGITS: Final = 1_000  # of a number that arithmetic makes of numbers
MOST_PARTS: Final = 5_000  # of the expression that a formula becomes, in which max and clip repeat their arguments
DEEPEST_EXPRESSION: Final = 40  # levels of it
MOST_CHOICES: Final = 64  # branches of the choices in it
MOST_CASES: Final = 32  # branches of the choices in one condition, which is written out for each
MOST_DERIVED_PARTS: Final = 5_000  # of the derivative of an equation
MOST_CONTRACTIONS: Final = 24  # sums and maxima in a formula
MOST_TERMS: Final = 500  # of a product of sums that is multiplied out

# Models
MOST_LAYERS: Final = 500
MOST_PENALTIES: Final = 32
MOST_EQUATIONS: Final = 2_000
MOST_INDICES: Final = 8  # of a tensor
LARGEST_EXTENT: Final = 10**8  # of an index: units, features, tokens
MOST_NUMBERS: Final = 2**34  # parameters, and numbers computed for one sample
