#include "daemon/auth.h"

rpc_role auth_role(auth_state *a, const tokens *t)
{
    const uint64_t version = tokens_version(t);
    if (a->version != version) {
        a->role = a->token != 0 ? tokens_role(t, a->token) : ROLE_NONE;
        a->version = version;
    }
    return a->role;
}

sem_status auth_check(auth_state *a, const tokens *t, rpc_method method, sem_error *err)
{
    const rpc_role needed = rpc_method_role(method);
    if (needed == ROLE_NONE || !tokens_needed(t))
        return SEM_OK;
    const rpc_role had = auth_role(a, t);
    if (had >= needed)
        return SEM_OK;
    if (had == ROLE_NONE)
        return sem_fail(err, SEM_UNAUTHENTICATED, "%s needs role %s: %s", rpc_method_name(method),
                        rpc_role_name(needed),
                        a->token == 0 ? "call auth with a token before it"
                                      : "this connection's token was withdrawn, call auth with another one");
    return sem_fail(err, SEM_PERMISSION_DENIED, "%s needs role %s, this connection's token has role %s",
                    rpc_method_name(method), rpc_role_name(needed), rpc_role_name(had));
}

sem_status auth_check_frame(auth_state *a, const tokens *t, const buffer *frame, uint32_t *msgid, bool *notification,
                            sem_error *err)
{
    rpc_method method;
    if (!tokens_needed(t) || !request_find_method(frame, &method, msgid, notification))
        return SEM_OK;
    return auth_check(a, t, method, err);
}

sem_status auth_refusal(const auth_state *a, sem_error *err)
{
    return sem_fail(err, SEM_UNAUTHENTICATED,
                    "token: none of this server's (wrong token %u of %d, after which the "
                    "connection is closed)",
                    a->failures, AUTH_FAILURES_MAX);
}

sem_status auth_take(auth_state *a, const tokens *t, const span *token, sem_error *err)
{
    if (!tokens_needed(t))
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "no tokens are configured (auth.tokens): every method may be called without");
    uint64_t number;
    const rpc_role role = tokens_find(t, token->data, token->size, &number);
    if (role == ROLE_NONE) {
        a->failures++;
        return auth_refusal(a, err);
    }
    a->token = number;
    a->role = role;
    a->version = tokens_version(t);
    return SEM_OK;
}

void auth_reply(packer *p, uint32_t msgid, rpc_role role, const sem_error *failed)
{
    if (failed != NULL) {
        reply_error(p, msgid, failed);
        return;
    }
    reply_begin(p, msgid);
    pack_map(p, 1);
    pack_str(p, "role");
    pack_str(p, rpc_role_name(role));
}
