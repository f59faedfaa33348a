----------------------------- MODULE LeaseTerm -----------------------------
(***************************************************************************)
(* When a client of etcd may trust a lease, although a member that led the *)
(* cluster once can wake up and revoke leases that it remembers            *)
(* (etcd#15247).                                                           *)
(*                                                                         *)
(* docs/safety.md has the rule and the argument.  docs/proof.md explains   *)
(* this model and lists the configurations and their results.              *)
(*                                                                         *)
(* Time is discrete and relative: clocks hold what is left, not instants.  *)
(* A run therefore has no bound in time.  The bounds are the constants     *)
(* Terms, Leases and Lag.                                                  *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    Members,        \* the members of the cluster
    First,          \* the member that leads term 1
    Clients,        \* 1..n; client 1 joins first
    Terms,          \* raft terms 1..Terms
    Leases,         \* leases that each client may grant
    TTL,            \* of each lease, in ticks
    Lag,            \* entries that the slowest member may be behind the log

    \* What may happen.
    Snapshots,      \* how followers may catch up by a snapshot: "never"; "any": always;
                    \* "quorum": only past entries that a quorum without them acknowledged
    Restarts,       \* a member may restart; it then reports term 0
    Fresh,          \* clients know no term at first
    LatePromote,    \* variant i: a lessor may be promoted after it was demoted
    LateTerm,       \* a member answers before it reports the term of the entry it applied

    \* The rule, and what the variants change in it.
    Proposals,      \* proposals of a round between keep-alive and read; 0 is variant f
    Read,           \* a round has a linearizable read; FALSE is variant g
    ReadInLog,      \* the read is itself an entry, the second proposal
    Move,           \* "later term": the rule; "never": variant a; "any time": variant j
    TermFrom,       \* "before": known before the grant was sent; "response": variant b
    LaterExtends,   \* TRUE: renewals under a later term extend (variants a and c)
    ZeroIsTerm,     \* TRUE: 0 counts as a term (variant h)
    WhileOpen,      \* "min": min(A, B), nothing extends; "old": A's deadline (variant j)
    RevokeOld,      \* TRUE: A is revoked when the Txn is sent (variant d)
    RevokeNew,      \* TRUE: B may be revoked while the Txn is unanswered (variant e)
    CreditFrom,     \* "sent": a deadline counts from the request; "received": from the response (variant k)
    StaleWin,       \* TRUE: a member that lags may elect a candidate (variant l)
    ReleaseFirst    \* TRUE: a leader that resigns acts on while its leases are revoked (variant m)

VARIABLES
    term,           \* the highest raft term
    leader,         \* the member that leads it
    log,            \* committed entries that some member has not applied yet
    head,           \* the state after the whole log
    applied,        \* member -> number of entries of log that it has applied
    state,          \* member -> the state that it has applied
    reported,       \* member -> raft_term in its headers
    unset,          \* member -> term of an applied entry that it does not report yet, or 0
    known,          \* member -> highest term that its raft knows
    led,            \* member -> last term that it was elected for
    primary,        \* members whose lessor is primary
    promoting,      \* members that are about to promote their lessor (variant i)
    expiry,         \* member -> lease -> ticks left at a primary lessor
    due,            \* leases whose revocation was, or may be, proposed

    phase,          \* client -> "new", "granting", "granted", "joining", "joined", "in", "over"
    won,            \* client -> it was elected
    lease,          \* client -> its lease A, or 0
    next,           \* client -> lease B of an open move, or 0
    used,           \* client -> number of leases granted so far
    left,           \* client -> ticks until A's deadline
    nextLeft,       \* client -> ticks until B's deadline
    move,           \* client -> "no", "granting", "granted", "sent", "done"
    highest,        \* client -> highest raft_term received, or 0
    leaseTerm,      \* lease -> its term, or 0
    stray,          \* client -> <<A, B>> of a move that was given up (variant e)
    step,           \* client -> "idle", "keep-alive", "propose", "proposed", "again", "proposed again",
                    \*           "read", "index", "answered"
    credit,         \* client -> ticks until the deadline that the round would give
    via,            \* client -> member that answered the proposals
    index           \* client -> position in log of its proposal, or that its read must reflect

cluster == <<term, leader, log, head, applied, state, reported, unset, known, led,
             primary, promoting, expiry, due>>
raft    == <<term, leader, log, head, applied, state, reported, unset, known, led>>
lessors == <<primary, promoting, expiry, due>>
life    == <<phase, won, lease, next, used, left, nextLeft, move, highest,
             leaseTerm, stray>>
round   == <<step, credit, via, index>>
vars    == <<cluster, life, round>>

AllLeases == 1..(Leases * Cardinality(Clients))
Owner(l)  == 1 + (l - 1) \div Leases
Lease(c, n) == (c - 1) * Leases + n
None == First       \* a value for via while it has no meaning

Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b
Less(n) == IF n = 0 THEN 0 ELSE n - 1

Symmetry == Permutations(Members \ {First})

-----------------------------------------------------------------------------
\* etcd's state machine.  An entry is <<term, kind, client, lease, lease>>.

Put(s, c, l) == [s EXCEPT !.key[c] = l]

Apply(s, e) ==
    CASE e[2] = "grant"  -> [s EXCEPT !.lease[e[4]] = "live"]
      [] e[2] = "join"   -> IF s.lease[e[4]] = "live" THEN Put(s, e[3], e[4]) ELSE s
      [] e[2] = "move"   -> IF s.key[e[3]] = e[4] /\ s.lease[e[5]] = "live"
                            THEN Put(s, e[3], e[5]) ELSE s
      [] e[2] = "revoke" -> [key   |-> [c \in Clients |-> IF s.key[c] = e[4] THEN 0 ELSE s.key[c]],
                             lease |-> [s.lease EXCEPT ![e[4]] = "gone"]]
      [] OTHER -> s

\* A lease that its client has left for a newer one cannot delete the key any more, so nothing counts its time.
Matters(l) == lease[Owner(l)] <= l

\* A member that has applied every entry that the others have applied, too, lets the log forget it.
Commit(kind, c, a, b) ==
    /\ Len(log) < Lag
    /\ log' = Append(log, <<term, kind, c, a, b>>)
    /\ head' = Apply(head, <<term, kind, c, a, b>>)
    /\ UNCHANGED <<term, leader, applied, state, reported, unset, known, led>>

\* The log forgets entries that every member has applied.  Positions and indexes shrink with it.
Trim(positions, indexes) ==
    LET least == CHOOSE n \in {positions[m] : m \in Members} : \A m \in Members : positions[m] >= n
    IN  /\ applied' = [m \in Members |-> positions[m] - least]
        /\ log' = SubSeq(log, least + 1, Len(log))
        /\ index' = [c \in Clients |-> IF indexes[c] > least THEN indexes[c] - least ELSE 0]

Armed(s) == [l \in AllLeases |-> IF s.lease[l] = "live" /\ Matters(l) THEN TTL ELSE 0]
NoTime == [l \in AllLeases |-> 0]

\* Whether a read that carries term t confirms the renewal.
Counts(c, t) ==
    LET mine == leaseTerm[lease[c]] IN
    IF ZeroIsTerm THEN t = mine
    ELSE t # 0 /\ (t = mine \/ (LaterExtends /\ t > mine))

\* A member applies its next entry.  Its raft demotes the lessor before it hands over entries of a later term.
ApplyNext(m) ==
    LET e == log[applied[m] + 1]
        new == Apply(state[m], e)
        demoted == e[1] > known[m]
        now == Max(known[m], e[1])
        positions == [applied EXCEPT ![m] = @ + 1]
        itsOwn == e[2] = "first" /\ led[m] = e[1] /\ now = e[1]
        prim == IF demoted THEN primary \ {m}
                ELSE IF itsOwn /\ ~LatePromote THEN primary \cup {m} ELSE primary
    IN  /\ applied[m] < Len(log)
        /\ unset[m] = 0
        /\ state' = [state EXCEPT ![m] = new]
        /\ IF LateTerm /\ reported[m] # e[1]
           THEN unset' = [unset EXCEPT ![m] = e[1]] /\ UNCHANGED reported
           ELSE reported' = [reported EXCEPT ![m] = e[1]] /\ UNCHANGED unset
        /\ known' = [known EXCEPT ![m] = now]
        /\ primary' = prim
        /\ promoting' = IF itsOwn /\ LatePromote THEN promoting \cup {m} ELSE promoting
        /\ expiry' = [expiry EXCEPT ![m] =
              IF m \notin prim THEN NoTime
              ELSE IF itsOwn THEN Armed(new)
              ELSE IF e[2] = "grant" /\ Matters(e[4]) THEN [@ EXCEPT ![e[4]] = TTL]
              ELSE IF e[2] = "revoke" THEN [@ EXCEPT ![e[4]] = 0]
              ELSE @]
        \* The answer to a proposal comes from a member that applied it as an entry.
        /\ \/ /\ e[2] = "proposal"
              /\ index[e[3]] = applied[m] + 1
              /\ \/ /\ step[e[3]] = "proposed"
                    /\ step' = [step EXCEPT ![e[3]] = IF Proposals = 1 THEN "read" ELSE "again"]
                    /\ via' = [via EXCEPT ![e[3]] = m]
                 \/ /\ step[e[3]] = "proposed again"
                    /\ via[e[3]] = m
                    /\ IF ReadInLog
                       \* It is answered before the term of this entry is set, and after that of the one before.
                       THEN /\ step' = [step EXCEPT ![e[3]] =
                                  IF new.key[e[3]] = lease[e[3]] /\ Counts(e[3], reported[m]) THEN "answered" ELSE "failed"]
                            /\ via' = [via EXCEPT ![e[3]] = None]
                       ELSE /\ step' = [step EXCEPT ![e[3]] = "read"]
                            /\ UNCHANGED via
              /\ Trim(positions, [index EXCEPT ![e[3]] = 0])
           \/ Trim(positions, index) /\ UNCHANGED <<step, via>>
        /\ UNCHANGED <<term, leader, head, led, due, life, credit>>

\* A member wins an election.  Nothing is committed between that and its first entry, so both are one step.
Elect(m) ==
    /\ term < Terms
    /\ Len(log) < Lag
    /\ term' = term + 1
    /\ leader' = m
    /\ log' = Append(log, <<term + 1, "first", 0, 0, 0>>)
    /\ known' = [known EXCEPT ![m] = term + 1]
    /\ led' = [led EXCEPT ![m] = term + 1]
    /\ primary' = primary \ {m}
    /\ expiry' = [expiry EXCEPT ![m] = NoTime]
    /\ UNCHANGED <<head, applied, state, reported, unset, promoting, due, life, round>>

\* Variant i: nothing orders Promote after the Demote of a later term.
PromoteNow(m) ==
    /\ m \in promoting
    /\ promoting' = promoting \ {m}
    /\ primary' = primary \cup {m}
    /\ expiry' = [expiry EXCEPT ![m] = Armed(state[m])]
    /\ UNCHANGED <<raft, due, life, round>>

\* The raft of a member learns of a later term, and demotes the lessor.  What was queued in "due" stays queued.
\* ApplyNext does the same, so only Snapshot needs it as a step of its own.
Learn(m) ==
    /\ Snapshots = "quorum"
    /\ known[m] < term
    /\ known' = [known EXCEPT ![m] = term]
    /\ primary' = primary \ {m}
    /\ expiry' = [expiry EXCEPT ![m] = NoTime]
    /\ UNCHANGED <<term, leader, log, head, applied, state, reported, unset, led, promoting, due, life, round>>

\* A follower catches up by a snapshot.  The term that it reports stays.
Snapshot(m) ==
    /\ \/ Snapshots = "any"
       \/ /\ Snapshots = "quorum"
          /\ 2 * Cardinality({n \in Members \ {m} : known[n] = term}) > Cardinality(Members)
    /\ m # leader
    /\ unset[m] = 0
    /\ applied[m] < Len(log)
    /\ Trim([applied EXCEPT ![m] = Len(log)], index)
    /\ state' = [state EXCEPT ![m] = head]
    /\ known' = [known EXCEPT ![m] = term]
    /\ primary' = IF known[m] < term THEN primary \ {m} ELSE primary
    /\ expiry' = IF known[m] < term THEN [expiry EXCEPT ![m] = NoTime] ELSE expiry
    /\ UNCHANGED <<term, leader, head, reported, unset, led, promoting, due, life, step, credit, via>>

\* What LateTerm delays: the answer to a waiting call comes before the term is set.
SetTerm(m) ==
    /\ unset[m] # 0
    /\ reported' = [reported EXCEPT ![m] = unset[m]]
    /\ unset' = [unset EXCEPT ![m] = 0]
    /\ UNCHANGED <<term, leader, log, head, applied, state, known, led, lessors, life, round>>

\* A member restarts with its state.  It reports 0 until it applies an entry.  Its connections break.
Restart(m) ==
    /\ Restarts
    /\ m # leader
    /\ reported[m] # 0
    /\ reported' = [reported EXCEPT ![m] = 0]
    /\ unset' = [unset EXCEPT ![m] = 0]
    /\ primary' = primary \ {m}
    /\ expiry' = [expiry EXCEPT ![m] = NoTime]
    /\ step' = [c \in Clients |-> IF Proposals > 0 /\ via[c] = m
                                     /\ step[c] \in {"again", "proposed again", "read", "index"}
                                  THEN "idle" ELSE step[c]]
    /\ credit' = [c \in Clients |-> IF step'[c] = "idle" THEN 0 ELSE credit[c]]
    /\ index' = [c \in Clients |-> IF step'[c] = "idle" THEN 0 ELSE index[c]]
    /\ via' = [c \in Clients |-> IF step'[c] = "idle" THEN None ELSE via[c]]
    /\ UNCHANGED <<term, leader, log, head, applied, state, known, led, promoting, due, life>>

