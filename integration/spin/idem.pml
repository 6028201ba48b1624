/* Two deliveries of one message to two consumers that share an idempotency store.
   The lease may run out at any step, as in a process that is stopped for long; the
   store may forget everything once, as in a failover; one consumer may die at any
   step.

   The plain model is a lock with a lease. Variants:
     -DFENCE   the resource refuses a token lower than the highest it has seen;
     -DSQL     the effect and a unique key are one transaction of a database;
     -DJOIN    completing marks the message as done whoever holds the lock by then;
     -DACKBUSY "somebody else is at work" is answered with an acknowledgement.

   spin -a -DSQL idem.pml && gcc -O2 -o pan pan.c && ./pan -m100000 -a -N once */
#define N 2
byte owner = 0;  /* 0 free, else token */
bool donemark = 0;
byte tok = 0; byte wipes = 0; byte deaths = 0; byte hi = 0;
byte effect = 0; bool row = 0; bool acked = 0; byte done = 0;

proctype C() {
  byte my; byte tries = 0;
again:
  if :: tries == 3 -> goto out :: else -> tries++ fi;
  atomic { if
    :: donemark -> goto ack
    :: !donemark && owner != 0 ->
#ifdef ACKBUSY
         goto ack
#else
         goto again
#endif
    :: !donemark && owner == 0 -> tok++; my = tok; owner = my
  fi };
  if :: atomic { deaths < 1 -> deaths++; goto out } :: skip fi;
#ifdef SQL
  atomic { if :: !row -> row = 1; effect++ :: row -> skip fi };
#else
#ifdef FENCE
  atomic { if :: my >= hi -> hi = my; effect++ :: else -> goto again fi };
#else
  effect++;
#endif
#endif
  if :: atomic { deaths < 1 -> deaths++; goto out } :: skip fi;
#ifdef JOIN
  atomic { owner = 0; donemark = 1 };
#else
  atomic { if :: owner == my -> owner = 0; donemark = 1 :: else -> skip fi };
#endif
#ifndef SQL
  /* lost the lock: cannot mark; the message is still acknowledged after success */
#endif
ack: acked = 1;
out: done++
}
proctype Env() { do
  :: atomic { owner != 0 && done < N -> owner = 0 }                 /* TTL expiry */
  :: atomic { wipes < 1 && done < N -> wipes++; owner = 0; donemark = 0 }
  :: done == N -> break
  od }
init { atomic { run C(); run C(); run Env() } }
ltl once { [] (effect <= 1) }
ltl noloss { [] !(acked && effect == 0) }
