"""Memory layout shared by the native driver (generated code) and the runtime that feeds it.

The runtime fills these structures through ctypes; the driver reads them by byte offset. Any change
of meaning here needs a new `DRIVER_ABI`, because engine files carry compiled drivers.
"""

DRIVER_ABI = 1

RUN = f"bessemer_run_v{DRIVER_ABI}"
WORKER = f"bessemer_worker_v{DRIVER_ABI}"
STOP = f"bessemer_stop_v{DRIVER_ABI}"

# One job: function pointer, argument array, flags with pieces, unused.
JOB_BYTES = 32
JOB_FUNCTION = 0
JOB_ARGUMENTS = 8
JOB_FLAGS = 16
FLAG_PARALLEL = 1
FLAG_BARRIER = 2
# The job reads much memory once. Each thread sweeps over its part, backwards in every other run: so
# it begins with what the run before left in its cache.
FLAG_SWEEP = 4
SWEEP_PIECES = 4
# Above the flags: into how many pieces the threads together cut the job; 0 is one for each thread.
PIECES_SHIFT = 8
# Pieces of one part: two counts of them share sixteen bits of its claim word.
MOST_PIECES = 255

# One request, the only argument of RUN: what to run and with how many threads.
REQUEST_BYTES = 64
REQUEST_POOL = 0
REQUEST_JOBS = 8
REQUEST_COUNT = 16
REQUEST_THREADS = 24
REQUEST_STAMPS = 32
REQUEST_TURN = 40

# The pool: a lock word, the published run, constants, the state of the run, then one block for each
# thread. Words that several threads write lie in cache lines of their own.
POOL_BUSY = 0
POOL_JOBS = 64
POOL_COUNT = 72
POOL_THREADS = 80
POOL_STOP = 88
POOL_NEXT_RUN = 96
POOL_STAMPS = 104
POOL_YIELD = 128
POOL_SYSCALL = 136
POOL_CLOCK = 144
POOL_SPINS = 152
POOL_IDLE_SPINS = 160
POOL_FUTEX = 168
POOL_SIZE = 176
POOL_TURN = 184
POOL_DONE = 192
POOL_OPEN = 200
POOL_SLEEPERS = 208
POOL_HEADER_BYTES = 256

THREAD_BYTES = 256
THREAD_GO = 0
THREAD_SLEEPING = 4
THREAD_CLAIM = 64
THREAD_ACTIVE = 128
MAX_THREADS = 256

# One time stamp: seconds and nanoseconds of the monotonic clock; the nanoseconds may be all of it.
STAMP_BYTES = 16
