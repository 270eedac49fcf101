"""Places in the block of numbers by which the driver is told what to run, and in which its threads meet."""

# what to run
FIRST = 0  # step
LAST = 1  # the step after the last
PHASES = 2  # how many
ADDRESSES = 3  # of the phases' functions: where they stand
TASKS = 4  # of each phase, besides the blocks of samples: where they stand
BLOCKS = 5  # samples in a block, `WIDTH` numbers for each phase: where they stand
WIDTH = 6
TABLE = 7  # the table of the kernels' arrays
TOTAL = 8  # samples of an epoch
BATCH = 9  # samples of a step
KEYS = 10  # of the random numbers, one for each epoch: where they stand
THREADS = 11
KEPT = 12  # where a copy of something is put at the end of each epoch, one after the other; 0: nowhere
LIVE = 13  # where this something is
SIZE = 14  # and how many numbers of 8 bytes it has

# what changes while it runs, each in a cache line (and its neighbour, which processors fetch along) of its own
OPEN = 16  # whether helpers may enter
INSIDE = 32  # how many helpers have entered
SERIAL = 33  # of the last phase, which only the leader reads
DONE = 48  # blocks that helpers have done since the call began
SHARES = 64  # of the workers: the share, and the function of the phase that it is one of
STRIDE = 16

MOST_THREADS = 256
FOR_ONE = OPEN  # so many numbers say what to run; the others are those of a team, and helpers may be changing them

# which products are computed in tiles of registers; the others are those of BLAS (docs/performance.md)
DEEPEST = 1024  # a panel lies on the stack
MOST_TURNED = 40_000_000  # multiplications with a left matrix that is turned: above, BLAS is faster
WORDS = SHARES + STRIDE * MOST_THREADS
