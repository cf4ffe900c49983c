"""IR text of the driver's caller side: pieces of jobs, the caller's way through them, the run.

Words in braces are filled in by `driver.py`.
"""

PARTS = """
; Counts a piece as done, and wakes those who sleep if it was the last one up to %target.
define internal i64 @count(ptr %pool, i64 %target) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  %before = atomicrmw add ptr %done_p, i64 1 seq_cst
  %after = add i64 %before, 1
  %complete = icmp uge i64 %after, %target
  br i1 %complete, label %look, label %end
look:
  %sleepers_p = getelementptr i8, ptr %pool, i64 {POOL_SLEEPERS}
  %sleepers = load atomic i64, ptr %sleepers_p seq_cst, align 8
  %some = icmp ne i64 %sleepers, 0
  br i1 %some, label %wake, label %end
wake:
  call void @wake(ptr %pool)
  br label %end
end:
  ret i64 %after
}

; Into how many pieces a part of a job is cut.
define internal i64 @pieces(i64 %flags, i64 %threads) {
entry:
  %wanted = lshr i64 %flags, {PIECES_SHIFT}
  %short = icmp ule i64 %wanted, %threads
  br i1 %short, label %one, label %several
one:
  ret i64 1
several:
  %each = udiv i64 %wanted, %threads
  %many = icmp ugt i64 %each, {MOST_PIECES}
  %pieces = select i1 %many, i64 {MOST_PIECES}, i64 %each
  ret i64 %pieces
}

; True if a job runs backwards: a sweep does so in every other run.
define internal i1 @turned(i64 %flags, i64 %turn) {
entry:
  %sweep_bit = and i64 %flags, {FLAG_SWEEP}
  %sweeps = icmp ne i64 %sweep_bit, 0
  %odd = trunc i64 %turn to i1
  %turned = and i1 %sweeps, %odd
  ret i1 %turned
}

; The next piece of a part for the job of that number, from its front or from its back; -1 if all
; of them have been begun. The part's claim word: the number of the job, which only grows, how many
; pieces were taken in front, how many behind.
define internal i64 @claim(ptr %pool, i64 %part, i64 %number, i64 %pieces, i1 %front) {
entry:
  %at = mul i64 %part, {THREAD_BYTES}
  %claim_at = add i64 %at, {CLAIM_AT}
  %word = getelementptr i8, ptr %pool, i64 %claim_at
  %fresh = shl i64 %number, 16
  %one = select i1 %front, i64 256, i64 1
  br label %look
look:
  %last = load atomic i64, ptr %word monotonic, align 8
  %begun = icmp uge i64 %last, %fresh
  %state = select i1 %begun, i64 %last, i64 %fresh
  %job = lshr i64 %state, 16
  %over = icmp ne i64 %job, %number
  %shifted = lshr i64 %state, 8
  %before = and i64 %shifted, 255
  %behind = and i64 %state, 255
  %taken = add i64 %before, %behind
  %none = icmp uge i64 %taken, %pieces
  %no = or i1 %over, %none
  br i1 %no, label %nothing, label %try
try:
  %next = add i64 %state, %one
  %swap = cmpxchg ptr %word, i64 %last, i64 %next acq_rel monotonic
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %mine, label %look
mine:
  %last_piece = sub i64 %pieces, 1
  %from_back = sub i64 %last_piece, %behind
  %piece = select i1 %front, i64 %before, i64 %from_back
  ret i64 %piece
nothing:
  ret i64 -1
}

; Raises a time stamp to now. Every piece of a job does so before it counts as done, so the stamp
; ends as the time of the last piece, whichever thread ran it, before the next job can begin.
define internal void @stamp(ptr %pool, ptr %slot) {
entry:
  %now = alloca [{STAMP_BYTES} x i8], align 8
  %wanted = icmp ne ptr %slot, null
  br i1 %wanted, label %take, label %end
take:
  %clock_p = getelementptr i8, ptr %pool, i64 {POOL_CLOCK}
  %clock = load ptr, ptr %clock_p
  %ignored = call i32 %clock(i32 {CLOCK}, ptr %now)
  %seconds = load i64, ptr %now
  %rest_p = getelementptr i8, ptr %now, i64 8
  %rest = load i64, ptr %rest_p
  %whole = mul i64 %seconds, 1000000000
  %reading = add i64 %whole, %rest
  %word = getelementptr i8, ptr %slot, i64 8
  %before = atomicrmw max ptr %word, i64 %reading acq_rel
  br label %end
end:
  ret void
}

; One piece of a job: all at once, or a sweep over its own pieces.
define internal void @piece(ptr %function, ptr %arguments, i64 %piece, i64 %pieces, i64 %flags,
                            i64 %turn) {
entry:
  %sweep_bit = and i64 %flags, {FLAG_SWEEP}
  %sweeps = icmp ne i64 %sweep_bit, 0
  br i1 %sweeps, label %cut, label %whole
whole:
  call void %function(ptr %arguments, i64 %piece, i64 %pieces)
  ret void
cut:
  %first = mul i64 %piece, {SWEEP_PIECES}
  %all = mul i64 %pieces, {SWEEP_PIECES}
  %turned = call i1 @turned(i64 %flags, i64 %turn)
  ; As many as a power of two, so this turns their order round.
  %order = select i1 %turned, i64 {LAST_PIECE}, i64 0
  br label %head
head:
  %index = phi i64 [ 0, %cut ], [ %index_next, %head ]
  %place = xor i64 %index, %order
  %own = add i64 %first, %place
  call void %function(ptr %arguments, i64 %own, i64 %all)
  %index_next = add i64 %index, 1
  %more = icmp ult i64 %index_next, {SWEEP_PIECES}
  br i1 %more, label %head, label %end
end:
  ret void
}

; Runs the pieces of one job that this thread can claim, until all are done: those of its own part
; first, in their order, then those that others would come to last.
define internal void @work(ptr %pool, i64 %tid, i64 %threads, ptr %function, ptr %arguments,
                           i64 %flags, i64 %turn, i64 %number, i64 %target, ptr %slot) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  %pieces = call i64 @pieces(i64 %flags, i64 %threads)
  %all_pieces = mul i64 %pieces, %threads
  %turned = call i1 @turned(i64 %flags, i64 %turn)
  br label %head
head:
  %tried = phi i64 [ 0, %entry ], [ %tried_next, %look ]
  %part = phi i64 [ %tid, %entry ], [ %part_next, %look ]
  %first = mul i64 %part, %pieces
  %own = icmp eq i64 %part, %tid
  %front = xor i1 %own, %turned
  br label %next
next:
  %place = call i64 @claim(ptr %pool, i64 %part, i64 %number, i64 %pieces, i1 %front)
  %none = icmp slt i64 %place, 0
  br i1 %none, label %look, label %run
run:
  %piece = add i64 %first, %place
  call void @piece(ptr %function, ptr %arguments, i64 %piece, i64 %all_pieces, i64 %flags,
                   i64 %turn)
  call void @stamp(ptr %pool, ptr %slot)
  %after = call i64 @count(ptr %pool, i64 %target)
  br label %next
look:
  %done = load atomic i64, ptr %done_p acquire, align 8
  %tried_next = add i64 %tried, 1
  %beyond = add i64 %part, 1
  %wraps = icmp eq i64 %beyond, %threads
  %part_next = select i1 %wraps, i64 0, i64 %beyond
  %complete = icmp uge i64 %done, %target
  %all = icmp eq i64 %tried_next, %threads
  %stop = or i1 %complete, %all
  br i1 %stop, label %end, label %head
end:
  ret void
}

; The place of a time stamp, null if none is wanted.
define internal ptr @slot(ptr %stamps, i64 %index) {
entry:
  %wanted = icmp ne ptr %stamps, null
  %at = mul i64 %index, {STAMP_BYTES}
  %place = getelementptr i8, ptr %stamps, i64 %at
  %slot = select i1 %wanted, ptr %place, ptr null
  ret ptr %slot
}
"""