\* A revocation that some primary proposed, of this term or an earlier one, is committed.
Revoke(l) ==
    /\ l \in due
    /\ head.lease[l] = "live"
    /\ Commit("revoke", 0, l, 0)
    /\ due' = due \ {l}
    /\ UNCHANGED <<primary, promoting, expiry, life, round>>

-----------------------------------------------------------------------------
\* Clients.

Open(c) == move[c] \in {"sent", "done"}
Trust(c) == IF Open(c) /\ WhileOpen = "min" THEN Min(left[c], nextLeft[c]) ELSE left[c]
Trusted(c) == phase[c] = "in" /\ Trust(c) > 0
Alive(c) == phase[c] # "over"

EndRound(c) ==
    /\ step' = [step EXCEPT ![c] = "idle"]
    /\ credit' = [credit EXCEPT ![c] = 0]
    /\ via' = [via EXCEPT ![c] = None]
    /\ index' = [index EXCEPT ![c] = 0]

\* Any response, or an event of a watch, carries the term that a member reports.
Receive(c, m) ==
    /\ phase[c] \in {"new", "in"}
    /\ reported[m] > highest[c]
    /\ highest' = [highest EXCEPT ![c] = reported[m]]
    /\ UNCHANGED <<cluster, phase, won, lease, next, used, left, nextLeft, move, leaseTerm, stray, round>>

