"""IR text of the driver's worker side: joining a run, spinning, sleeping, stopping.

Words in braces are filled in by `driver.py`.
"""

FOLLOW = """
; True, with the active word raised, if the run of that number is still open.
define internal i1 @enter(ptr %pool, ptr %active_p, i64 %run) {
entry:
  store atomic i32 1, ptr %active_p seq_cst, align 4
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  %open = load atomic i64, ptr %open_p seq_cst, align 8
  %same = icmp eq i64 %open, %run
  br i1 %same, label %yes, label %no
yes:
  ret i1 true
no:
  store atomic i32 0, ptr %active_p release, align 4
  ret i1 false
}

; A worker's way through the open run, if there is one that has a part for it.
define internal void @follow(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %active_at = add i64 %at, {ACTIVE_AT}
  %active_p = getelementptr i8, ptr %pool, i64 %active_at
  %done_p = getelementptr i8, ptr %pool, i64 {POOL_DONE}
  %open_p = getelementptr i8, ptr %pool, i64 {POOL_OPEN}
  %run = load atomic i64, ptr %open_p seq_cst, align 8
  %none = icmp eq i64 %run, 0
  br i1 %none, label %end, label %join
join:
  %joined = call i1 @enter(ptr %pool, ptr %active_p, i64 %run)
  br i1 %joined, label %read, label %end
read:
  %jobs_p = getelementptr i8, ptr %pool, i64 {POOL_JOBS}
  %jobs = load ptr, ptr %jobs_p
  %count_p = getelementptr i8, ptr %pool, i64 {POOL_COUNT}
  %count = load i64, ptr %count_p
  %threads_p = getelementptr i8, ptr %pool, i64 {POOL_THREADS}
  %threads = load i64, ptr %threads_p
  %turn_p = getelementptr i8, ptr %pool, i64 {POOL_TURN}
  %run_turn = load i64, ptr %turn_p
  %stamps_p = getelementptr i8, ptr %pool, i64 {POOL_STAMPS}
  %stamps = load ptr, ptr %stamps_p
  %wanted = icmp ult i64 %tid, %threads
  br i1 %wanted, label %job, label %leave
job:
  %index = phi i64 [ 0, %read ], [ %index_next, %next ]
  %target = phi i64 [ 0, %read ], [ %target_next, %next ]
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
  %pieces = call i64 @pieces(i64 %flags, i64 %threads)
  %all_pieces = mul i64 %pieces, %threads
  %counted = select i1 %parallel, i64 %all_pieces, i64 1
  %target_next = add i64 %target, %counted
  br i1 %parallel, label %shared, label %after
shared:
  %number = add i64 %run, %index
  %slot = call ptr @slot(ptr %stamps, i64 %index_next)
  call void @work(ptr %pool, i64 %tid, i64 %threads, ptr %function, ptr %arguments, i64 %flags,
                  i64 %run_turn, i64 %number, i64 %target_next, ptr %slot)
  br label %after
after:
  %last = icmp eq i64 %index_next, %count
  br i1 %last, label %leave, label %meet
meet:
  %barrier_bit = and i64 %flags, {FLAG_BARRIER}
  %asked = icmp ne i64 %barrier_bit, 0
  br i1 %asked, label %early, label %next
early:
  %now = load atomic i64, ptr %done_p acquire, align 8
  %ready = icmp uge i64 %now, %target_next
  br i1 %ready, label %next, label %outside
outside:
  store atomic i32 0, ptr %active_p release, align 4
  br label %wait
wait:
  %turn = phi i64 [ 0, %outside ], [ %turn_next, %again ]
  %open = load atomic i64, ptr %open_p acquire, align 8
  %gone = icmp ne i64 %open, %run
  br i1 %gone, label %end, label %check
check:
  %done = load atomic i64, ptr %done_p acquire, align 8
  %complete = icmp uge i64 %done, %target_next
  br i1 %complete, label %return, label %again
again:
  %turn_next = add i64 %turn, 1
  call void @await(ptr %pool, i64 %turn, i64 %done)
  br label %wait
return:
  %back = call i1 @enter(ptr %pool, ptr %active_p, i64 %run)
  br i1 %back, label %next, label %end
next:
  br label %job
leave:
  store atomic i32 0, ptr %active_p release, align 4
  br label %end
end:
  ret void
}
"""

WORKER = """
; The life of a worker: spin for work, then sleep; take part in a run; stop when told.
define void @{WORKER}(ptr %pool, i64 %tid) {
entry:
  %at = mul i64 %tid, {THREAD_BYTES}
  %block = add i64 %at, {POOL_HEADER_BYTES}
  %go = getelementptr i8, ptr %pool, i64 %block
  %sleeping = getelementptr i8, ptr %go, i64 {THREAD_SLEEPING}
  %spins_p = getelementptr i8, ptr %pool, i64 {POOL_IDLE_SPINS}
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %now, %work ]
  %spins = load i64, ptr %spins_p
  br label %wait
wait:
  %turn = phi i64 [ 0, %idle ], [ %turn_next, %spin ], [ %turn, %awake ]
  %now = load atomic i32, ptr %go acquire, align 4
  %new = icmp ne i32 %now, %seen
  br i1 %new, label %check, label %again
again:
  %patient = icmp ult i64 %turn, %spins
  br i1 %patient, label %spin, label %sleep
spin:
  %turn_next = add i64 %turn, 1
  {PAUSE}
  br label %wait
sleep:
  store atomic i32 1, ptr %sleeping seq_cst, align 4
  %still = load atomic i32, ptr %go seq_cst, align 4
  %same = icmp eq i32 %still, %seen
  br i1 %same, label %rest, label %awake
rest:
  %expected = zext i32 %seen to i64
  call void @futex(ptr %pool, ptr %go, i64 {WAIT}, i64 %expected)
  br label %awake
awake:
  store atomic i32 0, ptr %sleeping seq_cst, align 4
  br label %wait
check:
  %stop_p = getelementptr i8, ptr %pool, i64 {POOL_STOP}
  %stop = load atomic i64, ptr %stop_p acquire, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %end, label %work
work:
  call void @follow(ptr %pool, i64 %tid)
  br label %idle
end:
  ret void
}

; Tells every worker to return.
define void @{STOP}(ptr %pool) {
entry:
  %stop_p = getelementptr i8, ptr %pool, i64 {POOL_STOP}
  store atomic i64 1, ptr %stop_p seq_cst, align 8
  call void @wake(ptr %pool)
  %size_p = getelementptr i8, ptr %pool, i64 {POOL_SIZE}
  %size = load i64, ptr %size_p
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %tid_next, %body ]
  %more = icmp ult i64 %tid, %size
  br i1 %more, label %body, label %end
body:
  call void @start(ptr %pool, i64 %tid)
  %tid_next = add i64 %tid, 1
  br label %head
end:
  ret void
}
"""