LEAD = """
; All jobs on this thread alone.
define internal void @alone(ptr %pool, ptr %jobs, i64 %count, i64 %turn, ptr %stamps) {
entry:
  call void @stamp(ptr %pool, ptr %stamps)
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %index_next, %job ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %job, label %end
job:
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %job_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %job_p
  %arguments_p = getelementptr i8, ptr %job_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  %flags_p = getelementptr i8, ptr %job_p, i64 {JOB_FLAGS}
  %flags = load i64, ptr %flags_p
  call void @piece(ptr %function, ptr %arguments, i64 0, i64 1, i64 %flags, i64 %turn)
  %slot = call ptr @slot(ptr %stamps, i64 %index_next)
  call void @stamp(ptr %pool, ptr %slot)
  br label %head
end:
  ret void
}

; The caller's way through the jobs, as thread 0; job i has the number %run + i.
define internal void @lead(ptr %pool, i64 %threads, ptr %jobs, i64 %count, i64 %run_turn,
                           i64 %run, ptr %stamps) {
entry:
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %index_next, %tail ]
  %target = phi i64 [ 0, %entry ], [ %target_next, %tail ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %job, label %end
job:
  %index_next = add i64 %index, 1
  %offset = mul i64 %index, {JOB_BYTES}
  %job_p = getelementptr i8, ptr %jobs, i64 %offset
  %function = load ptr, ptr %job_p
  %arguments_p = getelementptr i8, ptr %job_p, i64 {JOB_ARGUMENTS}
  %arguments = load ptr, ptr %arguments_p
  %flags_p = getelementptr i8, ptr %job_p, i64 {JOB_FLAGS}
  %flags = load i64, ptr %flags_p
  %parallel_bit = and i64 %flags, {FLAG_PARALLEL}
  %parallel = icmp ne i64 %parallel_bit, 0
  %slot = call ptr @slot(ptr %stamps, i64 %index_next)
  br i1 %parallel, label %shared, label %serial
shared:
  %number = add i64 %run, %index
  %pieces = call i64 @pieces(i64 %flags, i64 %threads)
  %all_pieces = mul i64 %pieces, %threads
  %target_shared = add i64 %target, %all_pieces
  call void @work(ptr %pool, i64 0, i64 %threads, ptr %function, ptr %arguments, i64 %flags,
                  i64 %run_turn, i64 %number, i64 %target_shared, ptr %slot)
  br label %after
serial:
  call void %function(ptr %arguments, i64 0, i64 1)
  call void @stamp(ptr %pool, ptr %slot)
  %target_serial = add i64 %target, 1
  %counted = call i64 @count(ptr %pool, i64 %target_serial)
  br label %after
after:
  %target_next = phi i64 [ %target_shared, %shared ], [ %target_serial, %serial ]
  %barrier_bit = and i64 %flags, {FLAG_BARRIER}
  %asked = icmp ne i64 %barrier_bit, 0
  %last = icmp eq i64 %index_next, %count
  %needed = or i1 %asked, %last
  br i1 %needed, label %wait, label %tail
wait:
  %turn = phi i64 [ 0, %after ], [ %turn_next, %again ]
  %done = load atomic i64, ptr %done_p acquire, align 8
  %complete = icmp uge i64 %done, %target_next
  br i1 %complete, label %tail, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @await(ptr %pool, i64 %turn, i64 %done)
  br label %wait
tail:
  br label %head
end:
  ret void
}
"""