SendGrant(c) ==
    /\ phase[c] = "new"
    /\ phase' = [phase EXCEPT ![c] = "granting"]
    /\ lease' = [lease EXCEPT ![c] = Lease(c, 1)]
    /\ used' = [used EXCEPT ![c] = 1]
    /\ left' = [left EXCEPT ![c] = TTL]
    /\ leaseTerm' = [leaseTerm EXCEPT ![Lease(c, 1)] = highest[c]]
    /\ UNCHANGED <<cluster, won, next, nextLeft, move, highest, stray, round>>

CommitGrant(c) ==
    \/ /\ phase[c] = "granting"
       /\ phase' = [phase EXCEPT ![c] = "granted"]
       /\ Commit("grant", c, lease[c], 0)
       /\ UNCHANGED <<lessors, won, lease, next, used, left, nextLeft, move, highest, leaseTerm, stray, round>>
    \/ /\ move[c] = "granting"
       /\ Alive(c)
       /\ move' = [move EXCEPT ![c] = "granted"]
       /\ Commit("grant", c, next[c], 0)
       /\ UNCHANGED <<lessors, phase, won, lease, next, used, left, nextLeft, highest, leaseTerm, stray, round>>

\* The member that answers has applied the grant.  Its header may carry a later term (variant b).
TermOfGrant(m, l) ==
    IF TermFrom = "response" THEN [leaseTerm EXCEPT ![l] = reported[m]] ELSE leaseTerm

