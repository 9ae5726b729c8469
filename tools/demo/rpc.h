/* Calls that the demonstration makes more than once. */
#ifndef SEM_TOOLS_DEMO_RPC_H
#define SEM_TOOLS_DEMO_RPC_H

#include "proto/client.h"
#include "proto/pack.h"

#include <stdbool.h>
#include <stddef.h>

enum { RPC_TIMEOUT_MS = 120 * 1000 };

/* params of a search: one array with one map in out (emptied first). */
sem_status rpc_pack_search(buffer *out, const char *query, bool exact, bool log, bool text, sem_error *err);

/* client_receive, where an error answer is an error. */
sem_status rpc_receive(client *c, client_reply *reply, sem_error *err);

/* client_call, where an error answer is an error. */
sem_status rpc_call(client *c, const char *method, const buffer *params, client_reply *reply, sem_error *err);

/* Place of the document `name` among the hits of a search, from 1; 0 if it is not there. */
size_t rpc_hit_rank(const msgpack_object *result, const char *name);

#endif
