/* The tokens by which clients say what they may do: a file with one "role token" a
 * line. Immutable once read. */
#ifndef SEM_DAEMON_TOKENS_H
#define SEM_DAEMON_TOKENS_H

#include "base/status.h"
#include "proto/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOKEN_MIN = 16,   /* bytes: 96 bits of base64, which nobody guesses */
    TOKEN_MAX = 256,  /* bytes */
    TOKENS_MAX = 1000 /* each auth compares with all of them */
};

typedef struct tokens tokens;

/* Reads the file: words read, click, write or admin, a blank, a token of TOKEN_MIN to
 * TOKEN_MAX visible ASCII characters; empty lines and lines with # first go by. path "": nobody needs
 * a token. before (or NULL) is what is replaced, and only read: a token that was in it keeps its
 * number, and no other gets that number. Errors name the file and the line and never
 * quote from it: a token may stand where a role should. A file that others than its
 * owner and group may read or change is refused. */
sem_status tokens_read(tokens **out, const char *path, const tokens *before, sem_error *err);
void tokens_destroy(tokens *t); /* accepts NULL; wipes the memory */

/* Whether a client needs one; NULL: no. */
bool tokens_needed(const tokens *t);
/* Differs between two sets of which one came of the other, and is never 0 but for NULL. */
uint64_t tokens_version(const tokens *t);

/* The role of a token, ROLE_NONE for an unknown one. *number, from 1, names it. Takes
 * the same time whichever token it is, and whether or not it is one. */
rpc_role tokens_find(const tokens *t, const void *token, size_t size, uint64_t *number);
/* The role that the token of this number has now; ROLE_NONE: it is gone. */
rpc_role tokens_role(const tokens *t, uint64_t number);

#endif