ReceiveGrantSendJoin(c, m) ==
    /\ phase[c] = "granted"
    /\ state[m].lease[lease[c]] # "none"
    /\ phase' = [phase EXCEPT ![c] = "joining"]
    /\ leaseTerm' = TermOfGrant(m, lease[c])
    /\ UNCHANGED <<cluster, won, lease, next, used, left, nextLeft, move, highest, stray, round>>

CommitJoin(c) ==
    /\ phase[c] = "joining"
    /\ head.lease[lease[c]] = "live"
    /\ \A d \in Clients : d < c => phase[d] \in {"joined", "in", "over"}
    /\ phase' = [phase EXCEPT ![c] = "joined"]
    /\ Commit("join", c, lease[c], 0)
    /\ UNCHANGED <<lessors, won, lease, next, used, left, nextLeft, move, highest, leaseTerm, stray, round>>

\* Client 1 has no predecessor, so the response to its join elects it.
ReceiveJoin(c) ==
    /\ phase[c] = "joined"
    /\ phase' = [phase EXCEPT ![c] = "in"]
    /\ won' = [won EXCEPT ![c] = (c = 1)]
    /\ UNCHANGED <<cluster, lease, next, used, left, nextLeft, move, highest, leaseTerm, stray, round>>

\* A candidate receives that its predecessor's key is gone.  It needs time left now, and no read.
Win(c) ==
    /\ ~won[c]
    /\ Trusted(c)
    /\ \E m \in Members : \A d \in Clients : d < c => /\ phase[d] \in {"in", "over"}
                                                      /\ state[m].key[d] = 0
                                                      /\ StaleWin \/ head.key[d] = 0
    /\ won' = [won EXCEPT ![c] = TRUE]
    /\ UNCHANGED <<cluster, phase, lease, next, used, left, nextLeft, move, highest, leaseTerm, stray, round>>

