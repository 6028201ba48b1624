/* A half message with check-back: one transaction, one broker that may be killed
   twice, its sender, one more member of the producer group that answers checks, and
   a network that loses and doubles what it carries.

   The plain model is what this broker does. Two mistakes can be built in, and the
   properties below have to notice them:
     -DRMQ     a decision does not look at an earlier one, and is itself a second
               record that is written some time after the message became visible;
     -DNOTOMB  the checker answers "roll back" when it finds no row, and leaves
               nothing that keeps a slow sender from committing afterwards.

   spin -a tx.pml && gcc -O2 -o pan pan.c && ./pan -m100000 -a -N atmostonce
   (resolved needs -f, weak fairness) */
#define MAXCHK 2
#define HALF 1
#define COMMITTED 2
#define ROLLEDBACK 3
#define PARKED 4
byte st = 0;            /* durable resolution of the half message            */
byte vis = 0;           /* copies visible in the real topic (durable)        */
bool opq = 0; byte opv = 0; /* RMQ only: OP record still in memory           */
byte loc = 0;           /* sender's database: 0 open, 1 committed, 2 rolled back */
byte nchk = 0; byte crashes = 0;
bool senderDone = 0;
chan end = [2] of { byte };   /* 1 = commit, 0 = rollback */
chan chk = [1] of { bit };

inline snd(x) { if :: nfull(end) -> end!x :: skip /* lost */ fi;
                if :: nfull(end) -> end!x /* duplicated */ :: skip fi }

proctype Sender() {
  atomic { st == 0 -> st = HALF };            /* half stored and acknowledged */
  if :: goto crash :: skip fi;
  /* local transaction: commit is an atomic compare-and-set against a tombstone */
  if :: atomic { (loc == 0) -> loc = 1 }
     :: atomic { (loc == 0) -> loc = 2 }
     :: (loc != 0) -> skip
  fi;
  if :: goto crash :: skip fi;
  if :: loc == 1 -> snd(1) :: loc == 2 -> snd(0) :: else fi;
crash: senderDone = 1
}

#ifdef NOTOMB
proctype LateSender() { /* a sender that is merely slow: commits after the check */
  atomic { (st >= HALF && loc == 0) -> loc = 1 }
}
#endif

proctype Checker() {     /* any live member of the producer group */
endc: do
  :: chk?1 ->
     if :: loc == 1 -> snd(1)
        :: loc == 2 -> snd(0)
        :: loc == 0 -> if :: skip           /* UNKNOWN: nothing sent */
#ifdef NOTOMB
                          :: snd(0)          /* "not found" => rollback */
#else
                          :: atomic { loc == 0 -> loc = 2 }; snd(0)
#endif
                       fi
     fi
  od
}

proctype Broker() {
  byte x;
endb: do
  :: atomic { end?x ->
#ifdef RMQ
       if :: x == 1 -> vis++; opq = 1; opv = COMMITTED
          :: x == 0 -> opq = 1; opv = ROLLEDBACK
       fi
  }
  :: atomic { opq -> st = opv; opq = 0 }        /* batched OP write, later   */
#else
       if :: st == HALF && x == 1 -> st = COMMITTED; vis++   /* one log record */
          :: st == HALF && x == 0 -> st = ROLLEDBACK
          :: st == PARKED && x == 1 -> st = COMMITTED; vis++ /* late resolution allowed */
          :: st == PARKED && x == 0 -> st = ROLLEDBACK
          :: else                  /* already resolved: answer with the resolution */
       fi
  }
#endif
  :: atomic { st == HALF && nchk < MAXCHK && nfull(chk) -> nchk++; chk!1 }
  :: atomic { st == HALF && nchk == MAXCHK && empty(chk) && empty(end) && !opq -> st = PARKED }
  :: atomic { crashes < 2 -> crashes++; opq = 0; nchk = 0 }  /* broker kill -9 */
  od
}
init { atomic { run Sender(); run Checker(); run Broker();
#ifdef NOTOMB
  run LateSender();
#endif
 } }
ltl atmostonce { [] (vis <= 1) }
ltl novisible_if_rolledback { [] !(vis > 0 && loc == 2) }
ltl nolost_if_committed { [] !(st == ROLLEDBACK && loc == 1) }
ltl noresurrect { [] !(vis > 0 && st == ROLLEDBACK) }
ltl resolved { <> [] (st != HALF) }