RUN = """
; Starts worker %tid: bumps its go word and wakes it if it sleeps.
define internal void @start(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %block = add i64 %at, {POOL_HEADER_BYTES}
  %go = getelementptr i8, ptr %pool, i64 %block
  %old = atomicrmw add ptr %go, i32 1 seq_cst
  %sleeping_p = getelementptr i8, ptr %go, i64 {THREAD_SLEEPING}
  %sleeping = load atomic i32, ptr %sleeping_p seq_cst, align 4
  %asleep = icmp ne i32 %sleeping, 0
  br i1 %asleep, label %wake, label %end
wake:
  call void @futex(ptr %pool, ptr %go, i64 {WAKE}, i64 1)
  br label %end
end:
  ret void
}

; Lets no worker enter any more and waits until none is inside.
define internal void @close(ptr %pool) {
entry:
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  store atomic i64 0, ptr %open_p seq_cst, align 8
  %size_p = getelementptr i8, ptr %pool, i64 {POOL_SIZE}
  %size = load atomic i64, ptr %size_p acquire, align 8
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %tid_next, %next ]
  %more = icmp ult i64 %tid, %size
  br i1 %more, label %look, label %end
look:
  %at = mul i64 %tid, {THREAD_BYTES}
  %active_at = add i64 %at, {ACTIVE_AT}
  %active_p = getelementptr i8, ptr %pool, i64 %active_at
  br label %wait
wait:
  %turn = phi i64 [ 0, %look ], [ %turn_next, %again ]
  %active = load atomic i32, ptr %active_p seq_cst, align 4
  %left = icmp eq i32 %active, 0
  br i1 %left, label %next, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @relax(ptr %pool, i64 %turn)
  br label %wait
next:
  %tid_next = add i64 %tid, 1
  br label %head
end:
  ret void
}

; Runs a request's jobs; returns the number of threads used: 1 if another run has the pool.
define i64 @{RUN}(ptr %request) {
entry:
  %pool = load ptr, ptr %request
  %jobs_at = getelementptr i8, ptr %request, i64 {REQUEST_JOBS}
  %jobs = load ptr, ptr %jobs_at
  %count_at = getelementptr i8, ptr %request, i64 {REQUEST_COUNT}
  %count = load i64, ptr %count_at
  %threads_at = getelementptr i8, ptr %request, i64 {REQUEST_THREADS}
  %threads = load i64, ptr %threads_at
  %stamps_at = getelementptr i8, ptr %request, i64 {REQUEST_STAMPS}
  %stamps = load ptr, ptr %stamps_at
  %turn_at = getelementptr i8, ptr %request, i64 {REQUEST_TURN}
  %turn_before = load i64, ptr %turn_at
  %turn = add i64 %turn_before, 1
  store i64 %turn, ptr %turn_at
  %several = icmp ugt i64 %threads, 1
  br i1 %several, label %try, label %single
try:
  %busy = getelementptr i8, ptr %pool, i64 {POOL_BUSY}
  %taken = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %taken, 1
  br i1 %mine, label %publish, label %single
single:
  call void @alone(ptr %pool, ptr %jobs, i64 %count, i64 %turn, ptr %stamps)
  ret i64 1
publish:
  call void @stamp(ptr %pool, ptr %stamps)
  %stamps_p = getelementptr i8, ptr %pool, i64 {POOL_STAMPS}
  store ptr %stamps, ptr %stamps_p
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  store ptr %jobs, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  store i64 %count, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  store i64 %threads, ptr %threads_p
  %turn_p = getelementptr i8, ptr %pool, i64 {POOL_TURN}
  store i64 %turn, ptr %turn_p
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  store atomic i64 0, ptr %done_p monotonic, align 8
  %run_p = getelementptr i8, ptr %pool, i64 {POOL_NEXT_RUN}
  %last = load i64, ptr %run_p
  %run = add i64 %last, 1
  %run_end = add i64 %run, %count
  store i64 %run_end, ptr %run_p
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  store atomic i64 %run, ptr %open_p seq_cst, align 8
  br label %starting
starting:
  %tid = phi i64 [ 1, %publish ], [ %tid_next, %starting ]
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  %more = icmp ult i64 %tid_next, %threads
  br i1 %more, label %starting, label %working
working:
  call void @lead(ptr %pool, i64 %threads, ptr %jobs, i64 %count, i64 %turn, i64 %run,
                  ptr %stamps)
  call void @close(ptr %pool)
  store atomic i32 0, ptr %busy release, align 4
  ret i64 %threads
}
"""