\* A leader resigns, or is stopped.  The exit path revokes its leases.
Resign(c) ==
    /\ Cardinality(Clients) > 1
    /\ won[c]
    /\ Alive(c)
    /\ phase' = [phase EXCEPT ![c] = IF ReleaseFirst THEN @ ELSE "over"]
    /\ due' = due \cup {l \in AllLeases : Owner(l) = c /\ Matters(l) /\ head.lease[l] = "live"}
    /\ EndRound(c)
    /\ UNCHANGED <<raft, primary, promoting, expiry, won, lease, next, used, left, nextLeft, move, highest,
                   leaseTerm, stray>>

-----------------------------------------------------------------------------
\* The move of the key to lease B.

MayMove(c) ==
    CASE Move = "never" -> FALSE
      [] Move = "any time" -> TRUE
      [] OTHER -> highest[c] > leaseTerm[lease[c]]

StartMove(c) ==
    /\ phase[c] = "in"
    /\ won[c] => Trusted(c)
    /\ move[c] = "no"
    /\ used[c] < Leases
    /\ MayMove(c)
    /\ LET b == Lease(c, used[c] + 1) IN
       /\ next' = [next EXCEPT ![c] = b]
       /\ leaseTerm' = [leaseTerm EXCEPT ![b] = highest[c]]
    /\ used' = [used EXCEPT ![c] = @ + 1]
    /\ nextLeft' = [nextLeft EXCEPT ![c] = TTL]
    /\ move' = [move EXCEPT ![c] = "granting"]
    /\ UNCHANGED <<cluster, phase, won, lease, left, highest, stray, round>>

