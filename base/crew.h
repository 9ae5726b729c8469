/* Several threads at one short piece of work, a millisecond or less: one leads,
 * others join when they are idle and leave when they like.
 *
 * The work is a row of phases, a phase a number of chunks that threads claim one by
 * one. The leader claims as the others do, so it never waits for a helper that has
 * not come: a helper that is off the processor costs at most the chunk that it has
 * claimed. No locks, no memory taken, and what is computed does not depend on who
 * did it, provided that chunks write to different places. */
#ifndef SEM_BASE_CREW_H
#define SEM_BASE_CREW_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct crew crew;

/* members: threads that work at a time, the leader included; 1 to CREW_MEMBERS_MAX. */
enum { CREW_MEMBERS_MAX = 16, CREW_CHUNKS_MAX = 65535 };
sem_status crew_create(crew **out, size_t members, sem_error *err);
/* Accepts NULL. No thread may be inside. */
void crew_destroy(crew *c);
size_t crew_members(const crew *c);

/* --- the leader's side */

/* False where another thread leads: work alone then. */
bool crew_lead(crew *c);
void crew_dismiss(crew *c);

/* One chunk of a phase. member tells those apart that work at the same time: 0 is
 * the leader, others are below crew_members(). */
typedef void crew_function(void *context, size_t chunk, size_t member);

/* Calls f for each chunk below chunks (at most CREW_CHUNKS_MAX), in any thread, and
 * returns when all are done. The leader begins with the first and goes up, helpers
 * begin with the last and go down, so that of two threads each does neighbours. What they
 * wrote is seen here afterwards and by every later phase. Only the thread that leads. */
void crew_run(crew *c, crew_function *f, void *context, size_t chunks);

/* --- the helpers' side */

/* Works until the leader dismisses, leave(context) holds (asked between chunks; it
 * may be asked often) or nothing was to do for a while. Returns at once where
 * nobody leads or enough others help. */
void crew_help(crew *c, bool (*leave)(void *context), void *context);

#endif
