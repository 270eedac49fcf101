"""Places in the block of numbers by which the driver is told what to run, and in which its threads meet."""

from typing import Final

# what to run
FIRST: Final = 0  # step
LAST: Final = 1  # the step after the last
PHASES: Final = 2  # how many
ADDRESSES: Final = 3  # of the phases' functions: where they stand
TASKS: Final = 4  # of each phase, besides the blocks of samples: where they stand
BLOCKS: Final = 5  # samples in a block, `WIDTH` numbers for each phase: where they stand
WIDTH: Final = 6
TABLE: Final = 7  # the table of the kernels' arrays
TOTAL: Final = 8  # samples of all steps
BATCH: Final = 9  # samples of a step
KEY: Final = 10  # of the random numbers
THREADS: Final = 11
PHASE: Final = 12  # the function of the phase that is open

# what changes while it runs, each in a cache line (and its neighbour, which processors fetch along) of its own
OPEN: Final = 16  # whether helpers may enter
INSIDE: Final = 32  # how many helpers have entered
DONE: Final = 48  # blocks of this phase that are done
SHARES: Final = 64  # of the workers
STRIDE: Final = 16

MOST_THREADS: Final = 256
WORDS: Final = SHARES + STRIDE * MOST_THREADS