ReceiveGrantSendTxn(c, m) ==
    /\ Alive(c)
    /\ move[c] = "granted"
    /\ state[m].lease[next[c]] # "none"
    /\ move' = [move EXCEPT ![c] = "sent"]
    /\ leaseTerm' = TermOfGrant(m, next[c])
    /\ due' = IF RevokeOld THEN due \cup {lease[c]} ELSE due
    /\ UNCHANGED <<raft, primary, promoting, expiry, phase, won, lease, next, used, left, nextLeft, highest,
                   stray, round>>

\* The Txn may be committed long after its client ended.  A repeated Txn changes nothing after the first.
CommitMove(c) ==
    \/ /\ move[c] = "sent"
       /\ head.key[c] = lease[c]
       /\ head.lease[next[c]] = "live"
       /\ move' = [move EXCEPT ![c] = "done"]
       /\ Commit("move", c, lease[c], next[c])
       /\ UNCHANGED <<lessors, phase, won, lease, next, used, left, nextLeft, highest, leaseTerm, stray, round>>
    \/ /\ stray[c] # <<0, 0>>
       /\ head.key[c] = stray[c][1]
       /\ head.lease[stray[c][2]] = "live"
       /\ stray' = [stray EXCEPT ![c] = <<0, 0>>]
       /\ Commit("move", c, stray[c][1], stray[c][2])
       /\ UNCHANGED <<lessors, phase, won, lease, next, used, left, nextLeft, move, highest, leaseTerm, round>>

ReceiveMove(c) ==
    /\ Alive(c)
    /\ move[c] = "done"
    /\ lease' = [lease EXCEPT ![c] = next[c]]
    /\ next' = [next EXCEPT ![c] = 0]
    /\ left' = [left EXCEPT ![c] = nextLeft[c]]
    /\ nextLeft' = [nextLeft EXCEPT ![c] = 0]
    /\ move' = [move EXCEPT ![c] = "no"]
    /\ leaseTerm' = [leaseTerm EXCEPT ![lease[c]] = 0]
    /\ due' = due \ {lease[c]}
    /\ expiry' = [m \in Members |-> [expiry[m] EXCEPT ![lease[c]] = 0]]
    /\ EndRound(c)
    /\ UNCHANGED <<raft, primary, promoting, phase, won, used, highest, stray>>

\* Variant e: the client gives the Txn up, revokes B and relies on A again.
GiveUpMove(c) ==
    /\ RevokeNew
    /\ Trusted(c)
    /\ Open(c)
    /\ stray' = [stray EXCEPT ![c] = IF move[c] = "sent" THEN <<lease[c], next[c]>> ELSE @]
    /\ due' = due \cup {next[c]}
    /\ next' = [next EXCEPT ![c] = 0]
    /\ nextLeft' = [nextLeft EXCEPT ![c] = 0]
    /\ move' = [move EXCEPT ![c] = "no"]
    /\ UNCHANGED <<raft, primary, promoting, expiry, phase, won, lease, used, left, highest, leaseTerm, round>>

-----------------------------------------------------------------------------
\* A round of renewals: keep-alive, proposal, linearizable read.

Held(c) == Open(c) /\ WhileOpen = "min"     \* nothing extends

Extended(c) ==
    IF Held(c) \/ left[c] = 0 THEN left[c]
    ELSE Max(left[c], IF CreditFrom = "received" THEN TTL ELSE credit[c])

\* A round that can extend nothing is left out: it only prolongs the time that a lessor counts.
SendKeepAlive(c) ==
    /\ Trusted(c)
    /\ step[c] = "idle"
    /\ ~Held(c)
    /\ left[c] < TTL
    /\ LaterExtends \/ ZeroIsTerm \/ highest[c] = leaseTerm[lease[c]]
    /\ step' = [step EXCEPT ![c] = "keep-alive"]
    /\ credit' = [credit EXCEPT ![c] = TTL]
    /\ UNCHANGED <<cluster, life, via, index>>

