/* What one connection may do: the role of the token that it gave. Loop thread only. */
#ifndef SEM_DAEMON_AUTH_H
#define SEM_DAEMON_AUTH_H

#include "base/status.h"
#include "proto/pack.h"
#include "proto/request.h"
#include "daemon/tokens.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    AUTH_FAILURES_MAX = 3, /* wrong tokens of one connection; it is then closed */
    AUTH_DELAY_MS = 1000   /* before the answer to a wrong token, and before anything else is read */
};

/* Zeroed: no token was given. */
typedef struct auth_state {
    uint64_t token;   /* its number; 0: none */
    uint64_t version; /* of the tokens that role is by */
    rpc_role role;
    unsigned failures; /* wrong tokens so far */
} auth_state;

/* The role by the tokens of now: a token that is gone has none, one whose line has
 * changed has the new one. */
rpc_role auth_role(auth_state *a, const tokens *t);

/* Whether the method may be called. SEM_UNAUTHENTICATED, or SEM_PERMISSION_DENIED with
 * the role needed and the role had. Always where no token is needed. */
sem_status auth_check(auth_state *a, const tokens *t, rpc_method method, sem_error *err);

/* The same of a whole frame, of which only the method is read. One that request_parse refuses
 * passes. *msgid and *notification are set where it does not. */
sem_status auth_check_frame(auth_state *a, const tokens *t, const buffer *frame, uint32_t *msgid, bool *notification,
                            sem_error *err);

/* Takes a token. SEM_UNAUTHENTICATED: a wrong one, which is counted; what was before holds on.
 * SEM_FAILED_PRECONDITION: none is needed. */
sem_status auth_take(auth_state *a, const tokens *t, const span *token, sem_error *err);
/* What auth_take said of the last wrong token, for an answer that goes out later. */
sem_status auth_refusal(const auth_state *a, sem_error *err);

/* The answer to an auth: the role, or the error where there is one (else NULL). */
void auth_reply(packer *p, uint32_t msgid, rpc_role role, const sem_error *failed);

#endif