\* Any primary answers, a stale one too.  A follower f fills the header, then forwards to the leader that it knows.
AnswerKeepAlive(c, m, f) ==
    /\ step[c] = "keep-alive"
    /\ m \in primary
    /\ expiry[m][lease[c]] > 0
    /\ expiry' = [expiry EXCEPT ![m][lease[c]] = TTL]
    /\ IF Read
       THEN /\ f = m
            /\ step' = [step EXCEPT ![c] = IF Proposals > 0 THEN "propose" ELSE "read"]
            /\ UNCHANGED <<credit, via, index, left, highest>>
       ELSE /\ reported[f] <= led[m]
            /\ left' = [left EXCEPT ![c] = IF Counts(c, reported[f]) THEN Extended(c) ELSE @]
            /\ highest' = [highest EXCEPT ![c] = Max(@, reported[f])]
            /\ EndRound(c)
    /\ UNCHANGED <<raft, primary, promoting, due, phase, won, lease, next, used, nextLeft, move, leaseTerm, stray>>

CommitProposal(c) ==
    /\ step[c] \in {"propose", "again"}
    /\ step' = [step EXCEPT ![c] = IF @ = "propose" THEN "proposed" ELSE "proposed again"]
    /\ index' = [index EXCEPT ![c] = Len(log) + 1]
    /\ Commit("proposal", c, 0, 0)
    /\ UNCHANGED <<lessors, life, credit, via>>

\* ReadIndex: a leader of the current term confirms with a quorum how far the log is.
ConfirmIndex(c) ==
    /\ step[c] = "read"
    /\ step' = [step EXCEPT ![c] = "index"]
    /\ index' = [index EXCEPT ![c] = Len(log)]
    /\ UNCHANGED <<cluster, life, credit, via>>

\* A read in the log did not confirm the renewal.
FailRead(c) ==
    /\ step[c] = "failed"
    /\ EndRound(c)
    /\ UNCHANGED <<cluster, life>>

\* The member answers with the state and the term that it has at this moment.
AnswerRead(c, m) ==
    /\ step[c] = "index"
    /\ Proposals > 0 => m = via[c]
    /\ applied[m] >= index[c]
    /\ highest' = [highest EXCEPT ![c] = Max(@, reported[m])]
    /\ IF state[m].key[c] = lease[c] /\ Counts(c, reported[m])
       THEN /\ step' = [step EXCEPT ![c] = "answered"]
            /\ via' = [via EXCEPT ![c] = None]
            /\ index' = [index EXCEPT ![c] = 0]
            /\ UNCHANGED credit
       ELSE EndRound(c)
    /\ UNCHANGED <<cluster, phase, won, lease, next, used, left, nextLeft, move, leaseTerm, stray>>

\* The answer may be late.  The credit has aged by then, and a move may have begun.
ReceiveRead(c) ==
    /\ step[c] = "answered"
    /\ left' = [left EXCEPT ![c] = Extended(c)]
    /\ EndRound(c)
    /\ UNCHANGED <<cluster, phase, won, lease, next, used, nextLeft, move, highest, leaseTerm, stray>>

\* A request or a response was lost, or the client waits no longer.
Abandon(c) ==
    /\ step[c] # "idle"
    /\ EndRound(c)
    /\ UNCHANGED <<cluster, life>>

-----------------------------------------------------------------------------
\* A tick takes one unit from every clock, also from those of members and clients that stand still.

Tick ==
    LET later == [c \in Clients |-> Less(left[c])]
        laterNext == [c \in Clients |-> Less(nextLeft[c])]
        rest(c) == IF Open(c) /\ WhileOpen = "min" THEN Min(later[c], laterNext[c]) ELSE later[c]
        ends == {c \in Clients : /\ Alive(c)
                                 /\ \/ phase[c] # "new" /\ phase[c] # "in" /\ later[c] = 0
                                    \/ won[c] /\ rest(c) = 0
                                    \/ Open(c) /\ laterNext[c] = 0}
        idle == {c \in Clients : c \in ends \/ Less(credit[c]) = 0}
    IN  /\ left' = [c \in Clients |-> IF c \in ends THEN 0 ELSE later[c]]
        /\ nextLeft' = [c \in Clients |-> IF c \in ends THEN 0 ELSE laterNext[c]]
        /\ phase' = [c \in Clients |-> IF c \in ends THEN "over" ELSE phase[c]]
        /\ step' = [c \in Clients |-> IF c \in idle THEN "idle" ELSE step[c]]
        /\ credit' = [c \in Clients |-> IF c \in idle THEN 0 ELSE credit[c] - 1]
        /\ via' = [c \in Clients |-> IF c \in idle THEN None ELSE via[c]]
        /\ index' = [c \in Clients |-> IF c \in idle THEN 0 ELSE index[c]]
        /\ expiry' = [m \in Members |-> [l \in AllLeases |-> Less(expiry[m][l])]]
        /\ due' = due \cup {l \in AllLeases : /\ head.lease[l] = "live"
                                              /\ \E m \in Members : expiry[m][l] = 1}
        /\ UNCHANGED <<raft, primary, promoting, won, lease, next, used, move, highest, leaseTerm, stray>>

-----------------------------------------------------------------------------
Init ==
    LET nothing == [key |-> [c \in Clients |-> 0], lease |-> [l \in AllLeases |-> "none"]] IN
    /\ term = 1
    /\ leader = First
    /\ log = << >>
    /\ head = nothing
    /\ applied = [m \in Members |-> 0]
    /\ state = [m \in Members |-> nothing]
    /\ reported = [m \in Members |-> 1]
    /\ unset = [m \in Members |-> 0]
    /\ known = [m \in Members |-> 1]
    /\ led = [m \in Members |-> IF m = First THEN 1 ELSE 0]
    /\ primary = IF LatePromote THEN {} ELSE {First}
    /\ promoting = IF LatePromote THEN {First} ELSE {}
    /\ expiry = [m \in Members |-> NoTime]
    /\ due = {}
    /\ phase = [c \in Clients |-> "new"]
    /\ won = [c \in Clients |-> FALSE]
    /\ lease = [c \in Clients |-> 0]
    /\ next = [c \in Clients |-> 0]
    /\ used = [c \in Clients |-> 0]
    /\ left = [c \in Clients |-> 0]
    /\ nextLeft = [c \in Clients |-> 0]
    /\ move = [c \in Clients |-> "no"]
    /\ highest = [c \in Clients |-> IF Fresh THEN 0 ELSE 1]
    /\ leaseTerm = [l \in AllLeases |-> 0]
    /\ stray = [c \in Clients |-> <<0, 0>>]
    /\ step = [c \in Clients |-> "idle"]
    /\ credit = [c \in Clients |-> 0]
    /\ via = [c \in Clients |-> None]
    /\ index = [c \in Clients |-> 0]

OfMember(m) == ApplyNext(m) \/ Elect(m) \/ PromoteNow(m) \/ Learn(m) \/ Snapshot(m) \/ SetTerm(m) \/ Restart(m)

OfClient(c) ==
    \/ SendGrant(c) \/ CommitGrant(c) \/ CommitJoin(c) \/ ReceiveJoin(c) \/ Win(c) \/ Resign(c)
    \/ StartMove(c) \/ CommitMove(c) \/ ReceiveMove(c) \/ GiveUpMove(c)
    \/ SendKeepAlive(c) \/ CommitProposal(c) \/ ConfirmIndex(c) \/ FailRead(c) \/ ReceiveRead(c) \/ Abandon(c)

OfBoth(c, m) ==
    \/ Receive(c, m) \/ ReceiveGrantSendJoin(c, m) \/ ReceiveGrantSendTxn(c, m) \/ AnswerRead(c, m)
    \/ \E f \in Members : AnswerKeepAlive(c, m, f)

\* Once every client has ended, the properties cannot be violated any more.
Next ==
    /\ \E c \in Clients : Alive(c)
    /\ \/ \E m \in Members : OfMember(m)
       \/ \E c \in Clients : OfClient(c)
       \/ \E c \in Clients, m \in Members : OfBoth(c, m)
       \/ \E l \in AllLeases : Revoke(l)
       \/ Tick

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
\* A client that trusts its lease has its key, and the key is on a lease of that client.
KeyExists ==
    \A c \in Clients : Trusted(c) => \E n \in 1..used[c] : head.key[c] = Lease(c, n)

\* Two clients never lead at once.
OneLeader ==
    \A c, d \in Clients : won[c] /\ won[d] /\ Trusted(c) /\ Trusted(d) => c = d
=============================================================================
